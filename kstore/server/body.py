"""Request bodies: of known length, or in chunks.

Source: RFC 9112 sections 6 and 7.1.
"""

from __future__ import annotations

import re

from kstore.server.responses import bad_request
from kstore.server.wire import Wire

__all__ = ["Body"]

_MAX_CHUNK_LINE = 1024
_MAX_TRAILERS = 20
#: Bytes of an unwanted body that are read away to keep a connection alive.
_DRAIN = 64 * 1024
_HEX_NUMBER = re.compile(r"[0-9A-Fa-f]{1,15}", re.ASCII)


class Body:
    """A request's body as a byte stream; ``size`` is None for chunked transfer coding.

    A client that waits for permission to send (``Expect: 100-continue``) gets it with the first
    read.  Raises Refusal for broken chunks, Disconnected when the client stops in the middle.
    """

    def __init__(self, wire: Wire, size: int | None, *, chunked: bool, expects: bool) -> None:
        self.size = None if chunked else (size or 0)
        self.received = 0
        self._wire = wire
        self._chunked = chunked
        self._rest = 0 if chunked else (size or 0)
        self._first = True
        self._done = not chunked and not size
        self._waiting = expects and not self._done

    def readinto(self, buffer: memoryview, /) -> int:
        if self._waiting:
            self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._waiting = False
        if self._chunked and self._rest == 0 and not self._done:
            self._next_chunk()
        if self._done or not buffer:
            return 0
        count = self._wire.readinto(buffer[: self._rest])
        self._rest -= count
        self.received += count
        if self._rest == 0 and not self._chunked:
            self._done = True
        return count

    @property
    def unread(self) -> bool:
        """Whether the client may still send, or be sending, bytes of this body."""
        return not self._done

    def drain(self) -> bool:
        """Read away a short rest; whether the connection can carry another request."""
        if self._done:
            return True
        if self._waiting or self._chunked or self._rest > _DRAIN:
            return False
        waste = memoryview(bytearray(_DRAIN))
        while self.readinto(waste):
            pass
        return True

    def close(self) -> None:
        """Nothing is held; the connection decides what to do with unread bytes."""

    def _next_chunk(self) -> None:
        if not self._first and self._wire.readline(2) not in (b"\r\n", b"\n"):
            raise bad_request("a chunk of the body does not end where it should")
        self._first = False
        line = self._wire.readline(_MAX_CHUNK_LINE)
        size = line.partition(b";")[0].strip().decode("latin-1")
        if not line.endswith(b"\n") or _HEX_NUMBER.fullmatch(size) is None:
            raise bad_request("a chunk of the body has no valid size")
        self._rest = int(size, 16)
        if self._rest == 0:
            self._skip_trailers()
            self._done = True

    def _skip_trailers(self) -> None:
        for _ in range(_MAX_TRAILERS):
            line = self._wire.readline(_MAX_CHUNK_LINE)
            if line in (b"\r\n", b"\n"):
                return
            if not line.endswith(b"\n"):
                break
        raise bad_request("the body has too many trailers")
