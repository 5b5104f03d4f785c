"""An archive as a plain file that can be read at any offset.

A plain file is used where it is.  What is compressed, or comes through a pipe, is first written
out, unpacked, to a file without a name: it needs no cleaning up, whatever happens.

Source: docker and podman read archives compressed with gzip, zstd, xz and bzip2.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import io
import lzma
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from kstore.compression import decompressor, detect
from kstore.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    StorageFullError,
)
from kstore.formats.layer_tar import BLOCK
from kstore.streams import ByteStream, Cancel, Closing, pump

__all__ = ["ArchiveInput", "PlainFile", "file_errors", "open_plain", "unpacked"]

#: A path, or an open stream (which need not be seekable, nor have a descriptor).
ArchiveInput = Path | BinaryIO | io.RawIOBase

#: Most bytes ever spooled (1 TiB): a guard against endless input, not a quota.
MAX_SPOOLED = 1 << 40
#: Compressed archives may unpack to this many bytes whatever their own size ...
FREE_BYTES = 1 << 30
#: ... and to this many times their own size beyond that.
MAX_RATIO = 200

_INPUT = 256 * 1024
_XZ_MEMORY = 128 << 20  # bytes an xz dictionary may need: twice that of `xz -9`
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def file_errors(what: str, hint: str | None = None) -> Iterator[None]:
    """Translate OSError raised inside; ``what`` says what was being done.

    A missing file becomes NotFoundError, a full disk StorageFullError (with ``hint``), anything
    else StorageError.
    """
    try:
        yield
    except FileNotFoundError as exc:
        raise NotFoundError(f"cannot {what}: no such file or directory") from exc
    except OSError as exc:
        cause = exc.strerror or type(exc).__name__
        if exc.errno in _FULL:
            raise StorageFullError(f"cannot {what}: {cause}", hint=hint) from exc
        raise StorageError(f"cannot {what}: {cause}") from exc


class PlainFile(Closing):
    """An open file of ``size`` bytes, read by offset and from several threads at once.

    ``start`` is where offset 0 stands in the file.
    """

    def __init__(self, file: io.FileIO, what: str, start: int = 0) -> None:
        self._file = file
        self._start = start
        self.what = what
        self.size = max(0, os.fstat(file.fileno()).st_size - start)

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fill the start of ``buffer`` from ``offset``; 0 at the end of the file."""
        with file_errors(f"read {self.what}"):
            return os.preadv(self._file.fileno(), [buffer], self._start + offset)

    def from_start(self) -> io.FileIO:
        """The file itself, to be read by one reader from offset 0 on.  Raises OSError."""
        self._file.seek(self._start)
        return self._file

    def duplicate(self) -> PlainFile:
        """The same file, open on its own."""
        return PlainFile(_duplicate(self._file, self.what), self.what, self._start)

    def close(self) -> None:
        self._file.close()


def open_plain(
    source: ArchiveInput,
    *,
    spool_dir: Path,
    what: str,
    unpack: bool = True,
    cancel: Cancel | None = None,
) -> PlainFile:
    """The plain bytes of an archive: a path, or a stream (which stays open).

    ``spool_dir`` is where compressed and piped input is unpacked to; without ``unpack`` what is
    compressed stays so.  Raises NotFoundError,
    InvalidInputError for a directory, IntegrityError for damaged compression or one that unpacks
    to absurdly much, StorageFullError, StorageError.
    """
    if not isinstance(source, Path):
        return _from_stream(source, spool_dir, what, unpack, cancel)
    with file_errors(f"open {what}"):
        if source.is_dir():
            raise InvalidInputError(f"{what} is a directory, not an archive")
        file = source.open("rb", buffering=0)
    try:
        plain = _from_stream(file, spool_dir, what, unpack, cancel)
    finally:
        file.close()
    return plain


def _from_stream(
    stream: BinaryIO | io.RawIOBase,
    spool_dir: Path,
    what: str,
    unpack: bool,
    cancel: Cancel | None,
) -> PlainFile:
    with file_errors(f"read {what}"):
        start = _seekable_position(stream)
        first = _first_block(stream)
    if not first:
        raise IntegrityError(f"{what} is empty")
    kind = detect(first) if unpack else "none"
    if kind == "none" and start is not None:
        return PlainFile(_duplicate(stream, what), what, start)
    return _spool(_Rest(first, stream, what), kind, spool_dir, what, cancel)


def _duplicate(file: BinaryIO | io.RawIOBase, what: str) -> io.FileIO:
    with file_errors(f"read {what}"):
        return os.fdopen(os.dup(file.fileno()), "rb", buffering=0)


