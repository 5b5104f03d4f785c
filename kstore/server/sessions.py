"""Upload sessions: bytes whose digest is only known at the end.

A session is an upload of the store (see ``kstore.store.uploads``) whose ID is its address.  It
survives a broken connection and the end of the server: the client asks for the offset and goes on,
here or at the server that comes next.  It rests at most ``Limits.upload_age`` seconds, and there is
a bounded number of sessions; those that another server left give way to new ones.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus

from kstore.digest import Digest
from kstore.errors import StorageError
from kstore.server.intake import Upload, busy, unknown
from kstore.server.responses import Refusal
from kstore.store import Lease, UploadFiles

__all__ = ["Uploads"]

_BUSY_SECONDS = 5.0
_log = logging.getLogger("kstore.server")


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
            raise unknown()
        if not upload.in_use.acquire(timeout=_BUSY_SECONDS if wait else 0.0):
            raise busy()
        try:
            with self._mutex:
                if upload.id not in self._open:  # it ended while we waited
                    raise unknown()
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
        except StorageError as exc:  # no reason to serve no more; a prune will say it again
            _log.warning("%s", exc.message)
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


def _too_many(limit: int) -> Refusal:
    return Refusal(
        HTTPStatus.TOO_MANY_REQUESTS,
        "TOOMANYREQUESTS",
        f"there are {limit} unfinished uploads already",
        headers={"Retry-After": "10"},
    )
