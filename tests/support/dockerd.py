"""Docker's own daemon, with a storage of its own and no network.

::

    with dockerd(tmp_path / "docker") as host:    # root only; skips the test where it cannot start
        DockerDaemonSettings(host=host)           # "unix:///..."

It is a service of the machine, so ``contrib/test.sh`` does not install it: as root it unpacks
Debian's docker.io where its daemon is found.  That one starts is not demanded of every machine.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.listening import has_begun_to_listen

__all__ = ["dockerd"]


@contextlib.contextmanager
def dockerd(directory: Path) -> Iterator[str]:
    """Runs the daemon with its files in the new folder ``directory``; yields where it listens."""
    program, unshare = shutil.which("dockerd"), shutil.which("unshare")
    if program is None or unshare is None:
        pytest.skip("dockerd is not installed (Debian's docker.io has it)")
    directory.mkdir(mode=0o700)
    place = Path(tempfile.mkdtemp(prefix="ks-"))  # names of sockets are short
    path, log = place / "docker.sock", directory / "log"
    command = [unshare, "--mount", program, "--host", f"unix://{path}"]
    command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"]
    command += [f"--data-root={directory / 'data'}", f"--exec-root={place / 'exec'}"]
    command += [f"--pidfile={place / 'pid'}"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        if not has_begun_to_listen(process, path):
            said = log.read_text().strip().splitlines() or ["nothing"]
            pytest.skip(f"dockerd cannot start here: {said[-1][:300]}")
        yield f"unix://{path}"
    finally:
        process.terminate()
        process.wait(timeout=30)
        for folder in (place, directory):
            shutil.rmtree(folder, ignore_errors=True)
