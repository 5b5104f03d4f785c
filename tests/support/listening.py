"""Waiting for a service that was started, until it listens."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

__all__ = ["has_begun_to_listen"]

_DEADLINE = 60.0  # seconds


def has_begun_to_listen(process: subprocess.Popen[bytes], path: Path) -> bool:
    """Wait for ``process`` to listen on the socket ``path``; False if it ended instead."""
    until = time.monotonic() + _DEADLINE
    while process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                assert time.monotonic() < until, f"nothing listens on {path} after {_DEADLINE:g} s"
            else:
                return True
        time.sleep(0.02)
    return False
