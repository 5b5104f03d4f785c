"""gzip, zstd and none: bounded decompression, streaming compression, detection.

Decompression never yields more than it is allowed to, wants every stream's end (its checksum
included) and refuses anything after it, so that two readers cannot see two different layers.

Sources: RFC 1952 (gzip, section 2.2: several members), RFC 8878 (zstd, section 3.1: frames and
blocks).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Protocol

from kstore.errors import IntegrityError, UnsupportedError
from kstore.streams import ByteStream
from kstore.values import dataclass

__all__ = ["Compressor", "Kind", "Pieces", "compressor", "decompressor", "deflate_library"]
__all__ += ["detect", "pieces"]

Kind = Literal["none", "gzip", "zstd"]

_INPUT = 256 * 1024
_OUTPUT = 1 << 20
_GZIP = 16 + zlib.MAX_WBITS
#: Largest zstd window accepted, in bytes: what the zstd program takes by default.
_ZSTD_WINDOW = 128 << 20
_ZSTD_MAGIC = 0xFD2FB528
_ZSTD_SKIPPABLE = 0x184D2A50
_RLE_BLOCK, _RESERVED_BLOCK = 1, 3
_MAX_BLOCK = 128 * 1024
_ISAL_LEVELS = 3
#: No name, no time, unknown system: the same bytes whenever and wherever.
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
#: An empty deflate block that says it is the last one.
_LAST_BLOCK = b"\x03\x00"

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


def detect(first_bytes: bytes) -> str:
    """``gzip``, ``zstd``, ``xz``, ``bzip2`` or ``none``, judged by the first bytes (6 or more)."""
    for magic, kind in _MAGIC:
        if first_bytes.startswith(magic):
            return kind
    if len(first_bytes) >= 4 and _is_skippable(struct.unpack("<I", first_bytes[:4])[0]):
        return "zstd"
    return "none"


def decompressor(kind: str, stream: ByteStream, *, max_output: int) -> ByteStream:
    """The plain bytes of ``stream``, at most ``max_output`` of them.

    Reading raises IntegrityError when the data is damaged, ends early, goes on after its end, or
    unpacks to more.  Closing closes ``stream``.  UnsupportedError for another ``kind``.
    """
    if kind == "none":
        return _Bounded(_Plain(stream), stream, max_output)
    if kind == "gzip":
        return _Bounded(_Gunzip(stream), stream, max_output)
    if kind == "zstd":
        return _Bounded(_Unzstd(stream), stream, max_output)
    raise UnsupportedError(f"compression {kind!r:.40} is not supported (gzip, zstd and none are)")


class _Decoder(Protocol):
    """``read``: the next plain bytes, some MiB at most; empty only at the end."""

    def read(self, wanted: int) -> bytes | memoryview: ...


class _Bounded:
    """A decoder as a stream with a limit."""

    def __init__(self, decoder: _Decoder, stream: ByteStream, max_output: int) -> None:
        self._decoder = decoder
        self._stream = stream
        self._max = max_output
        self._total = 0
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        if not self._rest:
            self._rest = memoryview(self._decoder.read(len(buffer)))
            self._total += len(self._rest)
            if self._total > self._max:
                raise IntegrityError(f"compressed data unpacks to more than {self._max} bytes")
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        self._stream.close()


class _Plain:
    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = memoryview(bytearray(_INPUT))

    def read(self, wanted: int) -> memoryview:
        count = self._stream.readinto(self._buffer[: min(wanted, _INPUT)]) or 0
        return self._buffer[:count]


class _Gunzip:
    """gzip, of one member or several; zeros after the last are padding."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._buffer = memoryview(bytearray(_INPUT))
        self._module = deflate_library()
        self._member: Any = None
        self._input = b""
        self._members = 0

    def read(self, wanted: int) -> bytes:
        while True:
            if self._member is None and not self._next_member():
                return b""
            if not self._input and not self._fill():
                raise IntegrityError("gzip data ends early")
            try:
                plain = self._member.decompress(self._input, min(max(wanted, 1), _OUTPUT))
            except self._module.error as exc:
                raise IntegrityError(f"gzip data is damaged: {exc}") from exc
            self._input = self._member.unconsumed_tail
            if self._member.eof:
                self._input = self._member.unused_data
                self._member = None
            if plain:
                return bytes(plain)

    def _fill(self) -> bool:
        count = self._stream.readinto(self._buffer) or 0
        self._input = bytes(self._buffer[:count])
        return count > 0

    def _next_member(self) -> bool:
        """Start a member; False at the end of everything."""
        if not self._input and not self._fill():
            if self._members == 0:
                raise IntegrityError("gzip data is empty")
            return False
        if self._members and self._input[0] == 0:
            self._skip_padding()
            return False
        self._member = self._module.decompressobj(wbits=_GZIP)
        self._members += 1
        return True

    def _skip_padding(self) -> None:
        while True:
            if self._input.strip(b"\x00"):
                raise IntegrityError("gzip data is followed by something else")
            if not self._fill():
                return


