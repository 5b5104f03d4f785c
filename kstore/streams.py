"""Byte streams: verified, limited, cancellable.

Memory stays flat: everything moves through one reused buffer of :data:`CHUNK` bytes per worker.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from kstore.descriptor import Descriptor
from kstore.digest import Digest, Hasher
from kstore.errors import CancelledError, DigestMismatchError, IntegrityError, SizeMismatchError

__all__ = [
    "CHUNK",
    "ByteStream",
    "BytesStream",
    "Cancel",
    "Closing",
    "Readable",
    "VerifiedStream",
    "pump",
    "read_limited",
]

#: Bytes moved at once.
CHUNK = 1 << 20

_POLL = 0.1  # seconds until a sleeper notices a cancel


class Readable(Protocol):
    """Something bytes can be read from, into the caller's buffer."""

    def readinto(self, buffer: memoryview, /) -> int | None:
        """Fill the start of ``buffer``; return the number of bytes, 0 at the end."""
        ...


class ByteStream(Readable, Protocol):
    """A source of bytes with an end; every binary file of the standard library is one."""

    def close(self) -> None: ...


class Cancel:
    """A flag that many threads share: the first failure, or the user, stops all of them.

    A child is cancelled with its parent, but not the other way round.
    """

    def __init__(self, parent: Cancel | None = None) -> None:
        self._asked = False  # a plain flag: setting an Event inside a signal handler can deadlock
        self._parent = parent

    def cancel(self) -> None:
        """Ask everybody to stop; may be called from a signal handler."""
        self._asked = True

    @property
    def cancelled(self) -> bool:
        return self._asked or (self._parent is not None and self._parent.cancelled)

    def check(self) -> None:
        """Raise CancelledError if somebody asked to stop."""
        if self.cancelled:
            raise CancelledError("stopped on request")

    def wait(self, seconds: float) -> None:
        """Sleep, but not past a cancel (noticed within 0.1 s); raises CancelledError then."""
        deadline = time.monotonic() + seconds
        self.check()
        while (rest := deadline - time.monotonic()) > 0:
            time.sleep(min(rest, _POLL))
            self.check()


class Closing:
    """A context manager whose end is ``close``."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class VerifiedStream(Closing):
    """The bytes of one descriptor, and nothing else.

    Reading raises SizeMismatchError as soon as more than ``descriptor.size`` bytes arrive, or fewer
    have arrived at the end, and DigestMismatchError at the end if the bytes are not the ones the
    digest names.  A reader that saw the end without an exception has seen the true bytes.

    ``prefix`` continues a blob of which ``offset`` bytes are held already: it is a hasher that has
    seen exactly these.  ``remedy`` is the hint of these errors.
    """

    def __init__(
        self,
        stream: ByteStream,
        descriptor: Descriptor,
        *,
        offset: int = 0,
        prefix: Hasher | None = None,
        cancel: Cancel | None = None,
        remedy: str | None = None,
    ) -> None:
        self.descriptor = descriptor
        self._remedy = remedy
        self._stream = stream
        self._count = offset
        self._hasher = prefix or Digest.new_hasher(descriptor.digest.algorithm)
        self._cancel = cancel
        self._done = False

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer`` (not empty); 0 only at the verified end."""
        if self._cancel is not None:
            self._cancel.check()
        if self._done:
            return 0
        count = self._stream.readinto(buffer) or 0
        if count == 0:
            self._finish()
            return 0
        self._count += count
        want = self.descriptor
        if self._count > want.size:
            raise SizeMismatchError(
                f"{want.digest} is longer than the declared {want.size} bytes",
                hint=self._remedy,
            )
        self._hasher.update(buffer[:count])
        return count

    def _finish(self) -> None:
        want = self.descriptor
        if self._count != want.size:
            raise SizeMismatchError(
                f"{want.digest} ended after {self._count} of {want.size} declared bytes",
                hint=self._remedy,
            )
        found = Digest.from_hasher(self._hasher, want.digest.algorithm)
        if found != want.digest:
            raise DigestMismatchError(
                f"bytes sent as {want.digest} hash to {found}", hint=self._remedy
            )
        self._done = True

    @property
    def verified(self) -> bool:
        """Whether the end was reached and everything matched."""
        return self._done

    def close(self) -> None:
        self._stream.close()


class BytesStream:
    """Bytes at hand, as a stream."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._rest = self._rest[:0]


def pump(
    stream: Readable,
    sink: Callable[[memoryview], object],
    *,
    cancel: Cancel | None = None,
    chunk: int = CHUNK,
) -> int:
    """Move every byte of ``stream`` into ``sink``; return how many there were."""
    buffer = memoryview(bytearray(chunk))
    total = 0
    while True:
        if cancel is not None:
            cancel.check()
        count = stream.readinto(buffer) or 0
        if count == 0:
            return total
        sink(buffer[:count])
        total += count


def read_limited(stream: Readable, cap: int, what: str) -> bytes:
    """All bytes of ``stream``, which ``what`` names; IntegrityError beyond ``cap`` bytes."""
    result = bytearray()
    buffer = memoryview(bytearray(min(cap + 1, 64 * 1024)))
    while count := stream.readinto(buffer) or 0:
        result += buffer[:count]
        if len(result) > cap:
            raise IntegrityError(f"{what} is larger than the limit of {cap} bytes")
    return bytes(result)
