"""Small Python programs run as processes of their own, against the code under test.

::

    with started(CODE, str(root)) as process:     # killed at the end, whatever happens
        assert read_line(process) == "ready"
        process.kill()
    assert finished(CODE, str(root)) == "done"    # its output; its failure fails the test
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]
_LIMIT = 30.0  # seconds


def environment() -> dict[str, str]:
    """The environment in which a program finds kstore and the tests."""
    return {**os.environ, "PYTHONPATH": str(_PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}


def command(code: str, *arguments: str) -> list[str]:
    """The command line that runs ``code``."""
    return [sys.executable, "-c", textwrap.dedent(code), *arguments]


@contextlib.contextmanager
def started(
    code: str, *arguments: str, prefix: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A running program; ``prefix`` is a command that runs it (strace, unshare)."""
    process = subprocess.Popen(
        [*prefix, *command(code, *arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_line(process: subprocess.Popen[str], seconds: float = _LIMIT) -> str:
    """The next line a program prints; fails the test when none comes in time."""
    assert process.stdout is not None
    line, last = b"", time.monotonic() + seconds
    # Bytes one by one: in a buffer, the line after this one would be hidden from the next select.
    while not line.endswith(b"\n"):
        left = max(last - time.monotonic(), 0)
        ready, _, _ = select.select([process.stdout], [], [], left)
        assert ready, "the program said nothing in time"
        if not (byte := os.read(process.stdout.fileno(), 1)):
            break
        line += byte
    if not line.strip() and process.stderr is not None:
        raise AssertionError(f"the program ended: {process.stderr.read()}")
    return line.decode().strip()


def finished(
    code: str, *arguments: str, prefix: Sequence[str] = (), seconds: float = _LIMIT
) -> str:
    """What a program prints, once it has ended well."""
    done = subprocess.run(
        [*prefix, *command(code, *arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
