"""A layer blob out of a tar that is made here."""

from __future__ import annotations

from collections.abc import Callable

from kstore.compression import Kind, compressor
from kstore.digest import Digest
from kstore.streams import CHUNK, ByteStream, Cancel, Readable

__all__ = ["PackedLayer"]


class PackedLayer(ByteStream):
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
        self._tar = tar
        self._compressor = compressor(kind, level)
        self._progress = progress
        self._cancel = cancel
        self._hasher = Digest.new_hasher()
        self._chunk = memoryview(bytearray(CHUNK))
        self._ready = memoryview(b"")
        self._ended = False

    @property
    def diff_id(self) -> Digest:
        """The digest of the tar."""
        assert self._ended, "read to the end first"
        return Digest.from_hasher(self._hasher)

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._ready and not self._ended:
            self._ready = memoryview(self._step())
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _step(self) -> bytes:
        if self._cancel is not None:
            self._cancel.check()
        chunk = self._chunk[: self._tar.readinto(self._chunk) or 0]
        if not chunk:
            self._ended = True
            return self._compressor.finish()
        self._hasher.update(chunk)
        if self._progress is not None:
            self._progress(len(chunk))
        return self._compressor.update(chunk)

    def close(self) -> None:
        """Whoever opened the tar closes it."""
