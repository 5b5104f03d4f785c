"""The files inside layers: directory trees that become layers, and what layers make of a tree."""
