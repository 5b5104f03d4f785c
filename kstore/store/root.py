"""The root directory: what stands where, and whether it may be used.

::

    ROOT/                     0700, owned by the user; also a valid OCI image layout
      oci-layout index.json   index.json is derived from the database
      provenance              what else a rebuild of the database needs to know; derived, too
      blobs/<alg>/<hex>       0444, immutable
      ingest/                 partial downloads <alg>-<hex>.part + .json, and private files
      staging/ trash/         files of an operation in progress; files to be deleted
      quarantine/             damaged blobs that a repair moved aside
      containers/             <id>/ of every working container
      db/                     kstore.db and its -wal and -shm, backup-0.db, backup-1.db, spare-N
      locks                   byte-range locks only
      ballast, db/spare-N     space and inodes that removals may use when the disk is full

Files of one operation in ``ingest/`` and ``staging/`` are called ``<lease>-<random>``: when the
lease's owner is gone, they are garbage.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from kstore.blobs import fsync_directory, replace_file, storage_errors
from kstore.errors import (
    REPAIR,
    ConflictError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StoreDamagedError,
)
from kstore.store.filesystem import CHOOSE_ANOTHER, is_on_network, nearest_directory
from kstore.values import dataclass

__all__ = [
    "BALLAST_SIZE",
    "DRAFT",
    "SALVAGE",
    "Root",
    "complete_root",
    "no_store",
    "open_root",
    "remove_drafts",
    "strange_names",
]

#: Bytes kept in reserve, enough for SQLite to work on a disk that is full otherwise.
BALLAST_SIZE = 1 << 20
_BALLAST_STEP = 64 << 10
#: Empty files kept in reserve: the inodes SQLite and a new index.json need.
_SPARE_FILES = 4

#: Names in ``db/`` of what a rebuild makes, and of the copy it reads.
DRAFT, SALVAGE = "rebuild.db", "salvage.db"

_OCI_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_EMPTY_INDEX = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
)
_DIRECTORIES = (
    *("blobs", "blobs/sha256", "ingest", "staging", "trash", "quarantine", "containers", "db"),
)
_FILES = ("oci-layout", "index.json", "locks", "ballast")
#: There as soon as there is something to be told.
_MORE_FILES = ("provenance",)
#: A fresh file system has the first; another process that makes this store, the others.
_PASSING = ("lost+found", ".oci-layout.", ".index.json.", ".provenance.")


@dataclass(frozen=True, slots=True)
class Root:
    """A usable root directory.

    ``read_only``: nothing in it can be changed; ``network``: it is on a network file system, where
    processes cannot share memory.
    """

    path: Path
    read_only: bool
    network: bool = False

    @property
    def database(self) -> Path:
        return self.path / "db" / "kstore.db"

    @property
    def ingest(self) -> Path:
        return self.path / "ingest"

    @property
    def staging(self) -> Path:
        return self.path / "staging"

    @property
    def trash(self) -> Path:
        return self.path / "trash"

    @property
    def quarantine(self) -> Path:
        return self.path / "quarantine"

    @property
    def containers(self) -> Path:
        return self.path / "containers"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def index(self) -> Path:
        return self.path / "index.json"

    @property
    def provenance(self) -> Path:
        """Where blobs came from, and signatures; see :mod:`kstore.store.provenance`."""
        return self.path / "provenance"

    @property
    def ballast(self) -> Path:
        return self.path / "ballast"

    @property
    def damaged_database(self) -> Path:
        """The database that a rebuilt one has replaced."""
        return self.path / "db" / "damaged.db"

    @property
    def draft(self) -> Path:
        """The database that a rebuild is making."""
        return self.path / "db" / DRAFT

    def backup(self, number: int) -> Path:
        return self.path / "db" / f"backup-{number}.db"

    def private_file(self, lease_id: int) -> Path:
        """A new name in ``ingest/`` that belongs to one lease."""
        return self.ingest / f"{lease_id:014x}-{os.urandom(8).hex()}"

    def free_bytes(self) -> int:
        """Space left for this user, in bytes."""
        facts = self._file_system()
        return facts.f_bavail * facts.f_frsize

    def room(self) -> tuple[int | None, int | None]:
        """Bytes and files that this user can still store; None where the file system counts no
        such thing."""
        facts = self._file_system()
        return (
            facts.f_bavail * facts.f_frsize if facts.f_blocks else None,
            facts.f_favail if facts.f_files else None,
        )

    def _file_system(self) -> os.statvfs_result:
        with storage_errors(f"measure free space of {self.path}"):
            return os.statvfs(nearest_directory(self.path))

    @property
    def _spares(self) -> list[Path]:
        return [self.path / "db" / f"spare-{number}" for number in range(_SPARE_FILES)]

    def allocate_ballast(self) -> None:
        """Reserve again what was used: as much as there is, where the disk is still full."""
        with contextlib.suppress(OSError):
            for spare in self._spares:
                spare.touch(mode=0o600)
        for size in range(BALLAST_SIZE, 0, -_BALLAST_STEP):
            with contextlib.suppress(OSError), open(self.ballast, "ab") as file:  # noqa: PTH123
                if os.fstat(file.fileno()).st_blocks * 512 < size:
                    os.posix_fallocate(file.fileno(), 0, size)
                return

    def release_ballast(self) -> bool:
        """Give the reserved space and inodes back; return whether there were any."""
        released = False
        with storage_errors("release the space kept in reserve"):
            for spare in self._spares:
                with contextlib.suppress(FileNotFoundError):
                    spare.unlink()
                    released = True
            with contextlib.suppress(FileNotFoundError):
                if self.ballast.stat().st_blocks:
                    os.truncate(self.ballast, 0)
                    released = True
        return released


def open_root(
    path: Path,
    *,
    create: bool,
    missing_ok: bool = False,
    lost_ok: bool = False,
    network_ok: bool = False,
    warn: Callable[[str], None] | None,
) -> Root:
    """Check the directory, make what is missing, and say whether it can be written to.

    Raises StorageError (foreign owner, network file system, not a directory), NotFoundError where
    there is no store and none is to be made, ConflictError for a directory that holds something
    else.  With ``missing_ok`` a store that is not there is one that cannot be written to; with
    ``lost_ok`` one whose database is gone is still a store; with ``network_ok`` a network file
    system is no more than a warning.
    """
    with storage_errors(f"use {path} as a store"):
        path = Path(os.path.abspath(path))  # noqa: PTH100 - links in the path stay as they are
        there = path.exists()
        if there:
            _check_owner(path)
        elif missing_ok:
            return Root(path, read_only=True)
        elif not create:
            raise no_store(path)
        network = is_on_network(path, network_ok, warn)
        if not there:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        root = Root(path, not os.access(path, os.W_OK | os.X_OK), network)
        if _check_content(root, lost_ok):
            _check_one_file_system(root)
        elif missing_ok:
            return Root(path, read_only=True)
        elif not create:
            raise no_store(path)
        elif root.read_only:
            raise StorageError(
                f"there is no store at {path}, and none can be made there", hint=CHOOSE_ANOTHER
            )
        if not root.read_only:
            complete_root(root)
        return root


def no_store(path: Path) -> NotFoundError:
    """What is said where a command needs a store that is not there."""
    return NotFoundError(f"there is no store at {path}", hint=CHOOSE_ANOTHER)


def _check_owner(path: Path) -> None:
    facts = path.stat()
    if not stat.S_ISDIR(facts.st_mode):
        raise StorageError(f"{path} is not a directory", hint=CHOOSE_ANOTHER)
    if facts.st_uid != os.geteuid():
        as_them = "run kstore as its user, without sudo, or " if os.geteuid() == 0 else ""
        raise StorageError(
            f"{path} belongs to {_user(facts.st_uid)}, and this is {_user(os.geteuid())}",
            hint=f"{as_them}{CHOOSE_ANOTHER}; --additional-store reads a store of somebody else",
        )


def _user(uid: int) -> str:
    import pwd

    try:
        return f"user {pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return f"user {uid}"


def _check_content(root: Root, lost_ok: bool) -> bool:
    """Whether there is a store already; ConflictError if there is something else."""
    if root.database.exists():
        return True
    names = {name for name in os.listdir(root.path) if not name.startswith(_PASSING)}  # noqa: PTH208
    ours = {name for name in (*_DIRECTORIES, *_FILES, *_MORE_FILES) if "/" not in name}
    if names - ours or (names and "locks" not in names):
        what = "an OCI image layout" if "oci-layout" in names else "not empty and not a store"
        raise ConflictError(
            f"{root.path} is {what}; kstore does not write into it", hint=CHOOSE_ANOTHER
        )
    blobs = root.path / "blobs" / "sha256"
    if blobs.is_dir() and any(blobs.iterdir()):
        if lost_ok:
            return True
        raise StoreDamagedError(
            f"the database of {root.path} is gone, but its blobs are there",
            hint=REPAIR,
        )
    return False


def remove_drafts(root: Root) -> None:
    """Remove what a rebuild that died has left; none is running where the store lock is held."""
    with storage_errors(f"tidy up {root.database.parent}"):
        for name in (DRAFT, SALVAGE):
            for suffix in ("", "-journal", "-wal", "-shm"):
                (root.database.parent / f"{name}{suffix}").unlink(missing_ok=True)


def strange_names(root: Root) -> list[Path]:
    """What stands in the root without being the store's, sorted."""
    known = {*_DIRECTORIES, *_FILES, *_MORE_FILES}
    return sorted(
        path
        for path in root.path.iterdir()
        if path.name not in known and not path.name.startswith(_PASSING)
    )