class _Unzstd:
    """zstd frames, fed to the decoder block by block: a block unpacks to 128 KiB at most, so the
    output stays bounded whatever the input claims, and a missing end cannot go unnoticed."""

    def __init__(self, stream: ByteStream) -> None:
        try:
            import zstandard
        except ImportError as exc:
            raise UnsupportedError("zstd needs the Python package zstandard") from exc
        self._zstd = zstandard
        self._source = _Exactly(stream, "zstd data ends early")
        self._frame: Any = None
        self._checksum = 0
        self._frames = 0

    def read(self, wanted: int) -> bytes:
        del wanted  # a block is what it is
        while True:
            if self._frame is None and not self._next_frame():
                return b""
            if self._frame is not None and (plain := self._block()):
                return plain

    def _next_frame(self) -> bool:
        """Start a frame, or skip a skippable one; False at the end of everything."""
        magic = self._source.take_or_end(4)
        if not magic:
            if self._frames == 0:
                raise IntegrityError("zstd data is empty")
            return False
        (number,) = struct.unpack("<I", magic)
        if _is_skippable(number):
            (size,) = struct.unpack("<I", self._source.take(4))
            while size:
                size -= len(self._source.take(min(size, _INPUT)))
            return True
        if number != _ZSTD_MAGIC:
            raise IntegrityError(
                "zstd data is followed by something else" if self._frames else "not zstd data"
            )
        header = magic + self._source.take(1)
        header += self._source.take(_zstd_header_rest(header[4]))
        try:
            facts = self._zstd.get_frame_parameters(header)
            if facts.window_size > _ZSTD_WINDOW:
                raise IntegrityError(
                    f"zstd data needs a window of {facts.window_size} bytes; {_ZSTD_WINDOW} is the"
                    " limit"
                )
            self._checksum = 4 if facts.has_checksum else 0
            self._frame = self._zstd.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        except self._zstd.ZstdError as exc:
            raise IntegrityError(f"zstd data is damaged: {exc}") from exc
        self._frames += 1
        self._feed(header)
        return True

    def _block(self) -> bytes:
        header = self._source.take(3)
        value = int.from_bytes(header, "little")
        last, kind, size = value & 1, value >> 1 & 3, value >> 3
        if kind == _RESERVED_BLOCK or size > _MAX_BLOCK:
            raise IntegrityError("zstd data is damaged: bad block header")
        body = self._source.take(1 if kind == _RLE_BLOCK else size)
        plain = self._feed(header + body + (self._source.take(self._checksum) if last else b""))
        if last:
            if not self._frame.eof:
                raise IntegrityError("zstd data is damaged: a frame does not end where it says")
            self._frame = None
        return plain

    def _feed(self, data: bytes) -> bytes:
        try:
            return bytes(self._frame.decompress(data))
        except self._zstd.ZstdError as exc:
            raise IntegrityError(f"zstd data is damaged: {exc}") from exc


class _Exactly:
    """Exact numbers of bytes from a stream."""

    def __init__(self, stream: ByteStream, complaint: str) -> None:
        self._stream = stream
        self._complaint = complaint
        self._buffer = memoryview(bytearray(_INPUT))
        self._start = self._end = 0

    def take(self, count: int) -> bytes:
        """``count`` bytes; IntegrityError if there are fewer."""
        data = self.take_or_end(count)
        if len(data) < count:
            raise IntegrityError(self._complaint)
        return data

    def take_or_end(self, count: int) -> bytes:
        """``count`` bytes, or nothing at the very end."""
        while self._end - self._start < count:
            self._buffer[: self._end - self._start] = bytes(self._buffer[self._start : self._end])
            self._start, self._end = 0, self._end - self._start
            added = self._stream.readinto(self._buffer[self._end :]) or 0
            if added == 0:
                if self._end and count:
                    raise IntegrityError(self._complaint)
                return b""
            self._end += added
        data = bytes(self._buffer[self._start : self._start + count])
        self._start += count
        return data


