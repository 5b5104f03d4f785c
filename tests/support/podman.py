"""Podman with a storage of its own, as root and as a user without subordinate IDs.

::

    with Podman(tmp_path / "podman") as podman:
        podman.run("pull", "--tls-verify=false", f"{host}/image:1")

``run`` returns standard output; a failing command is an AssertionError with what it printed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.support.programs import require_program


class Podman:
    """A podman with its storage in the new folder ``directory``; nothing else of it stays."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self._directory = directory
        # Podman takes no run-time folder whose name has more than 50 characters.
        self._runtime = Path(tempfile.mkdtemp(prefix="ks-"))
        #: What to put before a podman command to run it by hand.
        self.command = [
            require_program("podman"),
            *("--root", str(directory / "root"), "--runroot", str(self._runtime / "run")),
            *("--tmpdir", str(self._runtime / "tmp"), "--storage-driver", "overlay"),
        ]
        if os.geteuid() == 0:
            # Podman leaves a mount on its storage; in a mount namespace of its own it ends with it.
            self.command[:0] = [require_program("unshare"), "--mount"]
        else:
            # With one user ID at hand the owners of files cannot be kept.
            self.command += ["--storage-opt", "overlay.ignore_chown_errors=true"]

    def run(self, *arguments: str, timeout: float = 100) -> str:
        """Runs ``podman ARGUMENTS``; its standard output."""
        run = subprocess.run(
            [*self.command, *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert run.returncode == 0, f"podman {' '.join(arguments)}: {run.stderr[-2000:]}"
        return run.stdout

    def close(self) -> None:
        """Ends the process podman leaves behind without root, and removes the storage."""
        pause = self._runtime / "tmp" / "pause.pid"
        if pause.exists():
            process = int(pause.read_text())
            if Path(f"/proc/{process}/comm").exists():
                os.kill(process, signal.SIGKILL)
        for place in (self._directory, self._runtime):
            shutil.rmtree(place, ignore_errors=True)

    def __enter__(self) -> Podman:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def environment(self) -> Mapping[str, str]:
        """What a podman that is run by hand needs as its environment."""
        own = {"XDG_RUNTIME_DIR": str(self._runtime), "TMPDIR": str(self._directory)}
        return {**os.environ, **own}