def _check_one_file_system(root: Root) -> None:
    """Renames and links between the directories must be atomic."""
    device = root.path.stat().st_dev
    for name in _DIRECTORIES:
        directory = root.path / name
        if directory.exists() and directory.stat().st_dev != device:
            raise StorageError(f"{directory} is on another file system than {root.path}")


def complete_root(root: Root) -> None:
    """Make what is missing; ``locks`` comes first and marks a store in the making as ours."""
    if all((root.path / name).exists() for name in (*_DIRECTORIES, *_FILES)):
        return
    if not root.locks.exists():
        os.close(os.open(root.locks, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    for name in _DIRECTORIES:
        (root.path / name).mkdir(mode=0o700, exist_ok=True)
    for name, content in (("oci-layout", _OCI_LAYOUT), ("index.json", _EMPTY_INDEX)):
        if not (root.path / name).exists():
            replace_file(root.path / name, content)
    root.allocate_ballast()
    fsync_directory(root.path / "blobs")
    fsync_directory(root.path)
    with contextlib.suppress(PermissionError):
        fsync_directory(root.path.parent)


def ensure_room(root: Root) -> None:
    """Use up the reserve; StorageFullError if there was none."""
    if not root.release_ballast():
        raise StorageFullError(f"no space left for {root.path}, not even for removing something")
