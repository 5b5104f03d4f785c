"""The installed program, and ``python -m kstore``: how the process begins and ends."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from typing import NoReturn

__all__ = ["program"]

#: Objects between two collections of cycles.  Importing and reading a long configuration make tens
#: of thousands and no garbage; looking through them once takes a tenth of a short command's time.
_COLLECT_AFTER = 100_000


def program() -> NoReturn:
    """Run the command line of this process to its end.

    Everything that matters is closed and flushed when ``main`` returns; taking the interpreter
    apart in good order after that would only cost the user time.
    """
    gc.set_threshold(_COLLECT_AFTER)
    from kstore.cli.main import main

    code = main()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    program()
