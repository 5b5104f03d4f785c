"""Disks that are full, or changed otherwise, for this process or for one that is started.

::

    with files_no_larger_than(1 << 20), pytest.raises(StorageError):
        write_two_mebibytes()
    prefix = mounted("-t", "tmpfs", "-osize=6m", "disk", str(tmp_path))
    subprocess.run([*prefix, "df", str(tmp_path)])
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator

import pytest

__all__ = ["files_no_larger_than", "mounted"]

_NAMESPACE = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Writing a file beyond ``size`` bytes fails in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mounted(*mount: str) -> list[str]:
    """A prefix that runs a command after ``mount ...`` (5 words) in a namespace of its own."""
    script = 'mount "$1" "$2" "$3" "$4" "$5" && shift 5 && exec "$@"'
    prefix = [*_NAMESPACE, "sh", "-c", script, "sh", *mount]
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("unshare is not installed")
    probe = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=10)
    if probe.returncode != 0:
        pytest.skip(f"no mount namespace: {probe.stderr.decode().strip()}")
    return prefix
