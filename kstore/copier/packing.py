"""Compressing one stream with several cores, in pieces that do not depend on each other.

The same bytes and level give the same result, however many threads there are.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from kstore.compression import Pieces, deflate_library
from kstore.digest import Digest
from kstore.streams import Closing, Readable

__all__ = ["Crew", "Seen", "packed"]

T = TypeVar("T")


class Crew(Closing):
    """Threads, one for each core, that work for all layers; started when there is work."""

    def __init__(self) -> None:
        self.size = len(os.sched_getaffinity(0))
        self._started = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, work: Callable[[bytearray], T], piece: bytearray) -> Future[T]:
        """Let somebody do a piece of work; workers never wait for each other."""
        with self._started:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.size, thread_name_prefix="pack")
        return self._pool.submit(work, piece)

    def close(self) -> None:
        """Wait until everybody is done."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Seen:
    """What is to be known about all plain bytes."""

    def __init__(self, *, hashed: bool) -> None:
        self.crc = self.length = 0
        self._library = deflate_library()
        self._hasher = Digest.new_hasher() if hashed else None

    def update(self, piece: bytearray) -> None:
        self.crc = self._library.crc32(piece, self.crc)
        self.length += len(piece)
        if self._hasher is not None:
            self._hasher.update(piece)

    @property
    def digest(self) -> Digest:
        assert self._hasher is not None, "hashed"
        return Digest.from_hasher(self._hasher)


def packed(plain: Readable, method: Pieces, seen: Seen, crew: Crew) -> Iterator[bytes]:
    """``plain`` compressed, piece by piece; ``seen`` has seen all of it at the end.

    Every piece is looked at in order, packed by whoever has time, and given in order.
    """
    looking: Future[None] | None = None
    packing: deque[Future[bytes]] = deque()
    yield method.head
    while piece := _whole(plain, method.size):
        if looking is not None:
            looking.result()
        looking = crew.submit(seen.update, piece)
        packing.append(crew.submit(method.pack, piece))
        if len(packing) > crew.size + 1:  # everybody has one, and the next is there
            yield packing.popleft().result()
    while packing:
        yield packing.popleft().result()
    if looking is None:
        yield method.pack(b"")  # an empty layer is one piece, too
    else:
        looking.result()
    yield method.tail(seen.crc, seen.length)


def _whole(plain: Readable, size: int) -> bytearray:
    """The next ``size`` bytes; fewer only at the end."""
    piece = bytearray(size)
    view, filled = memoryview(piece), 0
    while filled < size and (count := plain.readinto(view[filled:]) or 0):
        filled += count
    view.release()
    del piece[filled:]
    return piece
