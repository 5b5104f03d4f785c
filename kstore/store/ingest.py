"""Downloads in progress: resumable across process death, one at a time for each blob.

The order at the end is: sync the file, close it, make it read-only, take the object lock, rename it
into ``blobs/``.  The directory's sync and the row follow in ``Lease.commit_blobs``.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from kstore.blobs import BLOB_MODE, BlobDirectory, storage_errors
from kstore.digest import Digest, Hasher
from kstore.errors import SizeMismatchError
from kstore.store.lanes import take_lane, visible_name
from kstore.store.locks import HeldLock, LockClass, LockFile, digest_key
from kstore.store.partials import Part, Side, boot_id
from kstore.streams import CHUNK, ByteStream, Cancel, pump
from kstore.values import dataclass

__all__ = ["Ingest", "StagedBlob", "Workshop", "open_ingest", "stage_file", "write_hashed"]

#: Bytes after which a partial download is made durable, so that a power cut costs no more.
SYNC_BYTES = 64 << 20
#: Blobs up to this many bytes are not resumed: fetching them again costs less than taking notes.
SMALL_BYTES = 8 << 10

_OBJECT_WAIT_SECONDS = 0.5
_OPEN = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True, eq=False)
class StagedBlob:
    """A finished blob that waits for its row; made by :meth:`Ingest.stage`.

    ``lock`` is its object lock, held from the rename until the commit.  Where another process was
    committing the same blob, ``waiting`` is the finished file, still to be renamed.
    """

    digest: Digest
    size: int
    lock: HeldLock | None
    waiting: Path | None = None

    def release(self) -> None:
        """Give up the lock, and the file if it has no name as a blob yet."""
        if self.lock is not None:
            self.lock.release()
        if self.waiting is not None:
            self.waiting.unlink(missing_ok=True)
            self.waiting = None


@dataclass(frozen=True, slots=True)
class Workshop:
    """What an ingest works with; no SQL, so usable in any thread."""

    blobs: BlobDirectory
    locks: LockFile
    ingest: Path
    private_file: Callable[[], Path]
    staged: Callable[[StagedBlob], None]


class Ingest:
    """One blob on its way into the store; a context manager for one worker thread.

    Leaving without :meth:`stage` keeps what is held, so that the next attempt resumes there,
    unless :meth:`drop` was called.

    ``offset``: bytes held.  ``hasher``: has seen exactly these when the ingest is opened or
    restarted; whoever continues the blob goes on with it.  ``validator``: remembered with them.
    ``present``: somebody else has finished the blob meanwhile, so there is nothing to write; the
    thread that owns the lease adopts it.
    """

    def __init__(
        self,
        workshop: Workshop,
        digest: Digest,
        part: Part,
        lock: HeldLock | None,
        side: Side,
        *,
        resumable: bool,
    ) -> None:
        self.digest = digest
        self.offset = 0
        self.hasher: Hasher = Digest.new_hasher(digest.algorithm)
        self.present = False
        self._workshop = workshop
        self._part = part
        self._lock = lock  # None: whoever holds one seems stuck
        self._resumable = resumable  # else the part is a private file that nobody looks for
        self._side = side
        self._synced = 0
        self._file: int | None = None

    @property
    def validator(self) -> str | None:
        """What identifies the version of the bytes that are held, None where nothing does."""
        return self._side.validator

    def open(self, cancel: Cancel | None) -> None:
        """Open the part and hash what may be trusted of it."""
        with storage_errors(f"open the partial download of {self.digest}"):
            self._file = _open_part(self._part.path)
            old = self._part.read_side() if self._resumable else Side()
            held = old.trusted(os.fstat(self._file).st_size)
            if self._side.size is not None and held > self._side.size:
                held = 0
            os.ftruncate(self._file, held)
            self._side = self._side.continuing(old if held else Side())
            self._hash_held(held, cancel)
            self._synced = min(old.synced, held)
            self._note()
        if held == self._side.size and Digest.from_hasher(self._copy(), self.digest.algorithm) != (
            self.digest
        ):
            self.restart()

    def _copy(self) -> Hasher:
        return self.hasher.copy()  # type: ignore[attr-defined, no-any-return]  # hashlib has it

    def _hash_held(self, held: int, cancel: Cancel | None) -> None:
        buffer = memoryview(bytearray(min(CHUNK, held)))
        while self.offset < held:
            if cancel is not None:
                cancel.check()
            count = os.preadv(self._descriptor, [buffer[: held - self.offset]], self.offset)
            if count == 0:
                break
            self.hasher.update(buffer[:count])
            self.offset += count

    @property
    def _descriptor(self) -> int:
        if self._file is None:
            raise ValueError("this ingest is closed")
        return self._file

    def restart(self) -> None:
        """Drop the bytes held: the blob starts again at 0."""
        with storage_errors(f"restart the download of {self.digest}"):
            os.ftruncate(self._descriptor, 0)
            self.offset = self._synced = 0
            self.hasher = Digest.new_hasher(self.digest.algorithm)
            self._side = self._side.continuing(Side())
            self._note()

    def remember(self, validator: str | None) -> None:
        """Keep a validator beside the bytes, for the request that resumes them."""
        if validator != self._side.validator:
            self._side = replace(self._side, validator=validator)
            with storage_errors(f"note the origin of {self.digest}"):
                self._note()

    def write(self, view: memoryview | bytes) -> None:
        """Append bytes; StorageFullError when the disk is full."""
        rest, size = memoryview(view), self._side.size
        of = "" if size is None else f" of {size}"
        with storage_errors(f"write {self.digest} after {self.offset}{of} bytes"):
            while rest:
                count = os.pwrite(self._descriptor, rest, self.offset)
                self.offset += count
                rest = rest[count:]
            if self.offset - self._synced >= SYNC_BYTES:
                self._sync()

    def stage(self, digest: Digest, size: int) -> StagedBlob:
        """Finish: durable, immutable and under its name; the row follows in ``commit_blobs``.

        The caller has verified that the bytes hash to ``digest`` (which an upload learns last, so
        it need not be the one the ingest was opened under): they replace whatever file has that
        name, because that is how damage heals.  Raises SizeMismatchError when not exactly ``size``
        bytes are held.
        """
        if size != self.offset:
            raise SizeMismatchError(
                f"{digest} has {self.offset} bytes, where {size} were to be stored"
            )
        with storage_errors(f"finish {digest}"):
            self._finish_file()
            staged = stage_file(self._workshop, self._part.path, digest, size)
            if self._resumable:
                self._part.side_path.unlink(missing_ok=True)
        self._workshop.staged(staged)
        self._release()
        return staged

    def drop(self) -> None:
        """Give the download up and forget its bytes."""
        try:
            with storage_errors(f"drop the download of {self.digest}"):
                self._close_file()
                self._part.remove()
        finally:
            self._release()

    def close(self) -> None:
        """Stop here; the bytes held stay for the next attempt."""
        try:
            if self._file is not None:
                with storage_errors(f"keep the partial download of {self.digest}"):
                    if not self._resumable or self.offset == 0:
                        self._part.remove()
                    else:
                        self._sync()
        finally:
            self._close_file()
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if value is None:
            self.close()
            return
        # What stopped the download is the error to report, not that its rest could not be kept.
        with contextlib.suppress(Exception):
            self.close()

    def _finish_file(self) -> None:
        self._make_durable(os.fsync)
        os.fchmod(self._descriptor, BLOB_MODE)
        self._close_file()

    def _sync(self) -> None:
        self._make_durable(os.fdatasync)
        self._synced = self.offset
        self._note()

    def _make_durable(self, sync: Callable[[int], None]) -> None:
        try:
            sync(self._descriptor)
        except OSError:
            # The bytes may still read back well, and a second sync succeed, without them on disk.
            os.ftruncate(self._descriptor, self._synced)
            self.offset = self._synced
            raise

    def _note(self) -> None:
        if self._resumable:
            self._side = replace(self._side, synced=self._synced, boot=boot_id(), pid=os.getpid())
            self._part.write_side(self._side)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()


def _open_part(path: Path) -> int:
    try:
        return os.open(path, _OPEN, 0o600)
    except PermissionError:
        path.chmod(0o600)  # an attempt that died just before its rename left it read-only
        return os.open(path, _OPEN, 0o600)


def write_hashed(path: Path, stream: ByteStream, cancel: Cancel | None) -> tuple[Digest, int]:
    """Write a whole stream to a new, finished, synced file; its digest and size.

    Only errors of the file become StorageError; the stream's own pass through.
    """
    hasher = Digest.new_hasher()
    what = "store a blob"
    with storage_errors(what):
        file = io.FileIO(os.open(path, _OPEN | os.O_EXCL, 0o600), "w")
    with file:

        def take(view: memoryview) -> None:
            hasher.update(view)
            with storage_errors(what):
                while view:
                    view = view[file.write(view) or 0 :]

        size = pump(stream, take, cancel=cancel)
        with storage_errors(what):
            os.fchmod(file.fileno(), BLOB_MODE)
            os.fsync(file.fileno())
    return Digest.from_hasher(hasher), size


def stage_file(workshop: Workshop, finished: Path, digest: Digest, size: int) -> StagedBlob:
    """Give a finished, synced file its name as a blob, under the blob's object lock.

    Raises OSError.
    """
    lock = _object_lock_soon(workshop, digest)
    if lock is None:
        # Never wait for long while holding other blobs' locks: two processes that finish the same
        # two blobs would wait for each other.  commit_blobs does it, after letting go of the rest.
        waiting = workshop.private_file()
        finished.rename(waiting)
        return StagedBlob(digest, size, None, waiting)
    try:
        workshop.blobs.adopt(finished, digest)
    except BaseException:
        lock.release()
        raise
    return StagedBlob(digest, size, lock)


def _object_lock_soon(workshop: Workshop, digest: Digest) -> HeldLock | None:
    deadline = time.monotonic() + _OBJECT_WAIT_SECONDS
    while True:
        lock = workshop.locks.try_lock(LockClass.OBJECT, digest_key(digest))
        if lock is not None or time.monotonic() >= deadline:
            return lock
        time.sleep(0.005)


def open_ingest(
    workshop: Workshop,
    digest: Digest,
    size: int | None,
    *,
    origin: str | None,
    waiting: Callable[[int | None], None] | None,
    cancel: Cancel | None,
    trust_file: bool,
) -> Ingest:
    """See :meth:`kstore.store.Lease.ingest`."""
    part = Part.of(workshop.ingest, digest)
    lock, lane = take_lane(workshop.locks, part, digest, waiting, cancel)
    side = Side(size=size, origin=origin)
    resumable = lane == 0 and (size is None or size > SMALL_BYTES)
    if not resumable:
        private = workshop.private_file()
        part = Part(private if lock is None else visible_name(private, part))
    ingest = Ingest(workshop, digest, part, lock, side, resumable=resumable)
    try:
        found = workshop.blobs.has(digest) if trust_file else None
        if found is not None and size in (None, found):
            ingest.present = True
            part.remove()  # of an attempt that died after another one had finished
        else:
            ingest.open(cancel)
    except BaseException:
        ingest.close()
        raise
    return ingest
