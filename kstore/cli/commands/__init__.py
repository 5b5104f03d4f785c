"""One module a command: parse, one operation, render.  Found by the table in ``cli/main.py``."""
