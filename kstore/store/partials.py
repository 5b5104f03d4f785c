"""Partial downloads: their files, what is remembered beside them, and what becomes of old ones.

``ingest/<alg>-<hex>.part`` holds the bytes so far, ``.json`` beside it what is known about them:
how many were synced and in which boot of the machine, the validator to resume with, and who is
writing.  After a crash of the process all bytes in the part are good; after a crash of the machine
only the synced ones are.  Uploads that the server takes in (see ``uploads``) are kept likewise.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kstore.blobs import storage_errors
from kstore.descriptor import MAX_BLOB_SIZE
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    InUseError,
    InvalidDigestError,
    StorageFullError,
)
from kstore.store.locks import LockClass, digest_key
from kstore.store.session import Session
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.store.reports import PartialDownload

__all__ = [
    "Part",
    "PartialCollector",
    "Side",
    "abandoned",
    "boot_id",
    "drop_partial",
    "partial_downloads",
    "parts",
    "require_room",
]

_LEASE_HEX = 14
_SIDE_CAP = 16 * 1024
_SUFFIXES = (".part", ".json", ".new")


@functools.cache
def boot_id() -> str | None:
    """What tells one boot of this machine from another; None where that is unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or None
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Side:
    """What is remembered beside a partial download; ``upload`` is the repository of an upload."""

    size: int | None = None
    origin: str | None = None
    validator: str | None = None
    synced: int = 0
    boot: str | None = None
    pid: int | None = None
    upload: str | None = None

    def trusted(self, held: int) -> int:
        """How many of ``held`` bytes count: after a power cut the rest may be zeros."""
        return held if self.boot is not None and self.boot == boot_id() else min(held, self.synced)

    def continuing(self, old: Side) -> Side:
        """What this attempt knows, and what ``old`` says of the bytes that are kept.

        A validator means something only where it was given.
        """
        same = self.origin in (None, old.origin)
        validator = old.validator if same else None
        return replace(
            self, origin=self.origin or old.origin, validator=validator, synced=old.synced
        )


