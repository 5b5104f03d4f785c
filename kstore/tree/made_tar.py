"""A tar that is made while it is read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator

from kstore.formats.layer_tar import TarWriter
from kstore.streams import CHUNK, Closing

__all__ = ["MadeTar"]


class MadeTar(Closing):
    """What :meth:`_archive` writes, as a stream."""

    def __init__(self) -> None:
        self._ready = bytearray()
        self._writer = TarWriter(self._ready.extend)
        self._buffer = memoryview(bytearray(CHUNK))
        self._steps = self._archive()

    @abstractmethod
    def _archive(self) -> Generator[None, None, None]:
        """Write the archive, a piece with every step."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; return the number of bytes, 0 at the end."""
        while not self._ready and next(self._steps, self) is not self:
            pass
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        del self._ready[:count]
        return count

    def close(self) -> None:
        self._steps.close()
