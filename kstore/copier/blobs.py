"""Blobs as destinations see them: from the source, or made on the way; always verified."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from kstore.copier.progress import Event, EventKind, ProgressSink
from kstore.descriptor import Descriptor
from kstore.digest import Hasher
from kstore.errors import BlobNotFoundError, IntegrityError, StoreDamagedError, UnsupportedError
from kstore.interfaces import BlobFeed, BlobOpener, BlobSource
from kstore.mediatypes import is_foreign_layer
from kstore.streams import BytesStream, ByteStream, Cancel, Closing, VerifiedStream

__all__ = ["MadeBytes", "MadeFeed", "OtherBytesError", "SourceFeed"]

#: Seconds between two progress events of one blob.
_REPORT_INTERVAL = 0.1


class SourceFeed(Closing, BlobFeed):
    """One blob of the source, verified on the way to the destination."""

    def __init__(
        self, source: BlobOpener, blob: Descriptor, progress: ProgressSink, cancel: Cancel
    ) -> None:
        self._source = source
        self._blob = blob
        self._progress = progress
        self._cancel = cancel
        self._opened: BlobSource | None = None
        self._stream: VerifiedStream | None = None
        self._done = 0
        self._reported = 0.0
        self._resumed = False
        self._spliced = False  # another try was made because of that

    def start(
        self, offset: int = 0, prefix: Hasher | None = None, validator: str | None = None
    ) -> int:
        self.close()
        self._cancel.check()
        self._done = offset
        opened = self._open(offset, validator)
        self._opened = opened
        resumed = offset > 0 and opened.offset == offset
        self._resumed = resumed
        self._done = offset if resumed else 0
        self._stream = VerifiedStream(
            opened,
            self._blob,
            offset=self._done,
            prefix=prefix if resumed else None,
            cancel=self._cancel,
            remedy=self._source.remedy,
        )
        self._emit("start")
        return self._done

    def _open(self, offset: int, validator: str | None) -> BlobSource:
        blob = self._blob
        try:
            return self._source.open_blob(blob, offset, validator, self._lost)
        except (BlobNotFoundError, StoreDamagedError) as error:
            if not is_foreign_layer(blob.media_type):
                raise
            raise UnsupportedError(
                f"layer {blob.digest} is not distributed with the image, and the source does not"
                " hold it; kstore never fetches from the external addresses of a layer"
            ) from error

    @property
    def validator(self) -> str | None:
        return self._opened.validator if self._opened else None

    def refute(self) -> bool:
        if self._resumed:
            return True  # what was held before may be what is wrong
        if (why := self._source.refute(self._blob.digest)) is not None:
            self._lost(why)
            return True
        again = self._opened is not None and self._opened.spliced and not self._spliced
        self._spliced = True
        return again

    def retrying(self, why: str) -> None:
        blob = self._blob
        self._progress(Event("retry", blob.digest, size=blob.size, text=why))

    def waiting(self, pid: int | None) -> None:
        self._cancel.check()
        self._progress(Event("wait", digest=self._blob.digest, size=self._blob.size, pid=pid))

    def readinto(self, buffer: memoryview, /) -> int:
        assert self._stream is not None, "start() comes first"
        count = self._stream.readinto(buffer)
        self._done += count
        now = time.monotonic()
        if now - self._reported >= _REPORT_INTERVAL:
            self._reported = now
            self._emit("advance")
        return count

    def _lost(self, why: str) -> None:
        """The source's connection was lost, or has brought wrong bytes."""
        self._emit("retry", why)

    def _emit(self, kind: EventKind, text: str | None = None) -> None:
        blob = self._blob
        self._progress(Event(kind, blob.digest, size=blob.size, done=self._done, text=text))

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class OtherBytesError(IntegrityError):
    """What was made is another blob than the one that was expected; stays inside the copier."""


class Made(Protocol):
    """A blob that was made here; ``open`` gives its bytes from an offset on."""

    @property
    def blob(self) -> Descriptor: ...

    def open(self, offset: int) -> ByteStream: ...


class MadeBytes:
    """A small blob at hand."""

    def __init__(self, blob: Descriptor, data: bytes) -> None:
        self.blob = blob
        self._data = data

    def open(self, offset: int) -> ByteStream:
        return BytesStream(self._data[offset:])


class MadeFeed(Closing, BlobFeed):
    """A blob made here, as late as possible: a destination that has it never asks.

    Starting raises OtherBytesError when what ``make`` gives is not ``expected``.
    """

    validator: str | None = None

    def __init__(
        self,
        make: Callable[[], Made],
        expected: Descriptor,
        progress: ProgressSink,
        cancel: Cancel,
    ) -> None:
        self._make = make
        self._blob = expected
        self._progress = progress
        self._cancel = cancel
        self._stream: VerifiedStream | None = None

    def start(
        self, offset: int = 0, prefix: Hasher | None = None, validator: str | None = None
    ) -> int:
        made = self._make()
        if (made.blob.digest, made.blob.size) != (self._blob.digest, self._blob.size):
            raise OtherBytesError(f"blob {made.blob.digest} was made, not {self._blob.digest}")
        if prefix is None:
            offset = 0
        self._stream = VerifiedStream(
            made.open(offset), self._blob, offset=offset, prefix=prefix, cancel=self._cancel
        )
        return offset

    def refute(self) -> bool:
        return False

    def retrying(self, why: str) -> None:
        self._progress(Event("retry", self._blob.digest, size=self._blob.size, text=why))

    def waiting(self, pid: int | None) -> None:
        self._cancel.check()
        self._progress(Event("wait", self._blob.digest, size=self._blob.size, pid=pid))

    def readinto(self, buffer: memoryview, /) -> int:
        assert self._stream is not None, "start() comes first"
        return self._stream.readinto(buffer)

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
