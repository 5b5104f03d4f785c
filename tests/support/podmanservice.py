"""The Docker API, as podman's service speaks it.

::

    with Podman(tmp_path / "podman") as podman, podman_service(podman) as host:
        DockerDaemonSettings(host=host)       # "unix:///..."
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.listening import has_begun_to_listen
from tests.support.podman import Podman


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
        assert has_begun_to_listen(process, path), (place / "log").read_text()[-2000:]
        yield host
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(place, ignore_errors=True)
