"""An OCI image layout in a directory: read by anybody, changed under locks.

===== ======= ==== ================================================================================
class what    mode held by
===== ======= ==== ================================================================================
0     session S    who writes an image, until its entry is in index.json (or the attempt failed)
0     session X    who removes blobs
6     layout  X    who rewrites index.json
===== ======= ==== ================================================================================

The locks are those of :mod:`kstore.store.locks`, in the file ``oci-layout``: every layout has it,
and nobody replaces it.  Readers take none; they see the old index.json or the new one.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from kstore.blobs import BLOB_MODE, BlobDirectory, fsync_directory, replace_file, storage_errors
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    ConflictError,
    IntegrityError,
    InvalidInputError,
    ManifestNotFoundError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from kstore.formats.layout_attached import falling_with
from kstore.formats.oci_layout import (
    INDEX_FILE,
    LAYOUT_FILE,
    LAYOUT_MARK,
    MAX_LAYOUT_MARK,
    LayoutIndex,
    Selector,
    check_layout_mark,
    reachable,
)
from kstore.interfaces import BlobFeed, BlobSource
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.store.locks import HeldLock, LockClass, LockFile
from kstore.streams import Cancel, read_limited
from kstore.transports.base import FileBlob, read_small_file, write_feed
from kstore.transports.layout_draft import sweep_drafts
from kstore.values import dataclass

__all__ = ["LayoutDirectory", "LayoutFiles", "Share", "SoundFile"]

_WAIT_SECONDS = 60.0
_TRIES = 20
_CATALOG = Path("db") / "kstore.db"
#: Unfinished blobs stand in ``blobs`` under such names, unfinished indexes beside index.json.
_LEFTOVER = re.compile(r"\.[0-9a-f]{16}\Z")


@dataclass(frozen=True, slots=True)
class Share:
    """One writer's share in a layout: its lock, and what it found missing.

    ``made``: the directory; ``marked``: the file that makes it a layout.
    """

    held: HeldLock
    made: bool
    marked: bool


class LayoutFiles(Protocol):
    """The files of a layout, in a directory or in an archive; ``where`` names it in messages."""

    where: str

    def read_index(self) -> LayoutIndex:
        """index.json; ManifestNotFoundError if there is none, UnsupportedError for a layout of
        another version."""
        ...

    def open_blob(self, digest: Digest, offset: int = 0) -> BlobSource:
        """A blob from ``offset`` on; BlobNotFoundError names it and the layout."""
        ...

    def read_small_blob(self, digest: Digest) -> bytes | None:
        """A blob that may be a manifest; None if it is missing or too large for one."""
        try:
            with contextlib.closing(self.open_blob(digest)) as blob:
                return read_limited(blob, MAX_MANIFEST_SIZE, f"blob {digest}")
        except (BlobNotFoundError, IntegrityError):
            return None


#: A file whose bytes were read: digest, device, inode, time of change (ns), size (bytes).
SoundFile = tuple[Digest, int, int, int, int]

#: Who goes through the images of a layout asks for the same index again with each.
_parsed = functools.lru_cache(maxsize=2)(LayoutIndex.parse)


class LayoutDirectory(LayoutFiles):
    """The layout in the directory ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.where = f"OCI layout {path}"
        self.blobs = BlobDirectory(path)
        self.locks = LockFile(path / LAYOUT_FILE)

    def read_index(self) -> LayoutIndex:
        index = self.find_index()
        if index is None:
            there = "it has no index.json" if self.path.is_dir() else "there is no such directory"
            raise ManifestNotFoundError(f"{self.path} is not an OCI layout: {there}")
        return index

    def find_index(self) -> LayoutIndex | None:
        """index.json, None if there is none; UnsupportedError for a layout of another version."""
        what = f"{INDEX_FILE} of {self.where}"
        data = read_small_file(self.path / INDEX_FILE, MAX_MANIFEST_SIZE, what)
        if data is None:
            return None
        what = f"{LAYOUT_FILE} of {self.where}"
        mark = read_small_file(self.path / LAYOUT_FILE, MAX_LAYOUT_MARK, what)
        check_layout_mark(mark, self.where)
        return _parsed(data, self.where)

    def exists(self) -> bool:
        """Whether it is a layout already, perhaps one without images."""
        with storage_errors(f"look at {self.path}"):
            return (self.path / LAYOUT_FILE).exists()

    def open_blob(self, digest: Digest, offset: int = 0) -> FileBlob:
        return FileBlob(self.blobs.open(digest), offset)

    def sound(self, there: Iterable[Digest], known: set[SoundFile], cancel: Cancel) -> set[Digest]:
        """Those blobs whose bytes hash to their names; their files are read, but for those that are
        ``known``, to which they are added then."""
        from kstore.store.examine import Reading, examine

        files = {digest: self.blobs.stat(digest) for digest in there}
        found = {
            digest
            for digest, facts in files.items()
            if facts is not None and _sound_file(digest, facts) in known
        }
        readings = [Reading(digest) for digest in files if digest not in found]
        for one in examine(self.blobs, readings, progress=lambda size: None, cancel=cancel):
            if one.facts is not None:
                known.add(_sound_file(one.digest, one.facts))
                found.add(one.digest)
        return found

    def require_writable(self) -> None:
        """Refuse what must not, or cannot, become a layout with one more image.

        Raises UnsupportedError for the root of a kstore store, ConflictError for a directory of
        other files, InvalidInputError, NotFoundError, StorageError.
        """
        with storage_errors(f"look at {self.path}"):
            self._require_place()
        if self.find_index() is None and not self._is_blank():
            raise ConflictError(
                f"{self.path} holds other files and is not an OCI layout",
                hint="choose a new or an empty directory",
            )

    def _require_place(self) -> None:
        if (self.path / _CATALOG).exists():
            raise UnsupportedError(
                f"{self.path} is the root of a kstore store, whose index.json is derived from its"
                " catalog",
                hint=f"kstore --root {self.path} copy SOURCE kstore:NAME",
            )
        place = self.path if self.path.exists() else self.path.parent
        if not place.is_dir():
            if place == self.path:
                raise InvalidInputError(f"cannot write an OCI layout to {place}: it is a file")
            raise NotFoundError(f"cannot make {self.path}: there is no directory {place}")
        if not os.access(place, os.W_OK | os.X_OK):
            raise StorageError(f"cannot write {self.where}: no permission to change {place}")

    def _is_blank(self) -> bool:
        """Whether nothing stands there, or a layout somebody has begun to write."""
        with storage_errors(f"look at {self.path}"):
            try:
                names = {entry.name for entry in self.path.iterdir()}
            except FileNotFoundError:
                return True
        return not names or LAYOUT_FILE in names

    def delete(self, selector: Selector, cancel: Cancel) -> None:
        """Remove an entry, what is attached to it, and the blobs nothing leads to any more.

        Raises ManifestNotFoundError, AmbiguousNameError, StorageError if others are writing.
        """
        self.require_writable()
        index = self.read_index()
        index.find(selector)  # before a lock file is made or waited for
        with self._lock(LockClass.STORE, cancel), self._lock(LockClass.LAYOUT, cancel):
            index = self.read_index()
            position = index.find(selector)
            gone = falling_with(index, position, self.read_small_blob)
            rest = index.without(*gone)
            removed = [index.entries[n] for n in gone]
            unused = self._reachable(removed) - self._reachable(rest.entries)
            with storage_errors(f"write {INDEX_FILE} of {self.where}"):
                replace_file(self.path / INDEX_FILE, rest.render())
            self._drop(unused)

    def drop_unused(self, candidates: Iterable[Digest]) -> None:
        """Remove those of ``candidates`` that index.json does not lead to.

        The caller holds the session lock exclusively.
        """
        index = self.find_index()
        self._drop(set(candidates) - self._reachable(index.entries if index else ()))

    def _drop(self, blobs: Iterable[Digest]) -> None:
        for digest in blobs:
            self.blobs.delete(digest)
        self._drop_leftovers()

    def _reachable(self, entries: Iterable[Descriptor]) -> set[Digest]:
        return reachable(entries, self.read_small_blob, self.where)

    def _drop_leftovers(self) -> None:
        """Remove files of writers that died; the caller holds the session lock exclusively."""
        with storage_errors(f"tidy up {self.where}"):
            for path in self._leftovers():
                path.unlink(missing_ok=True)

    def _leftovers(self) -> list[Path]:
        blobs = (self.path / "blobs").glob(".*")
        unfinished = [path for path in blobs if _LEFTOVER.match(path.name)]
        return [*self.path.glob(f".{INDEX_FILE}.*"), *unfinished]

    def _lock(self, kind: LockClass, cancel: Cancel, *, shared: bool = False) -> HeldLock:
        return self.locks.lock(
            kind, shared=shared, wait_seconds=_WAIT_SECONDS, what=self.where, cancel=cancel
        )

    def join(self, cancel: Cancel) -> Share:
        """Become one of the writers, making the directory if it is missing.

        While the lock is held no blob is removed.
        """
        made = False
        for _ in range(_TRIES):
            with storage_errors(f"make {self.where}"), contextlib.suppress(FileExistsError):
                self.path.mkdir()
                made = True
                sweep_drafts(self.path)
            try:
                self._tidy_up_if_alone()
                held = self._lock(LockClass.STORE, cancel, shared=True)
            except StorageError as exc:
                if isinstance(exc.__cause__, FileNotFoundError):
                    continue  # its maker failed, and has just removed it
                raise
            try:
                marked = self._mark()
            except BaseException:
                held.release()
                raise
            return Share(held, made, marked)
        raise StorageError(f"{self.where} is removed again and again by another writer")

    def _tidy_up_if_alone(self) -> None:
        if self._leftovers():
            alone = self.locks.try_lock(LockClass.STORE)
            if alone is not None:
                with alone:
                    self._drop_leftovers()

    def _mark(self) -> bool:
        """Fill the file ``oci-layout`` if taking the lock has made it; whether that was so.

        Written in place: it carries the locks, and all who do this write the same bytes.
        """
        path = self.path / LAYOUT_FILE
        with storage_errors(f"write {LAYOUT_FILE} of {self.where}"), path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size > 0:
                return False
            file.write(LAYOUT_MARK)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        return True

    def write_blob(self, feed: BlobFeed, digest: Digest) -> None:
        """Write a blob that becomes visible when it is verified; :meth:`sync` makes it durable."""
        what = f"blob {digest} of {self.where}"
        with storage_errors(f"write {what}"):
            self.blobs.temporary.mkdir(exist_ok=True)
            temporary = self.blobs.temporary / f".{secrets.token_hex(8)}"
            write_feed(feed, temporary, what, mode=BLOB_MODE)
            try:
                self.blobs.adopt(temporary, digest)
            finally:
                temporary.unlink(missing_ok=True)

    def sync(self, share: Share) -> None:
        """Make the names of all blobs durable, and that of the directory if it is new."""
        with storage_errors(f"make {self.where} durable"):
            for directory in (self.path / "blobs").iterdir():
                if directory.is_dir():
                    fsync_directory(directory)
            fsync_directory(self.path / "blobs")
            if share.made:
                fsync_directory(self.path.parent)

    def publish(self, raw: RawManifest, ref: str | None, cancel: Cancel) -> None:
        """Enter an image whose blobs are durable into index.json."""
        with self._lock(LockClass.LAYOUT, cancel):
            index = self.find_index()
            changed = (index or LayoutIndex.new(self.where)).with_image(raw, ref)
            if index is None or changed.document != index.document:
                with storage_errors(f"write {INDEX_FILE} of {self.where}"):
                    replace_file(self.path / INDEX_FILE, changed.render())

    def remove_if_bare(self, share: Share) -> None:
        """Take away again what :meth:`join` made, if nothing was finished in it."""
        if not share.marked or (self.path / INDEX_FILE).exists():
            return
        blobs = self.path / "blobs"
        with contextlib.suppress(OSError):  # not empty: somebody else's files stay
            for directory in [*blobs.glob("*"), blobs]:
                if directory.exists():
                    directory.rmdir()
            (self.path / LAYOUT_FILE).unlink()
            if share.made:
                self.path.rmdir()


def _sound_file(digest: Digest, facts: os.stat_result) -> SoundFile:
    return digest, facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size
