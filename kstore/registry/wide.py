"""A large blob over several connections, where one alone is slow.

Many registries and the networks before them limit the speed of a connection.  A fast one is left
alone: pieces cost a request each, and gain nothing where the disk or the processor is the limit.

Source: RFC 9110 section 14 (ranges).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import KstoreError, RemoteError
from kstore.registry.settings import RegistrySettings
from kstore.streams import Closing

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

__all__ = ["WORTHWHILE", "Opened", "WideDownload", "WideLane"]

#: Bytes of one piece; with the connections' number this bounds the memory of a wide download.
PIECE = 4 << 20
#: Blobs with less than this left, in bytes, are not worth more connections.
WORTHWHILE = 5 * PIECE


class Opened(Protocol):
    """A blob download from somewhere on (``BlobDownload``)."""

    @property
    def offset(self) -> int: ...

    @property
    def validator(self) -> str | None: ...

    @property
    def spliced(self) -> bool: ...

    def readinto(self, buffer: memoryview, /) -> int: ...

    def close(self) -> None: ...


class WideLane:
    """Lets one download of a client be wide at a time, which bounds memory and connections.

    Pieces may come from mirrors that disagree.  So a blob that was wide, and is asked for from its
    start again, is not widened a second time: who asks got wrong bytes, or none.
    """

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._tried: set[Digest] = set()

    def may_widen(self, digest: Digest, offset: int) -> bool:
        """Whether a download that begins at ``offset`` may become wide when its turn comes."""
        return offset > 0 or digest not in self._tried

    def enter(self, digest: Digest) -> bool:
        """Take the turn for a blob; False while another download has it."""
        if not self._busy.acquire(blocking=False):
            return False
        self._tried.add(digest)
        return True

    def leave(self) -> None:
        """Give the turn back."""
        self._busy.release()

    @property
    def taken(self) -> bool:
        return self._busy.locked()


class WideDownload(Closing):
    """A download of ``blob`` that begins as one stream and widens if that is slow.

    ``reopen(start, end, validator)`` opens a piece.  The turn in ``lane`` is given back on
    :meth:`close`.  Bytes come out in order.  When a piece cannot be had, the rest comes as one
    stream again.
    """

    def __init__(
        self,
        first: Opened,
        blob: Descriptor,
        reopen: Callable[[int, int | None, str | None], Opened],
        settings: RegistrySettings,
        lane: WideLane,
    ) -> None:
        self.offset = first.offset
        self.validator = first.validator
        self._stream: Opened | None = first
        self._digest = blob.digest
        self._size = blob.size
        self._reopen = reopen
        self._settings = settings
        self._lane = lane
        self._position = first.offset
        self._started = time.monotonic()
        self._may_widen = settings.connections > 1 and lane.may_widen(blob.digest, first.offset)
        self._boundary = blob.size + 1  # where the stream ends and the pieces begin
        self._widened = False
        self._pool: ThreadPoolExecutor | None = None
        self._pieces: deque[Future[memoryview]] = deque()
        self._next = 0  # where the piece after the last one asked for begins
        self._taken = 0  # bytes of the first piece that were delivered
        self._stopping = False

    @property
    def spliced(self) -> bool:
        """Whether the bytes came in more than one answer: every piece is one."""
        return self._widened or (self._stream is not None and self._stream.spliced)

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; 0 at the end.  Raises what a single stream raises."""
        if self._may_widen and self._is_slow():
            self._widen()
        if self._stream is not None and self._position < self._boundary:
            count = self._stream.readinto(buffer[: self._boundary - self._position])
            self._position += count
            return count
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        return self._read_piece(buffer)

    def _is_slow(self) -> bool:
        taken = time.monotonic() - self._started
        if taken < self._settings.slow_after:
            return False
        self._may_widen = False  # asked once: a stream that began fast stays one
        moved = self._position - self.offset
        left = self._size - self._position
        slow = moved < self._settings.slow_speed * taken and left >= WORTHWHILE
        return slow and self._lane.enter(self._digest)

    def _widen(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._widened = True
        count = self._settings.connections
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="piece")
        self._boundary = self._next = self._position + PIECE
        for _ in range(count):
            self._submit()

    def _submit(self) -> None:
        start, end = self._next, min(self._next + PIECE, self._size)
        if self._pool is not None and start < end:
            self._next = end
            self._pieces.append(self._pool.submit(self._fetch, start, end))

    def _fetch(self, start: int, end: int) -> memoryview:
        piece = self._reopen(start, end, self.validator)
        try:
            if piece.offset != start:
                raise RemoteError("the registry does not send ranges")
            data = memoryview(bytearray(end - start))
            done = 0
            while done < len(data) and not self._stopping:
                count = piece.readinto(data[done:])
                if count == 0:
                    raise RemoteError("a range ended too early")
                done += count
            return data
        finally:
            piece.close()

    def _read_piece(self, buffer: memoryview) -> int:
        if not self._pieces:
            return 0
        try:
            data = self._pieces[0].result()
        except KstoreError:
            self._narrow()
            return self.readinto(buffer)
        count = min(len(buffer), len(data) - self._taken)
        buffer[:count] = data[self._taken : self._taken + count]
        self._taken += count
        self._position += count
        if self._taken == len(data):
            self._taken = 0
            self._pieces.popleft()
            self._submit()
        return count

    def _narrow(self) -> None:
        """Go on as one stream, which has its own patience with the registry."""
        self._stop_pieces()
        self._boundary = self._size + 1
        self._taken = 0
        self._stream = self._reopen(self._position, None, self.validator)
        if self._stream.offset != self._position:
            raise RemoteError("the registry stopped sending ranges", retryable=True)

    def _stop_pieces(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            self._stopping = True
            pool.shutdown(wait=True, cancel_futures=True)
            self._stopping = False
            self._pieces.clear()
            self._lane.leave()

    def close(self) -> None:
        self._stop_pieces()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
