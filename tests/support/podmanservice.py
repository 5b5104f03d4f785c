"""The Docker API, as podman's service speaks it.

::

    with Podman(tmp_path / "podman") as podman, podman_service(podman) as host:
        DockerDaemonSettings(host=host)       # "unix:///..."
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.podman import Podman

_DEADLINE = 60.0  # seconds until the service listens


@contextlib.contextmanager
def podman_service(podman: Podman) -> Iterator[str]:
    """Runs the service of ``podman``; yields where it listens."""
    place = Path(tempfile.mkdtemp(prefix="ks-"))  # names of sockets are short
    path = place / "api.sock"
    host = f"unix://{path}"
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [*podman.command, "system", "service", "--time", "0", host],
            env=podman.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    try:
        _wait(process, path, place / "log")
        yield host
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(place, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
    until = time.monotonic() + _DEADLINE
    while True:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
                return
            except OSError:
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < until, f"no service after {_DEADLINE:g} s"
        time.sleep(0.02)
