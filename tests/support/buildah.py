"""Buildah with a storage of its own, as root and as a user without subordinate IDs.

::

    with Buildah(tmp_path / "buildah") as buildah:
        buildah.run("pull", f"oci:{layout}:v1")
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kstore.streams import Closing
from tests.support.programs import require_program

__all__ = ["Buildah"]


class Buildah(Closing):
    """A buildah with its storage in the new folder ``directory``; nothing else of it stays."""

    def __init__(self, directory: Path) -> None:
        program = require_program("buildah")
        directory.mkdir(mode=0o700)
        self._directory = directory
        self._runtime = Path(tempfile.mkdtemp(prefix="ks-"))
        self.command = [program, "--root", str(directory), "--runroot", str(self._runtime)]
        if os.geteuid() == 0:
            # Its mounts end with a mount namespace of its own.
            self.command[:0] = [require_program("unshare"), "--mount"]
            self.command += ["--storage-driver", "overlay"]
        else:
            # With one user ID at hand the owners of files cannot be kept.
            self.command += ["--storage-driver", "vfs"]
            self.command += ["--storage-opt", "vfs.ignore_chown_errors=true"]

    def run(self, *arguments: str) -> str:
        """Runs ``buildah ARGUMENTS``; its standard output."""
        run = subprocess.run(
            [*self.command, *arguments],
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert run.returncode == 0, f"buildah {' '.join(arguments)}: {run.stderr[-2000:]}"
        return run.stdout

    def environment(self) -> Mapping[str, str]:
        """What a buildah that is run by hand needs as its environment."""
        own = {"XDG_RUNTIME_DIR": str(self._runtime), "TMPDIR": str(self._runtime)}
        return {**os.environ, **own}

    def close(self) -> None:
        """Removes the storage."""
        for place in (self._directory, self._runtime):
            shutil.rmtree(place, ignore_errors=True)
