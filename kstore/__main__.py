"""``python -m kstore``."""

from __future__ import annotations

import sys

from kstore.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
