"""Leases: what a running operation needs is not garbage.

A lease is a row that holds blobs, and a lock that its owner keeps for the whole operation.  When
the lock is free, the owner is gone.  A lease that ends well is deleted.  One whose operation
failed, or whose owner died, stays for a grace period (24 hours by default), so that blobs that
were finished need not be fetched again by the next attempt; nothing committed depends on it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from kstore.blobs import storage_errors
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, StorageError
from kstore.store.catalog import Writer
from kstore.store.fingerprints import hash_file, same_file
from kstore.store.ingest import Ingest, StagedBlob, Workshop, open_ingest, stage_file, write_hashed
from kstore.store.locks import HeldLock, LockClass, digest_key
from kstore.store.partials import require_room
from kstore.store.publish import publish
from kstore.store.queries import load_images
from kstore.store.reading import read_manifest
from kstore.store.records import Found, ImageRecord, Publication
from kstore.store.session import Session
from kstore.streams import ByteStream, Cancel

if TYPE_CHECKING:
    from kstore.store.uploads import UploadFiles

__all__ = ["Lease", "new_lease"]

_ID_BYTES = 7


class Lease:
    """Blobs that an operation needs; hold it for the whole operation.

    A context manager: leaving normally ends the lease, leaving by an exception keeps what it holds
    for the grace period.  All but :meth:`ingest` and :attr:`uploads` belongs to the thread that
    opened it.
    """

    def __init__(
        self, session: Session, lease_id: int, purpose: str, lock: HeldLock | None
    ) -> None:
        self.id = lease_id
        self._session = session
        self._purpose = purpose
        self._lock = lock  # None: joined, somebody else owns it
        self._doubted: set[Digest] = set()
        self._pending: list[StagedBlob] = []
        self._mutex = threading.Lock()
        self._workshop = Workshop(
            blobs=session.blobs,
            locks=session.locks,
            ingest=session.root.ingest,
            private_file=partial(session.root.private_file, lease_id),
            staged=self._note_staged,
        )

    # ---- taking over what the store has

    def adopt(self, blobs: Iterable[tuple[Digest, int | None]]) -> set[Digest]:
        """Hold those blobs (digest, size if known) that the store has; return them.

        One transaction decides, so garbage collection either sees the hold or was there before.  A
        file that changed since it was stored is hashed again: good bytes are adopted (also when
        only the row was lost), damaged ones are not, so that they are fetched again.
        """
        wanted = dict(blobs)
        if not wanted:
            return set()
        with self._mutex:
            own = [blob for blob in self._pending if blob.digest in wanted]
        self.commit_blobs(own)  # their object locks are ours: waiting for them would never end
        held, doubtful = self._hold_known(wanted)
        for digest in doubtful:
            if self._revive(digest, wanted[digest]):
                held.add(digest)
        return held

    def _hold_known(self, wanted: dict[Digest, int | None]) -> tuple[set[Digest], list[Digest]]:
        held: set[Digest] = set()
        doubtful: list[Digest] = []
        with self._session.write() as db:
            writer = Writer(db)
            for digest, size in wanted.items():
                row = writer.rows(
                    "SELECT size, state, ino, mtime_ns FROM blob WHERE digest = ?", [str(digest)]
                )
                facts = self._session.blobs.stat(digest)
                if facts is None:
                    if row:
                        writer.set_state(digest, "missing")
                elif size is not None and facts.st_size != size:
                    self._doubted.add(digest)
                elif row and _is_as_stored(facts, row[0]):
                    held.add(digest)
                else:
                    doubtful.append(digest)
            if held:
                self.hold(writer, held)
        return held, doubtful

    def _revive(self, digest: Digest, size: int | None) -> bool:
        """Hash a file whose row is absent or does not fit it; hold the blob if it is good."""
        session = self._session
        with session.object_lock(digest_key(digest), f"blob {digest}"):
            # The lock may have been its committer's until now: many who waited need not hash.
            held, doubtful = self._hold_known({digest: size})
            if not doubtful:
                return digest in held
            try:
                good = hash_file(session.blobs, digest, sync=True)
            except BlobNotFoundError:
                return False
            except StorageError:  # wrong bytes, or none that can be read
                good = None
            with storage_errors(f"make blob {digest} durable"):
                session.blobs.sync(digest.algorithm)
            with session.write() as db:
                writer = Writer(db)
                if good is None or size not in (None, good.st_size):
                    self._doubted.add(digest)
                    writer.set_state(digest, "suspect")
                    return False
                writer.put_blob(digest, good, None)
                self.hold(writer, [digest])
        self._doubted.discard(digest)
        return True

    def hold_image(self, found: Found) -> None:
        """Hold an image before reading it, so that a removal meanwhile does not pull it away.

        Everything below the manifest is held, and below the index the name stands for.  Raises
        BlobNotFoundError if the manifest was removed since it was looked up.  An image of an
        additional store cannot be held.
        """
        if found.image.location is not None:
            return
        if self._session.read_only:
            read_manifest(self._session, found.manifest)
            return
        with self._session.write() as db:
            writer = Writer(db)
            roots = [str(found.manifest)]
            if found.name is not None:
                roots += writer.column(
                    "SELECT target FROM name WHERE name = ? AND manifest = ?",
                    [str(found.name), roots[0]],
                )
            digests = writer.column(
                "WITH RECURSIVE reach(digest) AS ("
                "  SELECT digest FROM manifest WHERE digest IN (?, ?)"
                "  UNION SELECT e.child FROM edge e JOIN reach r ON e.parent = r.digest"
                "    WHERE e.role <> 'subject')"
                " SELECT b.digest FROM reach JOIN blob b USING (digest)",
                [roots[0], roots[-1]],
            )
            if roots[0] not in digests:
                raise BlobNotFoundError(f"manifest {found.manifest} is not in the store any more")
            self.hold(writer, map(Digest.parse, digests))

    # ---- taking in new bytes

    def require_room(self, blobs: Iterable[tuple[Digest, int | None]]) -> None:
        """StorageFullError if these blobs (digest, size if known) have no room on the disk."""
        require_room(self._session, blobs)

    def ingest(
        self,
        digest: Digest,
        size: int | None,
        *,
        origin: str | None = None,
        waiting: Callable[[int | None], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Ingest:
        """Open the blob for writing, where a previous attempt stopped if there was one.

        Only one at a time in all processes: while another works on this blob, this waits and calls
        ``waiting`` (with the other's process ID, if known) about once a second; when the other has
        not moved for 30 s, one of those who wait goes on with a private file.  Safe in any
        thread: no SQL.

        A file that :meth:`adopt` did not find wanting, and that has ``size``, makes the answer
        ``present``.  Raises StorageError, CancelledError.
        """
        return open_ingest(
            self._workshop,
            digest,
            size,
            origin=origin,
            waiting=waiting,
            cancel=cancel,
            trust_file=digest not in self._doubted,
        )

    @property
    def uploads(self) -> UploadFiles:
        """The unfinished uploads of the store, and new ones; usable in any thread."""
        from kstore.store.uploads import UploadFiles

        return UploadFiles(self._workshop)

    def put_bytes(self, data: bytes, media_type: str) -> Descriptor:
        """Store a small blob, durably, and hold it."""
        digest = Digest.of(data)
        if digest not in self.adopt([(digest, len(data))]):
            self.commit_blobs([self.stage_bytes(digest, data)])
        return Descriptor(media_type, digest, len(data))

    def stage_bytes(self, digest: Digest, data: bytes) -> StagedBlob:
        """Put bytes that hash to ``digest`` under their name; they count once they are committed.

        Waits for another process that is committing the same blob.
        """
        temporary = self._workshop.private_file()
        with storage_errors(f"store blob {digest}"):
            self._session.blobs.write_temporary(data, temporary)
            staged = stage_file(self._workshop, temporary, digest, len(data))
        self._note_staged(staged)
        if staged.waiting is not None:
            self._rename_waiting(staged)
        return staged

    def put_stream(self, stream: ByteStream, *, cancel: Cancel | None = None) -> tuple[Digest, int]:
        """Store a blob whose digest is not known before, and hold it; its digest and size."""
        temporary = self._workshop.private_file()
        try:
            digest, size = write_hashed(temporary, stream, cancel)
            if digest in self.adopt([(digest, size)]):
                return digest, size
            with storage_errors(f"store blob {digest}"):
                staged = stage_file(self._workshop, temporary, digest, size)
        finally:
            with storage_errors("remove what is left of a blob"):
                temporary.unlink(missing_ok=True)
        self._note_staged(staged)
        self.commit_blobs([staged])
        return digest, size

    def commit_blobs(
        self, blobs: Iterable[StagedBlob], *, origin: tuple[str, str] | None = None
    ) -> None:
        """Give staged blobs their rows, and hold them: one directory sync, one transaction.

        ``origin`` is the (registry, repository) they came from; registry ``""`` means uploaded
        here.  After that their locks are free.
        """
        staged = list(blobs)
        try:
            self._commit([blob for blob in staged if blob.waiting is None], origin)
            # Those that another process was committing: wait for it now, holding nothing else.
            for blob in staged:
                if blob.waiting is not None:
                    self._rename_waiting(blob)
                    self._commit([blob], origin)
        finally:
            for blob in staged:
                self.settle(blob)

    def _rename_waiting(self, blob: StagedBlob) -> None:
        session = self._session
        blob.lock = session.object_lock(digest_key(blob.digest), f"blob {blob.digest}")
        if blob.waiting is not None:
            with storage_errors(f"store blob {blob.digest}"):
                session.blobs.adopt(blob.waiting, blob.digest)
            blob.waiting = None

    def _commit(self, blobs: Sequence[StagedBlob], origin: tuple[str, str] | None) -> None:
        if not blobs:
            return
        sync_names(self._session, blobs)
        with self._session.write() as db:
            writer = Writer(db)
            for blob in blobs:
                facts = self._session.blobs.stat(blob.digest)
                if facts is None:
                    raise BlobNotFoundError(f"blob {blob.digest} vanished while it was stored")
                writer.put_blob(blob.digest, facts, None)
            self.hold(writer, (blob.digest for blob in blobs))
            if origin is not None:
                writer.put_source((blob.digest for blob in blobs), *origin)
        if origin is not None and origin[0]:  # what was uploaded came from nowhere
            from kstore.store.provenance import note_origin

            note_origin(self._session, *origin, writer.now, (blob.digest for blob in blobs))
        for blob in blobs:
            self.settle(blob)

    def hold(self, writer: Writer, digests: Iterable[Digest]) -> None:
        """Hold blobs that have rows, inside a transaction."""
        writer.put_lease(self.id, self._purpose)
        writer.hold(self.id, digests)

    def let_go(self, writer: Writer) -> None:
        """Hold nothing any more, inside a transaction."""
        writer.drop_lease(self.id)

    def _note_staged(self, blob: StagedBlob) -> None:
        with self._mutex:
            self._pending.append(blob)

    def settle(self, blob: StagedBlob) -> None:
        """Give up the locks of a staged blob, and its file if it never became a blob."""
        blob.release()
        with self._mutex, contextlib.suppress(ValueError):
            self._pending.remove(blob)

    # ---- making things visible

    def publish(self, publication: Publication, *, last: bool = False) -> ImageRecord | None:
        """Make an image, index or artifact visible under its names, in one transaction.

        With ``last`` the lease holds nothing afterwards: what was published is needed by its names
        from now on, and the end of the lease need not be written by a transaction of its own.

        Every blob it needs must be in the store; members of an index may be absent.  Returns the
        image (of an index: the one it leads to here), None where there is none.  Raises
        BlobNotFoundError or StoreDamagedError naming a blob that is not usable,
        InvalidManifestError, UnsupportedError; nothing has changed then.
        """
        image_id = publish(self._session, publication, self, last=last)
        if image_id is None:
            return None
        return next(iter(load_images(self._session, [image_id])), None)

    # ---- the end

    def close(self, *, keep: bool = False) -> None:
        """End the lease; with ``keep`` its row stays for the grace period."""
        for blob in list(self._pending):
            self.settle(blob)
        if self._lock is None:
            return
        try:
            if not keep and self._session.db.row("SELECT 1 FROM lease WHERE id = ?", [self.id]):
                with self._session.write() as db:
                    Writer(db).drop_lease(self.id)
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(keep=value is not None)


def _is_as_stored(facts: os.stat_result, row: Any) -> bool:
    size, state, ino, mtime_ns = row
    return state == "present" and same_file(facts, ino, mtime_ns, size)


def new_lease(session: Session, purpose: str) -> Lease:
    """A lease with an id of its own, whose lock is held from now on; its row follows."""
    if session.read_only:
        return Lease(session, 0, purpose, None)
    while True:
        lease_id = int.from_bytes(os.urandom(_ID_BYTES))
        lock = session.locks.try_lock(LockClass.LEASE, lease_id)
        if lock is not None:
            return Lease(session, lease_id, purpose, lock)


def sync_names(session: Session, blobs: Iterable[StagedBlob]) -> None:
    """Make the names of renamed blobs durable."""
    for algorithm in sorted({blob.digest.algorithm for blob in blobs}):
        with storage_errors("make the names of blobs durable"):
            session.blobs.sync(algorithm)
