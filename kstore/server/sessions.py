"""Upload sessions: bytes whose digest is only known at the end.

A session is an upload of the store (see ``kstore.store.uploads``) whose ID is its address.  It
survives a broken connection and the end of the server: the client asks for the offset and goes on,
here or at the server that comes next.  It rests at most ``Limits.upload_age`` seconds, and there is
a bounded number of sessions; those that another server left give way to new ones.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

from kstore.digest import Digest, Hasher
from kstore.errors import BlobNotFoundError, InUseError
from kstore.server.body import Body
from kstore.server.responses import Refusal
from kstore.server.wire import Disconnected
from kstore.store import Ingest, Lease, RestingUpload, StagedBlob, UploadFiles
from kstore.streams import pump

__all__ = ["Upload", "Uploads"]

_BUSY_SECONDS = 5.0


class Upload:
    """One blob on its way in; used by one request at a time.

    It has its files open (an ``ingest``), or was left by another server and :meth:`resume` opens
    them.  A ``broken`` upload cannot go on.
    """

    def __init__(self, upload_id: str, repository: str) -> None:
        self.id = upload_id
        self.repository = repository
        self.touched = time.monotonic()
        self.broken = False
        self.in_use = threading.Lock()
        self.left: RestingUpload | None = None
        self._ingest: Ingest | None = None
        self._hasher: Hasher = Digest.new_hasher()
        self._algorithm = "sha256"

    @classmethod
    def begun(cls, repository: str, ingest: Ingest, upload_id: str) -> Upload:
        """One whose files were just made."""
        upload = cls(upload_id, repository)
        upload._take(ingest)
        return upload

    @classmethod
    def left_behind(cls, left: RestingUpload) -> Upload:
        """One of a server that is gone."""
        upload = cls(left.key.hex, left.repository)
        upload.left = left
        upload.touched -= left.age_seconds
        return upload

    @property
    def offset(self) -> int:
        """How many bytes have arrived."""
        if self._ingest is not None:
            return self._ingest.offset
        return self.left.offset if self.left is not None else 0

    def look(self, files: UploadFiles) -> None:
        """See what has become of files that are not open; Refusal if they are gone."""
        if self.left is not None:
            self.left = files.find(self.id)
            if self.left is None:
                self.broken = True
                raise _unknown()

    def resume(self, files: UploadFiles) -> None:
        """Open the files, if they are not; Refusal where they are gone, or another server's."""
        if self.left is None:
            return
        try:
            self._take(files.resume(self.left.key, self.repository))
        except BlobNotFoundError as exc:
            self.broken = True
            raise _unknown() from exc
        except InUseError as exc:
            raise _busy() from exc
        self.left = None

    def _take(self, ingest: Ingest) -> None:
        self._ingest, self._hasher = ingest, ingest.hasher
        self._algorithm = ingest.digest.algorithm

    @property
    def _opened(self) -> Ingest:
        assert self._ingest is not None, "resume() comes first"
        return self._ingest

    def expect(self, digest: Digest) -> None:
        """Hash as ``digest`` was, if nothing has been hashed yet."""
        if self.offset == 0:
            self._algorithm = digest.algorithm
            self._hasher = Digest.new_hasher(digest.algorithm)

    def append(self, body: Body, room: int) -> None:
        """Take the body in; Refusal SIZE_INVALID when the blob grows beyond ``room`` bytes.

        When the client breaks off, what arrived is kept; any other failure breaks the upload,
        because its bytes may not be the ones that were hashed.
        """
        ingest = self._opened

        def take(view: memoryview) -> None:
            if ingest.offset + len(view) > room:
                raise _too_large(room)
            self._hasher.update(view)
            ingest.write(view)

        if body.size is not None and ingest.offset + body.size > room:
            raise _too_large(room)
        try:
            pump(body, take)
        except Disconnected:
            raise
        except BaseException:
            self.broken = True
            raise

    def stage(self, digest: Digest) -> StagedBlob:
        """Finish under ``digest``, which the bytes must hash to: Refusal DIGEST_INVALID.

        Whatever the outcome, the upload is over.
        """
        self.broken = True
        ingest = self._opened
        found = Digest.from_hasher(self._hasher, self._algorithm)
        if found != digest:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "DIGEST_INVALID",
                f"the {ingest.offset} bytes received hash to {found}, not to {digest}",
            )
        staged = ingest.stage(digest, ingest.offset)
        self._ingest = None
        return staged

    def keep(self) -> None:
        """Close the files; the bytes stay for the next server."""
        ingest, self._ingest = self._ingest, None
        if ingest is not None:
            ingest.close()

    def discard(self, files: UploadFiles) -> None:
        """Forget the bytes."""
        ingest, self._ingest = self._ingest, None
        left, self.left = self.left, None
        if ingest is not None:
            ingest.drop()
        elif left is not None:
            files.drop(left.key)


