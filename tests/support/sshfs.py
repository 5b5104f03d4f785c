"""A real network file system, on this machine alone.

::

    with over_sftp(directory, mount):       # what sshfs makes of another machine's directory
        (mount / "file").write_text("x")
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import require_program

__all__ = ["over_sftp"]

_SERVER = Path("/usr/lib/openssh/sftp-server")


@contextlib.contextmanager
def over_sftp(directory: Path, mount: Path) -> Iterator[Path]:
    """``directory`` at the new directory ``mount``, through a server of the SFTP protocol.

    A skip where FUSE is not to be had.
    """
    sshfs, leave = require_program("sshfs"), require_program("fusermount3")
    if not _SERVER.exists():
        pytest.skip("openssh-sftp-server is not installed")
    ssh = mount.with_name(f"{mount.name}-ssh")  # instead of the program that goes to a machine
    ssh.write_text(f"#!/bin/sh\nexec {_SERVER}\n")
    ssh.chmod(0o755)
    mount.mkdir()
    done = subprocess.run(
        [sshfs, "-o", f"ssh_command={ssh}", f"machine:{directory}", str(mount)],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=30,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no FUSE: {done.stderr.decode(errors='replace').strip()}")
    try:
        yield mount
    finally:
        subprocess.run([leave, "-u", "-z", str(mount)], check=True, timeout=30)
