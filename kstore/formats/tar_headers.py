"""What one block of a tar header says.

Sources: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format" (base-256
numbers, its magic).
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Mapping
from typing import Final, Literal

from kstore.values import dataclass

__all__ = [
    "BLOCK",
    "KINDS",
    "MAX_NUMBER",
    "EntryKind",
    "Header",
    "HeaderError",
    "TarEntry",
    "TarLimits",
    "checksum_holds",
    "decode_header",
    "encode_header",
    "padding",
    "split_name",
]

#: Bytes of one tar block.
BLOCK: Final = 512
#: Largest size, user ID and the like: what a signed 64-bit number holds.
MAX_NUMBER: Final = (1 << 63) - 1

EntryKind = Literal["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]

#: The kind each type flag stands for.
KINDS: Final[Mapping[bytes, EntryKind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",  # "contiguous", a file to everybody today
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}

_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_CHECKSUM = slice(148, 156)
_BLANK = b" " * 8
_POSIX = b"ustar\0"
_NAME = 100
_PREFIX = 155


class HeaderError(ValueError):
    """A header that breaks the format; the message says how.  Never leaves the tar modules."""


@dataclass(frozen=True, slots=True)
class TarEntry:
    """One member of an archive, as its headers describe it; nothing is cleaned or judged.

    Texts are decoded from UTF-8; bytes that are not UTF-8 are kept as lone surrogates (PEP 383).
    ``name``: as in the archive, long names applied: may be absolute, hold ``..`` or end in ``/``.
    ``size``: bytes of content, 0 unless it is a file.  ``mode``: the twelve permission bits.
    ``mtime_ns``: nanoseconds since 1970.  ``link``: target of a symbolic or hard link, otherwise
    "".  ``offset``: where the content begins, in bytes from the start of the archive.
    ``device``: major and minor number of a char or block device.  ``pax``: all PAX records that
    are in force, also those applied already; extended attributes are ``SCHILY.xattr.<name>``.
    """

    name: str
    kind: EntryKind
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    link: str
    offset: int
    uname: str
    gname: str
    device: tuple[int, int] | None
    pax: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TarLimits:
    """What a reader accepts; beyond it is an IntegrityError.

    ``max_entries``: headers of every sort.  ``max_name``: bytes of a name or link target.
    ``max_pax``: bytes of one extended header, and of all global records together.
    ``max_entry_size``: bytes of one file's content, None for no limit.  ``max_padding``: bytes of
    zeros after the end of the archive.
    """

    max_entries: int = 1_000_000
    max_name: int = 64 << 10
    max_pax: int = 1 << 20
    max_entry_size: int | None = None
    max_padding: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """One header block.  ``type``: the type flag; ``mtime``: seconds; ``device``: None unless the
    type is a device; texts are bytes as they stand in the archive."""

    type: bytes
    name: bytes
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: bytes = b""
    uname: bytes = b""
    gname: bytes = b""
    device: tuple[int, int] | None = None


def padding(size: int) -> int:
    """Bytes of zeros that follow ``size`` bytes of content."""
    return -size % BLOCK


def checksum_holds(block: bytes) -> bool:
    """Whether the checksum of a header block (BLOCK bytes) is right.

    Some old programs summed signed bytes; both sums count, as with every other reader.
    """
    try:
        stated = _from_octal(block[_CHECKSUM], "checksum")
    except HeaderError:
        return False
    found = _sum(block) - _sum(block[_CHECKSUM]) + sum(_BLANK)
    if stated == found:
        return True
    negative = sum(byte >= 0x80 for byte in block[:148] + block[156:])
    return stated == found - 256 * negative


def _sum(block: bytes) -> int:
    # The low half of adler32 is 1 + the sum, modulo 65521: exact for up to 256 bytes, and far
    # faster than a loop over the bytes.
    return (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2


def decode_header(block: bytes) -> Header:
    """The header in ``block`` (BLOCK bytes).  Raises HeaderError."""
    if not checksum_holds(block):
        raise HeaderError("the checksum of a header is wrong")
    fields = _FIELDS.unpack(block)
    raw_name, mode, uid, gid, size, mtime, _, kind, link, magic, uname, gname, *rest = fields
    major, minor, prefix, _ = rest
    name = _text(raw_name)
    if magic.startswith(_POSIX):
        # star keeps two times in the end of the prefix field.
        parent = _text(prefix[:131] if block.endswith(b"tar\0") else prefix)
        if parent:
            name = parent + b"/" + name
    old = not magic.startswith(b"ustar")
    return Header(
        type=kind,
        name=name,
        size=_number(size, "size"),
        mode=_number(mode, "mode") & 0o7777,
        uid=_number(uid, "user ID"),
        gid=_number(gid, "group ID"),
        mtime=_number(mtime, "time", least=-MAX_NUMBER),
        link=_text(link),
        uname=b"" if old else _text(uname),
        gname=b"" if old else _text(gname),
        device=_device(major, minor) if kind in (b"3", b"4") else None,
    )


def _device(major: bytes, minor: bytes) -> tuple[int, int]:
    return _number(major, "device number"), _number(minor, "device number")


def _text(field: bytes) -> bytes:
    end = field.find(b"\0")
    return field if end < 0 else field[:end]


@functools.lru_cache(1024)  # the members of an archive have their owners and modes in common
def _number(field: bytes, what: str, least: int = 0) -> int:
    value = _binary(field) if field[0] & 0x80 else _from_octal(field, what)
    if not least <= value <= MAX_NUMBER:
        raise HeaderError(f"the {what} in a header is out of range: {value}")
    return value


def _binary(field: bytes) -> int:
    """GNU's base-256 number: two's complement, of all bits but the first."""
    bits = 8 * len(field) - 1
    value = int.from_bytes(field, "big") & ((1 << bits) - 1)
    return value - (1 << bits) if field[0] & 0x40 else value


def _from_octal(field: bytes, what: str) -> int:
    digits = _text(field.strip(b" \0")).rstrip(b" ")
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):  # int() alone would take signs, "_" and "0o"
        raise HeaderError(f"the {what} in a header is not a number: {digits!r}")
    return int(digits, 8)


def split_name(name: bytes) -> tuple[bytes, bytes] | None:
    """``name`` as USTAR prefix and name, None if it does not fit."""
    if len(name) <= _NAME:
        return b"", name
    # The shortest prefix that leaves a name short enough, for one answer only.
    at = name.find(b"/", max(1, len(name) - _NAME - 1), len(name) - 1)
    return (name[:at], name[at + 1 :]) if 0 < at <= _PREFIX else None


def encode_header(header: Header) -> bytes:
    """The USTAR block of ``header``; a text longer than its field is cut.

    Numbers must fit: they are the caller's to check.
    """
    prefix, name = split_name(header.name) or (b"", header.name[:_NAME])
    major, minor = header.device or (0, 0)
    block = _FIELDS.pack(
        name,
        _octal(header.mode, 8),
        _octal(header.uid, 8),
        _octal(header.gid, 8),
        _octal(header.size, 12),
        _octal(header.mtime, 12),
        _BLANK,
        header.type,
        header.link,
        b"ustar\x0000",
        header.uname,
        header.gname,
        _octal(major, 8),
        _octal(minor, 8),
        prefix,
        b"",
    )
    return block[:148] + b"%06o\0 " % _sum(block) + block[156:]


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)
