"""A blob on its way to a registry, in one stream or in pieces, continued after failures.

Source: OCI distribution specification 1.1, "Pushing blobs" (POST, PATCH, PUT; upload status).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from kstore.descriptor import Descriptor
from kstore.errors import (
    DigestMismatchError,
    KstoreError,
    RemoteError,
)
from kstore.mediatypes import OCTET_STREAM
from kstore.registry.auth import repository_scope
from kstore.registry.body import UploadBody
from kstore.registry.exchange import Exchange
from kstore.registry.retry import PROGRESS, teller
from kstore.registry.targets import blob_target, uploads_target
from kstore.registry.urls import Url
from kstore.streams import ByteStream

if TYPE_CHECKING:
    from kstore.registry.messages import Payload, Response

__all__ = ["BlobUpload"]

_WRONG_BYTES = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
#: A registry may hash or move the whole blob before it answers: bytes a second it is granted.
_DIGESTION_SPEED = 10 * 1024 * 1024
_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,19})\Z", re.ASCII)


class BlobUpload:
    """One blob's upload.  Use it once: :meth:`run`."""

    def __init__(
        self,
        exchange: Exchange,
        path: str,
        descriptor: Descriptor,
        open_body: Callable[[int], ByteStream],
        progress: Callable[[int], None] | None,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        self._exchange = exchange
        self._on_retry = on_retry
        self._path = path
        self._uploads = uploads_target(path)
        self._blob = descriptor
        self._body = UploadBody(descriptor, open_body, progress)
        self._scopes = (repository_scope(path, "pull", "push"),)
        self._backoff = exchange.backoff()
        self._session: Url | None = None
        self._offset = 0
        self._accepted = 0
        self._mark = 0
        self._minimum_chunk = 0
        self._resumed = False
        self._may_resume = True
        self._doubtful = False
        self._renewed = False
        self._wait: float | None = None

    def run(self) -> None:
        """Upload; see RegistryClient.upload_blob for what it raises."""
        try:
            while not self._attempt():
                pass
        except BaseException:
            if self._session is not None:
                self._exchange.farewell(self._session, self._path, self._scopes)
            raise
        finally:
            self._body.close()

    def _attempt(self) -> bool:
        """Get as far as the network lets us; whether the blob is there."""
        try:
            if self._doubtful and self._reconnect():
                return True
            if self._session is None:
                self._start()
            while self._offset < self._blob.size:
                self._send_piece()
            self._finish()
            return True
        except RemoteError as failure:
            if not failure.retryable or failure is self._body.failure:
                raise
            if failure.status == 401:
                self._wait = None
                return False  # nothing was taken; bounded by one renewal for each bit of progress
            self._pause(failure)
            self._doubtful = self._session is not None
            return False

    def _start(self) -> None:
        response = self._request("POST", self._uploads)
        if response.status != 202:
            raise self._refused(response, "starting the upload of")
        minimum = response.header("OCI-Chunk-Min-Length") or ""
        if minimum.isascii() and minimum.isdigit():
            self._minimum_chunk = int(minimum[:12])
        self._offset = 0
        self._session = self._location(response)
        response.discard()

    def _send_piece(self) -> None:
        """One PATCH: everything that is left, or one chunk of it."""
        from kstore.registry.messages import Payload

        assert self._session is not None
        start, left = self._offset, self._blob.size - self._offset
        limit = self._exchange.settings.upload_chunk
        size = left if limit is None else min(left, max(limit, self._minimum_chunk))
        headers = {"Content-Type": OCTET_STREAM}
        if size < self._blob.size:  # some registries refuse the header on a whole blob
            headers["Content-Range"] = f"{start}-{start + size - 1}"
        payload = Payload(size, lambda: self._body.chunks(start, size))
        response = self._request("PATCH", self._session, headers, payload, size)
        if response.status not in (201, 202, 204):
            raise self._refused(response, "sending")
        kept = _range_end(response)
        self._session = self._location(response)
        response.discard()
        if kept is not None and kept != start + size:
            raise RemoteError(
                f"{self._exchange.host} kept {kept} of {start + size} bytes", retryable=True
            )
        if start + size > self._accepted:
            self._accepted, self._renewed = start + size, False
        self._advance(start + size)

    def _finish(self) -> None:
        assert self._session is not None
        url = self._session.with_query([("digest", str(self._blob.digest))])
        headers = {"Content-Type": OCTET_STREAM}
        response = self._request("PUT", url, headers, size=self._blob.size)
        if response.status not in (201, 202, 204):
            raise self._refused(response, "completing the upload of")
        claimed = (response.header("Docker-Content-Digest") or "").strip()
        response.discard()
        self._session = None
        same_kind = claimed.startswith(f"{self._blob.digest.algorithm}:")
        if same_kind and claimed != str(self._blob.digest):
            raise DigestMismatchError(
                f"{self._exchange.host} stored blob {self._blob.digest} under another digest"
            )

    def _request(
        self,
        method: str,
        url: str | Url,
        headers: dict[str, str] | None = None,
        payload: Payload | None = None,
        size: int = 0,
    ) -> Response:
        """One attempt; repeating is decided here, where the offset is known."""
        return self._exchange.request(
            method,
            url,
            path=self._path,
            scopes=self._scopes,
            headers=headers,
            payload=payload,
            retry=False,
            patience=self._exchange.settings.response_timeout + size / _DIGESTION_SPEED,
        )

    def _location(self, response: Response) -> Url:
        location = response.header("Location")
        if location is None:
            response.close()
            raise RemoteError(f"{self._exchange.host} does not say where an upload continues")
        return self._exchange.next_url(response.url, location)

    def _refused(self, response: Response, doing: str) -> KstoreError:
        refusal = self._exchange.refusal(response)
        self._wait = refusal.wait
        if refusal.codes & _WRONG_BYTES:
            if self._resumed:
                # The two sides may have disagreed on where to go on: once more, from the start.
                self._may_resume = False
                return RemoteError(
                    f"{refusal.host} put blob {self._blob.digest} together wrongly", retryable=True
                )
            return DigestMismatchError(
                f"{refusal.host} received other bytes than {self._blob.digest}"
            )
        if refusal.status == 401 and not self._renewed:
            self._renewed = True
            return RemoteError(f"{refusal.host} wants a new token", status=401, retryable=True)
        error = self._exchange.error(refusal, f"{doing} blob {self._blob.digest}", self._path)
        if isinstance(error, RemoteError):
            lost = refusal.status in (404, 416) or any(
                code.startswith(("BLOB_UPLOAD", "RANGE")) for code in refusal.codes
            )
            error.retryable = error.retryable or (lost and self._session is not None)
            if refusal.status == 413:
                error.hint = "a limit on the size of one request; send blobs in smaller chunks"
        return error

    def _pause(self, failure: RemoteError) -> None:
        wait, self._wait = self._wait, None
        named = type(failure)(
            f"upload of {self._blob.digest} to {self._exchange.host} stopped at {self._offset} of"
            f" {self._blob.size} bytes: {failure.message}",
            hint=failure.hint,
            status=failure.status,
            retryable=True,
        )
        self._backoff.pause(named, wait, teller(failure, self._on_retry))

    def _reconnect(self) -> bool:
        """Ask how much the registry has, and start again where it does not know; whether it has the
        blob.

        Raises RemoteError where it cannot be asked now: it may be on its way up again.
        """
        if self._offset == self._blob.size and self._exists():
            return True  # only the good news was lost
        assert self._session is not None
        old = self._session
        kept = self._query(old) if self._may_resume else None
        self._doubtful = False
        if kept is None:
            self._session = None
            self._exchange.farewell(old, self._path, self._scopes)
            self._offset, self._resumed, self._may_resume = 0, False, True
        else:
            self._resumed = True
            self._advance(kept)
        return False

    def _query(self, session: Url) -> int | None:
        """The bytes an upload has so far; None if it cannot be continued.

        Raises RemoteError where nobody answers.
        """
        try:
            response = self._request("GET", session)
            kept, good = _range_end(response), response.status in (200, 202, 204)
            location = response.header("Location")
            response.discard()
            if not good or kept is None or kept > self._blob.size:
                return None
            self._session = session
            if location is not None:
                self._session = self._exchange.next_url(response.url, location)
            # "0-0" stands for no byte as well as for one; resending one byte too many is
            # noticed, losing one is as well, and none is far more common.
            return 0 if kept == 1 else kept
        except RemoteError as failure:
            if failure.retryable:
                raise
            return None

    def _exists(self) -> bool:
        try:
            response = self._request("HEAD", blob_target(self._path, self._blob.digest))
        except RemoteError:
            return False
        response.close()
        if response.status == 200:
            self._session = None
        return response.status == 200

    def _advance(self, offset: int) -> None:
        self._offset = offset
        if offset - self._mark >= PROGRESS:
            self._mark = offset
            self._backoff.reset()


def _range_end(response: Response) -> int | None:
    """How many bytes a Range header of an upload stands for; None without a proper one."""
    match = _RANGE.match((response.header("Range") or "").strip())
    return int(match[1]) + 1 if match else None
