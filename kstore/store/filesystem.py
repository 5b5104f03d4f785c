"""The file systems that a store can stand on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from kstore.errors import StorageError

__all__ = ["CHOOSE_ANOTHER", "file_system_kind", "is_on_network", "nearest_directory"]

_NETWORK = frozenset(
    [
        "nfs",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "coda",
        "ceph",
        "fuse.ceph",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "gfs2",
        "ocfs2",
        "orangefs",
        "pvfs2",
    ]
)
_MOUNT_TABLE = Path("/proc/self/mountinfo")
#: The advice for a place that cannot be used.
CHOOSE_ANOTHER = "choose another directory with --root"


def nearest_directory(path: Path) -> Path:
    """The directory that is there and nearest to ``path``, above it if it has to be."""
    return next(place for place in (path, *path.parents) if place.exists())


def is_on_network(path: Path, allowed: bool, warn: Callable[[str], None] | None) -> bool:
    """Refuse network file systems, unless ``allowed``: their locks and shared memory do not hold
    what they promise."""
    kind = file_system_kind(nearest_directory(path))
    if kind in _NETWORK and not allowed:
        raise StorageError(
            f"{path} is on a network file system ({kind})",
            hint=f"{CHOOSE_ANOTHER}; a store there can be read with --additional-store, and with"
            " --unsafe-network-fs also written, by one machine at a time",
        )
    if warn is None or kind is None:
        return kind in _NETWORK
    if kind in _NETWORK:
        warn(
            f"{path} is on a network file system ({kind}); two machines that write to it at once"
            " can destroy it"
        )
    elif kind.startswith("fuse"):
        warn(f"{path} is on {kind}; whether files survive a crash depends on its driver")
    return kind in _NETWORK


def file_system_kind(path: Path, table: Path = _MOUNT_TABLE) -> str | None:
    """The type of the file system ``path`` is on, as the mount table spells it, else None."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return None  # no /proc: nothing to go by
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split(" ", 3)[2:3] == [wanted]:
            return rest.split(" ", 1)[0]
    return None