def _seekable_position(stream: BinaryIO | io.RawIOBase) -> int | None:
    """Where a stream that is a plain file stands; None for pipes and the like."""
    try:
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream.tell()
    except (io.UnsupportedOperation, AttributeError):
        pass  # a stream without a descriptor is read to its end
    return None


def _first_block(stream: BinaryIO | io.RawIOBase) -> bytes:
    first = b""
    while len(first) < BLOCK and (more := stream.read(BLOCK - len(first))):
        first += more
    return first


def _spool(rest: _Rest, kind: str, spool_dir: Path, what: str, cancel: Cancel | None) -> PlainFile:
    full = "point TMPDIR at a directory with more space"
    with file_errors(f"unpack {what} into {spool_dir}", full):
        spool = tempfile.TemporaryFile(dir=spool_dir, buffering=0)  # noqa: SIM115 - is kept
    written = 0

    def keep(view: memoryview) -> None:
        nonlocal written
        written += len(view)
        if written > FREE_BYTES and kind != "none" and written > MAX_RATIO * rest.count:
            raise IntegrityError(
                f"{what} unpacks to more than {MAX_RATIO} times its size, which no image does"
            )
        with file_errors(f"unpack {what} into {spool_dir}", full):
            while view:
                view = view[spool.write(view) :]

    try:
        try:
            pump(unpacked(kind, rest), keep, cancel=cancel)
        except IntegrityError as exc:
            raise exc if what in str(exc) else IntegrityError(f"{what}: {exc}") from exc
        return PlainFile(spool, what)
    except BaseException:
        spool.close()
        raise


def unpacked(kind: str, stream: ByteStream) -> ByteStream:
    """The plain bytes of ``stream``, compressed as ``compression.detect`` calls it.

    At most 1 TiB; reading raises IntegrityError beyond, and for damaged data.
    """
    if kind == "xz":
        decoder = lzma.LZMADecompressor
        return _Members(stream, lambda: decoder(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), kind)
    if kind == "bzip2":
        return _Members(stream, bz2.BZ2Decompressor, kind)
    return decompressor(kind, stream, max_output=MAX_SPOOLED)


class _Rest(ByteStream):
    """A stream of which the first bytes were read already; counts what goes through."""

    def __init__(self, first: bytes, stream: BinaryIO | io.RawIOBase, what: str) -> None:
        self._first = memoryview(first)
        self._stream: Any = stream
        self._what = what
        self.count = 0

    def readinto(self, buffer: memoryview, /) -> int:
        if self._first:
            count = min(len(buffer), len(self._first))
            buffer[:count] = self._first[:count]
            self._first = self._first[count:]
        else:
            with file_errors(f"read {self._what}"):
                count = self._stream.readinto(buffer) or 0
        self.count += count
        return count

    def close(self) -> None:
        """The stream belongs to the caller."""


class _Members(ByteStream):
    """xz or bzip2 data of one member or several; zeros after the last are padding."""

    def __init__(self, stream: ByteStream, make: Any, kind: str) -> None:
        self._stream = stream
        self._make = make
        self._kind = kind
        self._member: Any = make()
        self._buffer = memoryview(bytearray(_INPUT))
        self._input = b""
        self._total = 0

    def readinto(self, buffer: memoryview, /) -> int:
        plain = b""
        while not plain:
            if self._member.eof and not self._next_member():
                return 0
            if self._member.needs_input and not self._input and not self._fill():
                raise IntegrityError(f"{self._kind} data ends early")
            try:
                plain = self._member.decompress(self._input, len(buffer))
            except (lzma.LZMAError, OSError, EOFError) as exc:
                raise IntegrityError(f"{self._kind} data is damaged: {exc}") from exc
            self._input = self._member.unused_data if self._member.eof else b""
        self._total += len(plain)
        if self._total > MAX_SPOOLED:
            raise IntegrityError(f"{self._kind} data unpacks to more than {MAX_SPOOLED} bytes")
        buffer[: len(plain)] = plain
        return len(plain)

    def _next_member(self) -> bool:
        """Start the member after a finished one; False at the end of everything."""
        while not (rest := self._input.lstrip(b"\0")):
            if not self._fill():
                return False
        self._input, self._member = rest, self._make()
        return True

    def _fill(self) -> bool:
        count = self._stream.readinto(self._buffer) or 0
        self._input = bytes(self._buffer[:count])
        return count > 0

    def close(self) -> None:
        self._stream.close()
