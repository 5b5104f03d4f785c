"""A layer blob out of a tar that comes in."""

from __future__ import annotations

from collections.abc import Callable

from kstore import mediatypes as mt
from kstore.compression import compressor, decompressor, detect
from kstore.digest import Digest
from kstore.errors import IntegrityError, InvalidInputError
from kstore.formats.layer_tar import BLOCK, looks_like_images, looks_like_tar
from kstore.formats.spool import unpacked
from kstore.operations.layer_input import LayerInput
from kstore.streams import CHUNK, ByteStream

__all__ = ["MAX_TAR", "LayerStream"]

#: Largest uncompressed tar taken in, in bytes; a guard against endless input, not a quota.
MAX_TAR = 1 << 42
#: Compressions a layer may have; any other tar is unpacked, and compressed with gzip.
_KEPT = {"gzip": mt.OCI_LAYER_GZIP, "zstd": mt.OCI_LAYER_ZSTD}


class LayerStream(ByteStream):
    """The layer blob made of a tar; knows the diffID once it was read to the end.

    ``limit``: the most bytes the tar may have, unpacked.  ``progress`` is told the size of every
    piece of input.  Raises InvalidInputError for what is no tar, IntegrityError for damage and
    beyond the limit.
    """

    def __init__(
        self,
        source: LayerInput,
        progress: Callable[[int], None] | None = None,
        limit: int = MAX_TAR,
    ) -> None:
        self._name = source.name
        self._limit = limit
        head = _read_block(source)
        if not head:
            raise InvalidInputError(f"{self._name} is empty")
        kind = detect(head)
        kept = _KEPT.get(kind)
        self.media_type = kept or mt.OCI_LAYER_GZIP
        self._input = _Recorder(head, source, progress)
        self._tar = (
            unpacked(kind, self._input)
            if kind not in ("none", *_KEPT)
            else decompressor(kind, self._input, max_output=MAX_TAR)
        )
        self._compressor = None if kept else compressor("gzip", None)
        self._hasher = Digest.new_hasher()
        self._start = b""
        self._size = 0
        self._ready = bytearray()
        self._ended = False
        self._buffer = memoryview(bytearray(CHUNK))

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed tar."""
        assert self._ended, "read to the end first"
        return Digest.from_hasher(self._hasher)

    @property
    def looks_like_images(self) -> bool:
        """Whether the tar may be an archive of images, as far as it was read."""
        return looks_like_images(self._start)

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._ready and not self._ended:
            self._step()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        del self._ready[:count]
        return count

    def _step(self) -> None:
        """Move one chunk of tar; the blob gets it compressed, or as it came in."""
        try:
            count = self._tar.readinto(self._buffer) or 0
        except IntegrityError as exc:
            raise IntegrityError(f"{self._name} cannot be unpacked: {exc.message}") from exc
        chunk = self._buffer[:count]
        self._hasher.update(chunk)
        self._ended = count == 0
        self._check(chunk)
        came_in = self._input.take(to_end=self._ended)
        if self._compressor is None:
            self._ready += came_in
        else:
            self._ready += self._compressor.update(chunk)
            if self._ended:
                self._ready += self._compressor.finish()

    def _check(self, chunk: memoryview) -> None:
        if len(self._start) < BLOCK:
            self._start += bytes(chunk[: BLOCK - len(self._start)])
            enough = len(self._start) == BLOCK or self._ended
            if enough and not looks_like_tar(self._start):
                raise InvalidInputError(f"{self._name} is not a tar archive")
        self._size += len(chunk)
        if self._size > self._limit:
            raise IntegrityError(
                f"{self._name} is larger than the limit of {self._limit} bytes, unpacked",
                hint="--max-size sets another limit",
            )
        if self._ended and self._size % BLOCK:
            raise InvalidInputError(f"{self._name} is a tar archive that was cut off")

    def close(self) -> None:
        """Whoever opened the input closes it."""


class _Recorder(ByteStream):
    """An input whose first block was read already; remembers what passed through."""

    def __init__(
        self, head: bytes, source: LayerInput, progress: Callable[[int], None] | None
    ) -> None:
        self._head = head
        self._source = source
        self._progress = progress
        self._passed = bytearray()

    def readinto(self, buffer: memoryview, /) -> int:
        if self._head:
            count = min(len(buffer), len(self._head))
            buffer[:count] = self._head[:count]
            self._head = self._head[count:]
        else:
            count = self._source.readinto(buffer)
        self._passed += buffer[:count]
        if self._progress is not None:
            self._progress(count)
        return count

    def take(self, *, to_end: bool) -> bytes:
        """What passed since the last call; ``to_end`` adds what no reader asked for."""
        if to_end:
            scratch = memoryview(bytearray(CHUNK))
            while self.readinto(scratch):
                pass
        passed, self._passed = bytes(self._passed), bytearray()
        return passed

    def close(self) -> None:
        """Whoever opened the input closes it."""


def _read_block(source: LayerInput) -> bytes:
    """The first block, also from a pipe that delivers it in pieces."""
    block = bytearray(BLOCK)
    view, filled = memoryview(block), 0
    while filled < BLOCK and (count := source.readinto(view[filled:])):
        filled += count
    return bytes(block[:filled])
