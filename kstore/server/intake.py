"""One blob on its way in through an upload session."""

from __future__ import annotations

import threading
import time
from http import HTTPStatus

from kstore.digest import Digest, Hasher
from kstore.errors import BlobNotFoundError, InUseError
from kstore.server.body import Body
from kstore.server.responses import Refusal
from kstore.server.wire import Disconnected
from kstore.store import Ingest, RestingUpload, StagedBlob, UploadFiles
from kstore.streams import pump

__all__ = ["Upload", "busy", "unknown"]


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
                raise unknown()

    def resume(self, files: UploadFiles) -> None:
        """Open the files, if they are not; Refusal where they are gone, or another server's."""
        if self.left is None:
            return
        try:
            self._take(files.resume(self.left.key, self.repository))
        except BlobNotFoundError as exc:
            self.broken = True
            raise unknown() from exc
        except InUseError as exc:
            raise busy() from exc
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


def _too_large(room: int) -> Refusal:
    return Refusal(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "SIZE_INVALID",
        f"the blob is larger than the limit of {room} bytes",
    )


def busy() -> Refusal:
    """Somebody else uses the upload."""
    return Refusal(HTTPStatus.CONFLICT, "BLOB_UPLOAD_INVALID", "another request uses this upload")


def unknown() -> Refusal:
    """There is no such upload, or none in that repository."""
    return Refusal(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