class Compressor(Protocol):
    """Compresses one stream: :meth:`update` for every piece, :meth:`finish` once."""

    def update(self, view: bytes | memoryview, /) -> bytes: ...

    def finish(self) -> bytes: ...


def compressor(kind: str, level: int | None = None) -> Compressor:
    """A compressor; the same input and level give the same bytes on the same machine.

    ``level`` None means fast and reasonable; gzip knows 1 to 9, zstd 1 to 22.  Raises
    UnsupportedError for another ``kind``.
    """
    if kind == "none":
        return _Copy()
    if kind == "gzip":
        return _Flushing(_deflate_object(level, _GZIP))
    if kind == "zstd":
        return _Flushing(_zstd_object(level).compressobj())
    raise UnsupportedError(f"compression {kind!r:.40} is not supported (gzip, zstd and none are)")


class _Copy:
    def update(self, view: bytes | memoryview, /) -> bytes:
        return bytes(view)

    def finish(self) -> bytes:
        return b""


class _Flushing:
    def __init__(self, target: Any) -> None:
        self._target = target

    def update(self, view: bytes | memoryview, /) -> bytes:
        return bytes(self._target.compress(view))

    def finish(self) -> bytes:
        return bytes(self._target.flush())


@dataclass(frozen=True, slots=True)
class Pieces:
    """A compression of independent pieces, so that several threads can work on one stream.

    The result is ``head``, then ``pack`` of every piece of exactly ``size`` plain bytes (the last
    may be shorter), then ``tail`` of the CRC-32 and the length of all plain bytes.  It does not
    depend on who packed what: gzip is one member of many deflate blocks, zstd one frame a piece.
    """

    size: int
    head: bytes
    pack: Callable[[bytes | bytearray], bytes]
    tail: Callable[[int, int], bytes]


def pieces(kind: str, level: int | None = None) -> Pieces:
    """How to compress in pieces; levels and errors as for :func:`compressor`."""
    if kind == "gzip":
        return Pieces(1 << 20, _GZIP_HEAD, partial(_gzip_piece, level), _gzip_tail)
    if kind == "zstd":
        return Pieces(2 << 20, b"", partial(_zstd_piece, level), lambda crc, length: b"")
    if kind == "none":
        return Pieces(1 << 20, b"", bytes, lambda crc, length: b"")
    raise UnsupportedError(f"compression {kind!r:.40} is not supported (gzip, zstd and none are)")


def _gzip_piece(level: int | None, plain: bytes | bytearray) -> bytes:
    target = _deflate_object(level, -zlib.MAX_WBITS)
    return bytes(target.compress(plain) + target.flush(zlib.Z_SYNC_FLUSH))


def _gzip_tail(crc: int, length: int) -> bytes:
    return _LAST_BLOCK + struct.pack("<II", crc, length & 0xFFFFFFFF)


def _zstd_piece(level: int | None, plain: bytes | bytearray) -> bytes:
    return bytes(_zstd_object(level).compress(plain))


def _zstd_object(level: int | None) -> Any:
    try:
        import zstandard
    except ImportError as exc:
        raise UnsupportedError("zstd needs the Python package zstandard") from exc
    wanted = 3 if level is None else min(max(level, 1), 22)
    return zstandard.ZstdCompressor(wanted, write_checksum=True)


def _deflate_object(level: int | None, wbits: int) -> Any:
    """isal up to its highest level, zlib for the slower and smaller ones."""
    if level is None or level <= _ISAL_LEVELS:
        module = deflate_library()
        if module is not zlib:
            return module.compressobj(1 if level is None else max(level, 0), wbits=wbits)
    return zlib.compressobj(6 if level is None else min(max(level, 1), 9), wbits=wbits)


def deflate_library() -> Any:
    """isal's drop-in for zlib (4 times as fast), or zlib itself."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib
    return isal_zlib


def _is_skippable(magic: int) -> bool:
    return magic & 0xFFFFFFF0 == _ZSTD_SKIPPABLE


def _zstd_header_rest(descriptor: int) -> int:
    """Bytes of a frame header after its descriptor byte."""
    single_segment = descriptor >> 5 & 1
    window = 0 if single_segment else 1
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    content = (single_segment, 2, 4, 8)[descriptor >> 6]
    return window + dictionary + content
