"""A layer in another compression, made in a temporary file while everything is counted and hashed.

The result is known before a destination sees it, so that every destination works the same, and can
start again.  One layer keeps several cores busy: its own thread reads, checks and unpacks, a crew
shared by all layers hashes and packs pieces.  The same layer and level give the same bytes, however
many threads there are.

The file has no name, so that there is nothing to clean up, whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from kstore.blobs import storage_errors
from kstore.compression import decompressor, detect, pieces
from kstore.copier.jobs import Change
from kstore.copier.packing import Crew, Seen, packed
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import DigestMismatchError
from kstore.streams import ByteStream, Closing, Readable, pump

__all__ = ["Spool", "make_spool", "spool_directory"]

#: A layer may unpack to this many bytes whatever its own size ...
FREE_BYTES = 4 << 30
#: ... and to this many times its own size beyond that.
MAX_RATIO = 250

_MAGIC_BYTES = 6


def spool_directory() -> Path:
    """Where large temporary files belong: on disk, where the machine has such a place."""
    import tempfile  # here, because most copies change nothing, and starting fast is a feature

    large = Path("/var/tmp")  # noqa: S108 - files there have no names
    return large if large.is_dir() else Path(tempfile.gettempdir())


class Spool(Closing):
    """A finished layer in a temporary file.

    ``blob`` is what it is (its media type is that of the manifest it will stand in), ``kind`` how
    it is compressed, ``diff_id`` what it unpacks to, ``source_kind`` how it was compressed before.
    """

    def __init__(
        self, file: BinaryIO, blob: Descriptor, kind: str, diff_id: Digest, source_kind: str
    ) -> None:
        self._file = file
        self.blob = blob
        self.kind = kind
        self.diff_id = diff_id
        self.source_kind = source_kind

    def open(self, offset: int) -> ByteStream:
        """The bytes from ``offset`` on; one reader at a time."""
        with storage_errors("read a temporary file"):
            self._file.seek(offset)
        return _SpooledBytes(self._file)

    def close(self) -> None:
        self._file.close()


class _SpooledBytes(ByteStream):
    """A temporary file being read; closing leaves the file open."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def readinto(self, buffer: memoryview, /) -> int:
        with storage_errors("read a temporary file"):
            return self._file.readinto(buffer)  # type: ignore[attr-defined,no-any-return]

    def close(self) -> None:
        """The spool owns the file."""


def make_spool(
    stream: Readable, layer: Descriptor, change: Change, directory: Path, crew: Crew
) -> Spool:
    """Read ``layer`` from ``stream``, which checks its bytes, and change it.

    Raises DigestMismatchError if it does not unpack to what the config says, IntegrityError for
    damaged compression or one that unpacks to absurdly much, UnsupportedError, StorageError, and
    what reading raises; nothing is left behind then.
    """
    import tempfile

    with storage_errors(f"make a temporary file in {directory}"):
        file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - is kept
    try:
        work = _Work(layer, change, directory, file, crew)
        return work.kept(stream) if change.compression is None else work.packed(stream)
    except BaseException:
        file.close()
        raise


class _Work:
    """One layer on its way into a temporary file."""

    def __init__(
        self, layer: Descriptor, change: Change, directory: Path, file: BinaryIO, crew: Crew
    ) -> None:
        self._layer = layer
        self._change = change
        self._what = f"write a temporary file in {directory}"
        self._file = file
        self._crew = crew
        self._size = 0

    def kept(self, stream: Readable) -> Spool:
        """The bytes as they are; only what they unpack to is found out."""
        kind, plain = self._unpacked(_Tee(stream, self._write))
        hasher = Digest.new_hasher()
        pump(plain, hasher.update)
        self._drain(stream)
        blob = Descriptor(self._change.media_type(kind), self._layer.digest, self._layer.size)
        return Spool(self._file, blob, kind, self._checked(Digest.from_hasher(hasher)), kind)

    def packed(self, stream: Readable) -> Spool:
        """The layer compressed anew."""
        kind = str(self._change.compression)
        source_kind, plain = self._unpacked(stream)
        made = Digest.new_hasher()
        # A plain layer's digest is its diffID, and whoever reads it checks that.
        same = source_kind == "none" and self._layer.digest.algorithm == "sha256"
        seen = Seen(hashed=not same)
        for data in packed(plain, pieces(kind, self._change.level), seen, self._crew):
            made.update(data)
            self._write(memoryview(data))
        self._drain(stream)
        diff_id = self._checked(self._layer.digest if same else seen.digest)
        blob = Descriptor(self._change.media_type(kind), Digest.from_hasher(made), self._size)
        return Spool(self._file, blob, kind, diff_id, source_kind)

    def _unpacked(self, stream: Readable) -> tuple[str, ByteStream]:
        """How the layer is compressed, by its own bytes, and what it unpacks to."""
        head = _Head(stream)
        kind = detect(head.peek(_MAGIC_BYTES))
        if kind == "none":
            return kind, head
        limit = max(FREE_BYTES, MAX_RATIO * self._layer.size)
        return kind, decompressor(kind, head, max_output=limit)

    def _write(self, view: memoryview) -> None:
        self._size += len(view)
        with storage_errors(self._what):
            while view:
                view = view[self._file.write(view) :]

    def _drain(self, stream: Readable) -> None:
        """See the source's end, and with it that its bytes were the true ones."""
        pump(stream, lambda view: None, chunk=1024)

    def _checked(self, diff_id: Digest) -> Digest:
        wanted = self._change.diff_id
        if wanted is not None and wanted.algorithm == "sha256" and wanted != diff_id:
            raise DigestMismatchError(
                f"layer {self._layer.digest} unpacks to {diff_id}, but the config says {wanted}"
            )
        return diff_id


class _Head(ByteStream):
    """A stream whose first bytes may be looked at in advance."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._first = b""

    def peek(self, count: int) -> bytes:
        buffer = memoryview(bytearray(count))
        while len(self._first) < count:
            got = self._stream.readinto(buffer[: count - len(self._first)]) or 0
            if got == 0:
                break
            self._first += bytes(buffer[:got])
        return self._first

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._first:
            return self._stream.readinto(buffer) or 0
        count = min(len(buffer), len(self._first))
        buffer[:count] = self._first[:count]
        self._first = self._first[count:]
        return count

    def close(self) -> None:
        """The stream belongs to the caller."""


class _Tee(Readable):
    """A stream of which everything read is also written somewhere."""

    def __init__(self, stream: Readable, write: Callable[[memoryview], None]) -> None:
        self._stream = stream
        self._write = write

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._stream.readinto(buffer) or 0
        self._write(buffer[:count])
        return count
