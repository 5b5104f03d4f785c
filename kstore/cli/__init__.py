"""The command line: argument text -> one operation -> rendered result.

The only layer that reads arguments, the environment and the terminal.  Results go to standard
output, everything else (progress, warnings, errors) to standard error.
"""
