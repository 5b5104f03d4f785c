"""A blob on its way here: one stream over as many connections as it takes.

Source: OCI distribution specification 1.1, "Pulling blobs"; RFC 9110 sections 13.1.5 (If-Range)
and 14 (ranges).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from kstore.descriptor import Descriptor
from kstore.errors import BlobNotFoundError, RemoteError, SizeMismatchError
from kstore.registry.answers import encoded_error
from kstore.registry.auth import repository_scope
from kstore.registry.exchange import Exchange
from kstore.registry.retry import PROGRESS, teller
from kstore.registry.targets import blob_target
from kstore.streams import Closing

if TYPE_CHECKING:
    from kstore.registry.messages import Response

__all__ = ["BlobDownload", "strong_etag"]

_SKIP_BUFFER = 256 * 1024
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)\Z", re.ASCII)


class BlobDownload(Closing):
    """The bytes of a blob from ``offset`` on, as the registry sends them: not verified.

    ``offset`` is where the first byte stands, either what was asked for or 0; ``end`` stops before
    the end of the blob.  ``validator`` is the strong ETag of these bytes, None without one;
    ``spliced`` tells that they came in more than one answer.
    Broken, stalled and refused transfers are continued where they stopped, after ``on_retry`` was
    told why; at most one byte more than the descriptor's size is delivered.
    """

    def __init__(
        self,
        exchange: Exchange,
        path: str,
        descriptor: Descriptor,
        offset: int,
        validator: str | None,
        on_retry: Callable[[str], None] | None = None,
        end: int | None = None,
    ) -> None:
        self._exchange = exchange
        self._piece_end = end
        self._end = descriptor.size if end is None else end
        self._on_retry = on_retry
        self._path = path
        self._target = blob_target(path, descriptor.digest)
        self._descriptor = descriptor
        self._position = offset
        self._ranges = True
        self._backoff = exchange.backoff()
        self._mark = offset
        self._wait: float | None = None
        self._response: Response | None = None
        self.validator: str | None = validator
        self.offset = offset
        self.spliced = False
        self._begin()

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; 0 at the end.

        Raises RemoteError or RemoteTimeoutError when no attempt is left, naming host, digest and
        bytes got; BlobNotFoundError, AuthError, CancelledError.
        """
        extra = 1 if self._piece_end is None else 0  # one byte too many shows that it is too long
        buffer = buffer[: self._end + extra - self._position]
        while True:
            if self._response is None:
                self._resume()
            assert self._response is not None
            try:
                count = self._response.readinto(buffer)
                self._check_end(self._response, count, len(buffer))
            except RemoteError as failure:
                self._failed(failure)
                continue
            self._position += count
            if self._position - self._mark >= PROGRESS:
                self._mark = self._position
                self._backoff.reset()
            return count

    def _check_end(self, response: Response, count: int, room: int) -> None:
        """Raise where a body is shorter than the blob, or longer for a reason that has a name."""
        short = count == 0 and room > 0 and self._position < self._end
        long = self._position + count > self._end
        if response.encoding is not None and (short or long):
            raise encoded_error(self._exchange.host, response.encoding)
        if short:
            raise RemoteError("the body ended too early", retryable=True)

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _begin(self) -> None:
        """Open for the first time: the registry may choose to start at 0 instead of ``offset``."""
        while self._response is None:
            try:
                response, start = self._request()
            except RemoteError as failure:
                self._failed(failure)
                continue
            self._response, self.offset, self._position, self._mark = response, start, start, start
            self.validator = strong_etag(response)

    def _resume(self) -> None:
        """Continue at the present position, skipping what a server without ranges repeats."""
        while self._response is None:
            try:
                response, start = self._request()
                try:
                    self._skip(response, self._position - start)
                except BaseException:
                    response.close()
                    raise
            except RemoteError as failure:
                self._failed(failure)
                continue
            self._response, self._mark = response, self._position
            self.spliced = self._position > self.offset

    def _request(self) -> tuple[Response, int]:
        """Ask for the rest; return the answer and where its body starts: here, or at 0."""
        here = self._position if self._ranges else 0
        headers = {"Accept": "*/*"}
        last = "" if self._piece_end is None else self._piece_end - 1
        if here or last:
            headers["Range"] = f"bytes={here}-{last}"
            if self.validator is not None:
                headers["If-Range"] = self.validator
        blob = self._descriptor
        response = self._exchange.request(
            "GET",
            self._target,
            path=self._path,
            scopes=(repository_scope(self._path, "pull"),),
            headers=headers,
            retry=False,
            # A hostile framing may cost six bytes for each that counts.
            allowance=8 * (blob.size + 1),
        )
        if response.status == 200:
            self._check_length(response)
            return response, 0
        if response.status == 206 and here and self._is_rest(response, here):
            return response, here
        if here and response.status in (206, 416):
            response.close()
            if self._piece_end is not None:
                raise RemoteError(f"{self._exchange.host} does not send the range asked for")
            self._ranges = False
            return self._request()
        raise self._refused(response)

    def _check_length(self, response: Response) -> None:
        """A registry that announces another size has other bytes: trying again cannot help."""
        blob, length = self._descriptor, response.length
        if length is not None and length != blob.size:
            response.close()
            if response.encoding is not None:
                raise encoded_error(self._exchange.host, response.encoding)
            raise SizeMismatchError(
                f"{self._exchange.host} has {length} bytes as blob {blob.digest}, which is"
                f" declared with {blob.size}"
            )

    def _is_rest(self, response: Response, here: int) -> bool:
        match = _CONTENT_RANGE.match((response.header("Content-Range") or "").strip())
        if match is None or int(match[1]) != here:
            return False
        size = self._descriptor.size
        etag = strong_etag(response)
        same = self.validator is None or etag is None or etag == self.validator
        last = size - 1 if self._piece_end is None else self._piece_end - 1
        whole = int(match[2]) == last or (self._piece_end is None and int(match[2]) < size)
        return same and whole and match[3] in (str(size), "*")

    def _refused(self, response: Response) -> Exception:
        refusal = self._exchange.refusal(response)
        self._wait = refusal.wait
        if refusal.status == 404 and refusal.own:
            return BlobNotFoundError(
                f"{self._exchange.host} has no blob {self._descriptor.digest} in {self._path}"
            )
        return self._exchange.error(refusal, f"blob {self._descriptor.digest}", self._path)

    def _skip(self, response: Response, count: int) -> None:
        """Drop bytes that were delivered before; whoever hashes the stream notices a change."""
        buffer = memoryview(bytearray(min(count, _SKIP_BUFFER)))
        while count:
            got = response.readinto(buffer[:count])
            if got == 0:
                raise RemoteError("the body ended too early", retryable=True)
            count -= got

    def _failed(self, failure: RemoteError) -> None:
        self.close()
        blob, total = self._descriptor, self._descriptor.size
        named = type(failure)(
            f"blob {blob.digest} from {self._exchange.host} stopped at {self._position} of {total}"
            f" bytes: {failure.message}",
            hint=failure.hint,
            status=failure.status,
            retryable=failure.retryable,
        )
        if not failure.retryable:
            raise named from failure
        wait, self._wait = self._wait, None
        self._backoff.pause(named, wait, teller(failure, self._on_retry))


def strong_etag(response: Response) -> str | None:
    """The ETag of an answer, if it identifies the very bytes (RFC 9110 section 8.8.1)."""
    etag = (response.header("ETag") or "").strip()
    return etag if len(etag) <= 256 and re.fullmatch(r'"[\x21\x23-\x7e]*"', etag) else None
