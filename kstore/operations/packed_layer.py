"""A layer blob out of a tar that is made here."""

from __future__ import annotations

from collections.abc import Callable

from kstore.compression import Kind, pieces
from kstore.copier.packing import Crew, Seen, packed
from kstore.digest import Digest
from kstore.streams import ByteStream, Cancel, Closing, Readable

__all__ = ["PackedLayer"]


class PackedLayer(Closing, ByteStream):
    """``tar`` compressed, as a stream; ``tar`` is trusted, and stays open.

    ``progress`` is told the size of every piece of the tar.  Reading raises what ``tar`` does, and
    CancelledError.
    """

    def __init__(
        self,
        tar: Readable,
        kind: Kind,
        level: int | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._seen = Seen(hashed=True)
        self._crew = Crew()
        source = _Watched(tar, progress, cancel)
        self._pieces = packed(source, pieces(kind, level), self._seen, self._crew)
        self._ready = memoryview(b"")
        self._ended = False

    @property
    def diff_id(self) -> Digest:
        """The digest of the tar."""
        assert self._ended, "read to the end first"
        return self._seen.digest

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._ready and not self._ended:
            piece = next(self._pieces, None)
            self._ended = piece is None
            self._ready = memoryview(piece or b"")
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """End the threads; whoever opened the tar closes it."""
        self._crew.close()


class _Watched(Readable):
    """A stream whose reader can be stopped, and somebody hears how far it is."""

    def __init__(
        self, tar: Readable, progress: Callable[[int], None] | None, cancel: Cancel | None
    ) -> None:
        self._tar = tar
        self._progress = progress
        self._cancel = cancel

    def readinto(self, buffer: memoryview, /) -> int:
        if self._cancel is not None:
            self._cancel.check()
        count = self._tar.readinto(buffer) or 0
        if count and self._progress is not None:
            self._progress(count)
        return count
