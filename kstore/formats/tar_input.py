"""The bytes of an archive, counted: no read ends short without saying so."""

from __future__ import annotations

import io
import os
import stat
from typing import Final

from kstore.errors import IntegrityError
from kstore.formats.tar_headers import BLOCK
from kstore.streams import Readable

__all__ = ["TarInput"]

_BUFFER: Final = 64 << 10


class TarInput:
    """A stream behind a small buffer.

    Every method but :meth:`padding` raises IntegrityError, naming ``what``, where the stream ends
    too early.  ``position``: bytes handed out or skipped.
    """

    def __init__(self, stream: Readable, what: str) -> None:
        self.position = 0
        self._stream = stream
        self._what = what
        self._view = memoryview(bytearray(_BUFFER))
        self._low = self._high = 0  # the part of the buffer that is still unread
        self._file = _plain_file(stream)
        self._length = _length(self._file)

    def block(self) -> bytes:
        """The next BLOCK bytes."""
        low = self._low
        if self._high - low < BLOCK:
            self._fill()
            low = 0
        self._low = low + BLOCK
        self.position += BLOCK
        return bytes(self._view[low : low + BLOCK])

    def _fill(self) -> None:
        rest = self._high - self._low
        self._view[:rest] = bytes(self._view[self._low : self._high])
        self._low, self._high = 0, rest
        while self._high < BLOCK:
            count = self._stream.readinto(self._view[self._high :]) or 0
            if count == 0:
                raise self._cut_off(self.position + self._high)
            self._high += count

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; the caller has bounded ``size``."""
        data = bytearray(size)
        view = memoryview(data)
        at = 0
        while at < size:
            at += self.readinto(view[at:])
        return bytes(data)

    def readinto(self, buffer: memoryview) -> int:
        """Fill the start of ``buffer`` (not empty); never 0."""
        count = min(len(buffer), self._high - self._low)
        if count:
            buffer[:count] = self._view[self._low : self._low + count]
            self._low += count
        else:
            count = self._stream.readinto(buffer) or 0
            if count == 0:
                raise self._cut_off(self.position)
        self.position += count
        return count

    def skip(self, count: int) -> None:
        """Leave out ``count`` bytes, by seeking in a plain file."""
        buffered = min(count, self._high - self._low)
        self._low += buffered
        self.position += buffered
        count -= buffered
        if count and self._file is not None:
            # A seek past the end of a file succeeds.
            if self.position + count > self._length:
                raise self._cut_off(self._length)
            self._file.seek(count, os.SEEK_CUR)
            self.position += count
            return
        while count:
            count -= self.readinto(self._view[: min(count, _BUFFER)])

    def padding(self) -> bytes:
        """Some more bytes, or none at the end of the stream."""
        if self._low == self._high:
            self._low, self._high = 0, self._stream.readinto(self._view) or 0
        data = bytes(self._view[self._low : self._high])
        self._low = self._high
        self.position += len(data)
        return data

    def _cut_off(self, position: int) -> IntegrityError:
        return IntegrityError(f"{self._what} is cut off at byte {position}")


def _plain_file(stream: Readable) -> io.FileIO | io.BufferedReader | io.BufferedRandom | None:
    """``stream`` itself if it is a file on a disk: others seek slowly, if at all."""
    if not isinstance(stream, io.FileIO | io.BufferedReader | io.BufferedRandom):
        return None
    raw = stream if isinstance(stream, io.FileIO) else stream.raw
    if not isinstance(raw, io.FileIO) or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None
    return stream


def _length(file: io.FileIO | io.BufferedReader | io.BufferedRandom | None) -> int:
    """Bytes from where ``file`` stands to its end."""
    if file is None:
        return 0
    start = file.tell()
    end = file.seek(0, os.SEEK_END)
    file.seek(start)
    return end - start