@dataclass(frozen=True, slots=True)
class Part:
    """The two files of a partial download."""

    path: Path

    @classmethod
    def of(cls, ingest: Path, digest: Digest) -> Part:
        return cls(ingest / f"{digest.algorithm}-{digest.hex}.part")

    @property
    def side_path(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def _new_side_path(self) -> Path:
        return self.path.with_suffix(".new")

    def read_side(self) -> Side:
        """What is remembered; anything unreadable counts as nothing."""
        try:
            with self.side_path.open("rb") as file:
                value = json.loads(file.read(_SIDE_CAP))
        except (OSError, ValueError):
            return Side()
        if not isinstance(value, dict):
            return Side()
        return Side(
            size=_count(value.get("size")),
            origin=_text(value.get("origin")),
            validator=_text(value.get("validator")),
            synced=_count(value.get("synced")) or 0,
            boot=_text(value.get("boot")),
            pid=_count(value.get("pid")),
            upload=_text(value.get("upload")),
        )

    def write_side(self, side: Side) -> None:
        """Remember ``side``.

        Not synced: a lost update only means that fewer bytes are trusted.  Raises OSError.
        """
        facts = {name: getattr(side, name) for name in Side.__slots__}
        text = json.dumps({name: fact for name, fact in facts.items() if fact is not None})
        self._new_side_path.write_text(text)
        self._new_side_path.replace(self.side_path)

    def size(self) -> int | None:
        """Bytes in the part, None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.lstat().st_size
        return None

    def age(self) -> float | None:
        """Seconds since it grew, by a clock that may have been set; None if there is none."""
        with contextlib.suppress(FileNotFoundError):
            return time.time() - self.path.lstat().st_mtime
        return None

    def remove(self) -> None:
        """Forget the download."""
        self._new_side_path.unlink(missing_ok=True)
        self.side_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class PartialCollector:
    """Collects partial downloads that nobody is writing, and files whose lease is dead."""

    def __init__(self, session: Session, grace: float, dry_run: bool) -> None:
        self.removed = self.bytes_freed = self.busy = 0
        self._session = session
        self._grace = grace
        self._dry_run = dry_run

    def collect(self) -> None:
        with storage_errors("collect partial downloads"):
            for digest, part in parts(self._session.root.ingest):
                self._collect_part(digest, part)
            for path in abandoned(self._session, self._session.root.ingest):
                self.bytes_freed += path.lstat().st_size
                self.removed += 1
                if not self._dry_run:
                    path.unlink(missing_ok=True)

    def _collect_part(self, digest: Digest, part: Part) -> None:
        lock = self._session.locks.try_lock(LockClass.INGEST, digest_key(digest))
        if lock is None:
            self.busy += 1
            return
        with lock:
            size, age = part.size(), part.age()
            if age is not None and 0 <= age < self._grace:
                return
            if not self._dry_run:
                part.remove()
            if size is not None:  # else somebody died between two of its files
                self.removed += 1
                self.bytes_freed += size


def parts(ingest: Path) -> Iterator[tuple[Digest, Part]]:
    """Every digest that has a file of a partial download, be it only one beside the part.

    Raises OSError.
    """
    if not ingest.is_dir():
        return  # a store that nobody has made yet
    stems = {path.stem for path in ingest.iterdir() if path.suffix in _SUFFIXES}
    for stem in sorted(stems):
        algorithm, _, digits = stem.partition("-")
        with contextlib.suppress(InvalidDigestError):
            digest = Digest(algorithm, digits)
            yield digest, Part.of(ingest, digest)


def partial_downloads(session: Session) -> list[PartialDownload]:
    """Downloads that were begun and not finished, running ones included."""
    from kstore.store.reports import PartialDownload

    found = []
    for digest, part in parts(session.root.ingest):
        size, age = part.size(), part.age()
        if size is not None and age is not None:
            side = part.read_side()
            origin = side.origin if side.upload is None else f"upload to {side.upload}"
            found.append(PartialDownload(digest, size, side.size, origin, max(age, 0.0)))
    return found


def drop_partial(session: Session, digest: Digest) -> int:
    """See :meth:`kstore.store.Store.drop_partial`."""
    session.require_writable()
    part = Part.of(session.root.ingest, digest)
    with storage_errors(f"drop the partial download of {digest}"):
        lock = session.locks.try_lock(LockClass.INGEST, digest_key(digest))
        if lock is None:
            pid = part.read_side().pid
            who = "another kstore" if pid is None else f"process {pid}"
            raise InUseError(
                f"the partial download of {digest} is being written by {who}",
                hint="stop that command first; what it has fetched is kept",
            )
        with lock:
            size = part.size()
            if size is None:
                raise BlobNotFoundError(f"there is no partial download of {digest}")
            part.remove()
    return size


def require_room(session: Session, blobs: Iterable[tuple[Digest, int | None]]) -> None:
    """See :meth:`kstore.store.Lease.require_room`.

    What partial downloads hold is there already.  Only a first look: others write, too.
    """
    missing = files = 0
    for digest, size in blobs:
        held = Part.of(session.root.ingest, digest).size() or 0
        missing += max((size or 0) - held, 0)
        files += 1
    if not missing:
        return
    free, free_files = session.root.room()
    if free is not None and missing > free:
        raise StorageFullError(
            f"there is not enough space for {session.root.path}: {missing / 1e6:.1f} MB are to be"
            f" stored, and {free / 1e6:.1f} MB are free",
            hint="free some space, then run: kstore prune",
        )
    if free_files is not None and files > free_files:
        raise StorageFullError(
            f"there is not enough space for {session.root.path}: {files} files are to be made, and"
            f" its file system has room for {free_files}",
            hint="free some space, then run: kstore prune",
        )


def abandoned(session: Session, directory: Path) -> Iterator[Path]:
    """What leases that are gone have left in a directory."""
    for path in sorted(directory.iterdir()):
        owner, dash, _ = path.name.partition("-")
        with contextlib.suppress(ValueError):
            owned = dash and len(owner) == _LEASE_HEX
            if owned and not session.locks.is_held(LockClass.LEASE, int(owner, 16)):
                yield path


def _count(value: Any) -> int | None:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_BLOB_SIZE
    return value if good else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
