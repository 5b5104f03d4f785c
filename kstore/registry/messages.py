"""What goes over the wire: a body to send, and an answer to read."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any

from kstore.errors import IntegrityError, RemoteError
from kstore.registry.urls import Url
from kstore.values import dataclass

__all__ = ["EagerResponse", "Payload", "Response"]

_DRAIN = 64 * 1024


@dataclass(frozen=True, slots=True)
class Payload:
    """A request body: its size in bytes and how to start it; ``repeatable`` ones may be resent."""

    size: int
    chunks: Callable[[], Iterator[bytes | memoryview]]
    repeatable: bool = False

    @classmethod
    def of(cls, data: bytes) -> Payload:
        """Bytes at hand."""
        return cls(len(data), lambda: iter((data,)), repeatable=True)


class EagerResponse(http.client.HTTPResponse):
    """A response whose ``readinto`` returns what one receive brought, without a copy."""

    _ahead: int | None = None

    def readinto(self, buffer: Any, /) -> int:
        if self.isclosed():
            return 0
        if self.chunked:
            data = self.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        if self.length == 0:
            self.close()
            return 0
        view = memoryview(buffer)[: self.length]  # no length: up to the end of the connection
        count = self._receive(view)
        if self.length is None:
            if count == 0:
                self.close()
            return count
        if count == 0 and view:
            raise http.client.IncompleteRead(b"", self.length)
        self.length -= count
        if self.length == 0:
            self.close()
        return count

    def _receive(self, view: memoryview) -> int:
        """One receive.  Bytes that came with the head are served alone: asking for more than is
        buffered would wait for the rest, and lose them if that fails."""
        if self._ahead is None:
            self._ahead = len(self.fp.peek())
        if self._ahead > 0:
            view = view[: self._ahead]
        count: int = self.fp.readinto1(view)
        self._ahead = max(0, self._ahead - count)
        return count


class Response:
    """The head of an answer, and its body as a stream.  Close it.

    ``release`` is called once, with whether the connection can serve another request; ``failure``
    turns a network exception into an error.  ``body`` is empty until :meth:`load`.
    """

    def __init__(
        self,
        url: Url,
        raw: http.client.HTTPResponse,
        release: Callable[[bool], None],
        failure: Callable[[BaseException], RemoteError],
    ) -> None:
        self.url = url
        self.status = raw.status
        self.body = b""
        self._raw = raw
        self._release: Callable[[bool], None] | None = release
        self._failure = failure

    def header(self, name: str) -> str | None:
        """The first header of this name; None if there is none."""
        return self._raw.headers.get(name)

    def headers(self, name: str) -> list[str]:
        """All headers of this name."""
        return self._raw.headers.get_all(name) or []

    @property
    def length(self) -> int | None:
        """The announced size of the body (of a HEAD's, too) in bytes; None if it has none."""
        text = (self.header("Content-Length") or "").strip()
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    @property
    def encoding(self) -> str | None:
        """What the body says it was encoded with for the way; None if it was not."""
        text = (self.header("Content-Encoding") or "").strip()
        return None if text.lower() in ("", "identity") else text

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer`` with what is there; 0 at the end.

        Raises RemoteError (retryable) when the connection breaks or the body ends early,
        RemoteTimeoutError when it stalls.
        """
        try:
            count: int = self._raw.readinto(buffer)
        except (OSError, http.client.HTTPException, ValueError) as exc:
            self.close()
            raise self._failure(exc) from exc
        except BaseException:
            self.close()
            raise
        if self._raw.isclosed():
            self.close()
        return count

    def load(self, cap: int, what: str) -> None:
        """Read the whole body into :attr:`body` and close.

        IntegrityError naming ``what`` beyond ``cap`` bytes.
        """
        try:
            if (self.length or 0) > cap:
                raise IntegrityError(f"{what} is {self.length} bytes, more than the limit of {cap}")
            body = self._read_beyond(cap)
            if len(body) > cap:
                raise IntegrityError(f"{what} is larger than the limit of {cap} bytes")
            self.body = bytes(body)
        finally:
            self.close()

    def read_start(self, cap: int) -> bytes:
        """At most ``cap`` bytes of the body; nothing if it cannot be read.  Closes."""
        try:
            return bytes(self._read_beyond(cap)[:cap])
        except RemoteError:
            return b""
        finally:
            self.close()

    def _read_beyond(self, cap: int) -> bytearray:
        """The body, or a little more than ``cap`` bytes of it."""
        buffer = memoryview(bytearray(_DRAIN))
        body = bytearray()
        while len(body) <= cap and (count := self.readinto(buffer)):
            body += buffer[:count]
        return body

    def discard(self) -> None:
        """Close, keeping the connection if only little of the body is left."""
        length = self._raw.length
        if not self._raw.isclosed() and length is not None and length <= _DRAIN:
            self.read_start(_DRAIN)
        self.close()

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else give it up."""
        release, self._release = self._release, None
        if release is not None:
            whole = self._raw.isclosed() or self._raw.length == 0
            self._raw.close()
            release(whole and not self._raw.will_close)
