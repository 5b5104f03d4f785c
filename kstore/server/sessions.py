"""Upload sessions: bytes whose digest is only known at the end.

A session is an ingest of the store under a random name.  It survives a broken connection (the
client asks for the offset and goes on), rests at most ``Limits.upload_age`` seconds, and there is
a bounded number of them.  Sessions end with the server.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

from kstore.digest import ALGORITHMS, Digest, Hasher
from kstore.server.body import Body
from kstore.server.responses import Refusal
from kstore.server.wire import Disconnected
from kstore.store import Ingest, Lease, StagedBlob
from kstore.streams import pump

__all__ = ["Upload", "Uploads"]

_BUSY_SECONDS = 5.0


class Upload:
    """One blob on its way in; used by one request at a time.

    ``algorithm`` is what its bytes are hashed with: the digest it is finished with must use it.
    A ``broken`` upload cannot go on.
    """

    def __init__(self, repository: str, algorithm: str) -> None:
        self.id = secrets.token_hex(16)
        self.repository = repository
        self.algorithm = algorithm
        self.offset = 0
        self.touched = time.monotonic()
        self.broken = False
        self.in_use = threading.Lock()
        self._hasher: Hasher = Digest.new_hasher(algorithm)
        self._ingest: Ingest | None = None

    def expect(self, digest: Digest) -> None:
        """Hash as ``digest`` was, if nothing has been hashed yet."""
        if self.offset == 0 and self._ingest is None:
            self.algorithm = digest.algorithm
            self._hasher = Digest.new_hasher(digest.algorithm)

    def append(self, body: Body, lease: Lease, room: int) -> None:
        """Take the body in; Refusal SIZE_INVALID when the blob grows beyond ``room`` bytes.

        When the client breaks off, what arrived is kept; any other failure breaks the upload,
        because its bytes may not be the ones that were hashed.
        """

        def take(view: memoryview) -> None:
            self.offset += len(view)
            if self.offset > room:
                raise _too_large(room)
            self._hasher.update(view)
            self._open(lease).write(view)

        if body.size is not None and self.offset + body.size > room:
            raise _too_large(room)
        try:
            pump(body, take)
        except Disconnected:
            raise
        except BaseException:
            self.broken = True
            raise

    def stage(self, digest: Digest, lease: Lease) -> StagedBlob:
        """Finish under ``digest``, which the bytes must hash to: Refusal DIGEST_INVALID.

        Whatever the outcome, the upload is over.
        """
        self.broken = True
        found = Digest.from_hasher(self._hasher, self.algorithm)
        if found != digest:
            raise Refusal(
                HTTPStatus.BAD_REQUEST,
                "DIGEST_INVALID",
                f"the {self.offset} bytes received hash to {found}, not to {digest}",
            )
        ingest = self._open(lease)
        staged = ingest.stage(digest, self.offset)
        self._ingest = None
        return staged

    def discard(self) -> None:
        """Forget the bytes."""
        ingest, self._ingest = self._ingest, None
        if ingest is not None:
            ingest.drop()

    def _open(self, lease: Lease) -> Ingest:
        if self._ingest is None:
            hex_digits = secrets.token_hex(ALGORITHMS[self.algorithm] // 2)
            self._ingest = lease.ingest(Digest(self.algorithm, hex_digits), None)
        return self._ingest


class Uploads:
    """The open sessions of a server."""

    def __init__(self, limit: int, age: float) -> None:
        self._limit = limit
        self._age = age
        self._open: dict[str, Upload] = {}
        self._mutex = threading.Lock()

    def start(self, repository: str, algorithm: str) -> Upload:
        """A new session; Refusal TOOMANYREQUESTS when there are too many."""
        self.expire()
        upload = Upload(repository, algorithm)
        with self._mutex:
            if len(self._open) >= self._limit:
                raise Refusal(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "TOOMANYREQUESTS",
                    f"there are {self._limit} unfinished uploads already",
                    headers={"Retry-After": "10"},
                )
            self._open[upload.id] = upload
        return upload

    @contextlib.contextmanager
    def use(self, upload_id: str, repository: str) -> Iterator[Upload]:
        """A session, for this request alone; a broken one ends with the request.

        Refusal BLOB_UPLOAD_UNKNOWN if there is none, BLOB_UPLOAD_INVALID (409) if another request
        keeps it busy.
        """
        with self._mutex:
            upload = self._open.get(upload_id)
        if upload is None or upload.repository != repository:
            raise _unknown()
        if not upload.in_use.acquire(timeout=_BUSY_SECONDS):
            raise Refusal(
                HTTPStatus.CONFLICT, "BLOB_UPLOAD_INVALID", "another request uses this upload"
            )
        try:
            with self._mutex:
                if upload.id not in self._open:  # it ended while we waited
                    raise _unknown()
            yield upload
        finally:
            upload.touched = time.monotonic()
            if upload.broken:
                self.end(upload)
            upload.in_use.release()

    def end(self, upload: Upload) -> None:
        """Forget a session and whatever bytes it still has; its user calls this."""
        with self._mutex:
            self._open.pop(upload.id, None)
        upload.discard()

    def expire(self) -> None:
        """End the sessions that have rested too long."""
        now = time.monotonic()
        with self._mutex:
            resting = [each for each in self._open.values() if now - each.touched > self._age]
        for upload in resting:
            if upload.in_use.acquire(blocking=False):
                try:
                    self.end(upload)
                finally:
                    upload.in_use.release()

    def close(self) -> None:
        """End all sessions; no request is under way any more."""
        for upload in list(self._open.values()):
            self.end(upload)

    def __len__(self) -> int:
        return len(self._open)


def _too_large(room: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "SIZE_INVALID",
        f"the blob is larger than the limit of {room} bytes",
    )


def _unknown() -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