class Uploads:
    """The open sessions of a server; ``files`` are those of its store."""

    def __init__(self, limit: int, age: float, files: UploadFiles) -> None:
        self._limit = limit
        self._age = age
        self._files = files
        self._open = {left.key.hex: Upload.left_behind(left) for left in files.all()}
        self._mutex = threading.Lock()

    def start(self, repository: str, algorithm: str, lease: Lease) -> Upload:
        """A new session; Refusal TOOMANYREQUESTS when there are too many."""
        self._make_room()
        ingest = lease.uploads.begin(repository, algorithm)
        return self._enter(Upload.begun(repository, ingest, ingest.digest.hex))

    @contextlib.contextmanager
    def whole(self, repository: str, digest: Digest, lease: Lease) -> Iterator[Upload]:
        """A session for one request that sends all of ``digest``; nobody else finds it."""
        self._make_room()
        ingest = lease.uploads.begin_whole(digest)
        upload = self._enter(Upload.begun(repository, ingest, secrets.token_hex(16)))
        with upload.in_use:
            try:
                yield upload
            finally:
                self.end(upload)

    def _enter(self, upload: Upload) -> Upload:
        """Count a session that was made; the mutex is not held while files are."""
        with self._mutex:
            if len(self._open) < self._limit:
                self._open[upload.id] = upload
                return upload
        upload.discard(self._files)
        raise _too_many(self._limit)

    def _make_room(self) -> None:
        """End what has rested too long and, if that is not enough, the oldest that was left."""
        self.expire()
        with self._mutex:
            if len(self._open) < self._limit:
                return
            left = [each for each in self._open.values() if each.left is not None]
        for upload in sorted(left, key=lambda each: each.touched):
            if self._end_resting(upload):
                return
        raise _too_many(self._limit)

    @contextlib.contextmanager
    def use(self, upload_id: str, repository: str, *, wait: bool = True) -> Iterator[Upload]:
        """A session, for this request alone; a broken one ends with the request.

        With ``wait``, another request gets a moment to end.  Refusal BLOB_UPLOAD_UNKNOWN if there
        is no such session, BLOB_UPLOAD_INVALID (409) if another request keeps it busy.
        """
        upload = self._find(upload_id)
        if upload is None or upload.repository != repository:
            raise _unknown()
        if not upload.in_use.acquire(timeout=_BUSY_SECONDS if wait else 0.0):
            raise _busy()
        try:
            with self._mutex:
                if upload.id not in self._open:  # it ended while we waited
                    raise _unknown()
            upload.look(self._files)
            yield upload
        finally:
            upload.touched = time.monotonic()
            if upload.broken:
                self.end(upload)
            upload.in_use.release()

    def _find(self, upload_id: str) -> Upload | None:
        """The session of that ID, also one that a server beside this one has left meanwhile."""
        with self._mutex:
            upload = self._open.get(upload_id)
        if upload is not None or (left := self._files.find(upload_id)) is None:
            return upload
        with self._mutex:
            return self._open.setdefault(upload_id, Upload.left_behind(left))

    def end(self, upload: Upload) -> None:
        """Forget a session and whatever bytes it still has; its user calls this."""
        with self._mutex:
            self._open.pop(upload.id, None)
        upload.discard(self._files)

    def _end_resting(self, upload: Upload) -> bool:
        """End a session unless a request uses it; whether it has ended."""
        if not upload.in_use.acquire(blocking=False):
            return False
        try:
            self.end(upload)
        finally:
            upload.in_use.release()
        return True

    def expire(self) -> None:
        """End the sessions that have rested too long."""
        now = time.monotonic()
        with self._mutex:
            resting = [each for each in self._open.values() if now - each.touched > self._age]
        for upload in resting:
            self._end_resting(upload)

    def close(self) -> None:
        """Let go of all sessions, so that another server can go on with them."""
        with contextlib.ExitStack() as stack:  # one that cannot be kept leaves the others
            for upload in self._open.values():
                if upload.in_use.acquire(blocking=False):
                    stack.callback(upload.keep)
        self._open.clear()

    def __len__(self) -> int:
        return len(self._open)


def _too_large(room: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "SIZE_INVALID",
        f"the blob is larger than the limit of {room} bytes",
    )


def _too_many(limit: int) -> Refusal:
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "TOOMANYREQUESTS",
        f"there are {limit} unfinished uploads already",
        headers={"Retry-After": "10"},
    )


def _busy() -> Refusal:
    return Refusal(HTTPStatus.CONFLICT, "BLOB_UPLOAD_INVALID", "another request uses this upload")


def _unknown() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
