"""Formats of files that hold images or layers."""
