"""The bytes of an upload, opened where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from kstore.descriptor import Descriptor
from kstore.errors import KstoreError, SizeMismatchError
from kstore.streams import CHUNK, ByteStream

__all__ = ["UploadBody"]

T = TypeVar("T")


class UploadBody:
    """One blob's bytes, through one reused buffer.

    ``failure`` is what the source raised, to tell it from a failure of the registry.
    """

    def __init__(
        self,
        descriptor: Descriptor,
        open_at: Callable[[int], ByteStream],
        progress: Callable[[int], None] | None,
    ) -> None:
        self.failure: KstoreError | None = None
        self._descriptor = descriptor
        self._open_at = open_at
        self._progress = progress
        self._stream: ByteStream | None = None
        self._position = 0

    def chunks(self, start: int, size: int) -> Iterator[memoryview]:
        """``size`` bytes from ``start`` on.  Raises SizeMismatchError if there are fewer."""
        buffer = memoryview(bytearray(min(size, CHUNK)))
        end = start + size
        if self._stream is None or self._position != start:
            self.close()
            self._stream, self._position = self._guarded(lambda: self._open_at(start)), start
        stream = self._stream
        while self._position < end:
            view = buffer[: end - self._position]
            count = self._guarded(lambda: stream.readinto(view)) or 0  # noqa: B023
            if count == 0:
                raise SizeMismatchError(
                    f"{self._descriptor.digest} ended after {self._position} of"
                    f" {self._descriptor.size} bytes"
                )
            self._position += count
            yield buffer[:count]
            if self._progress is not None:
                self._progress(self._position)

    def _guarded(self, action: Callable[[], T]) -> T:
        """Run ``action``, remembering a failure as the source's, not the registry's."""
        try:
            return action()
        except KstoreError as exc:
            self.failure = exc
            raise

    def close(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
