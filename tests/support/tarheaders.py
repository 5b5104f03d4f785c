"""Headers of tar archives as raw bytes, for what no program would write.

::

    block(b"0", b"file", size=5) + b"hello".ljust(512, b"\\0")   # an entry
    block(size_field=b"\\xff" * 12)                             # one of negative size
    pax(path=b"a name", size=b"-1")                             # records for the entry after it
"""

from __future__ import annotations

from kstore.formats.layer_tar import BLOCK

__all__ = ["block", "extended", "padded", "pax", "record"]


def block(kind: bytes = b"0", name: bytes = b"file", size: int = 0, **fields: bytes) -> bytes:
    """A USTAR header; ``fields`` replace raw bytes: ``size_field``, ``mode``, ``uid``, ``mtime``,
    ``magic``, ``link``, ``device``, ``prefix``."""
    data = bytearray(BLOCK)
    places = {
        "name": (0, name),
        "mode": (100, fields.get("mode", b"0000644\0")),
        "uid": (108, fields.get("uid", b"0000000\0")),
        "gid": (116, b"0000000\0"),
        "size": (124, fields.get("size_field", b"%011o\0" % size)),
        "mtime": (136, fields.get("mtime", b"00000000000\0")),
        "checksum": (148, b" " * 8),
        "type": (156, kind),
        "link": (157, fields.get("link", b"")),
        "magic": (257, fields.get("magic", b"ustar\x0000")),
        "device": (329, fields.get("device", b"")),
        "prefix": (345, fields.get("prefix", b"")),
    }
    for at, value in places.values():
        data[at : at + len(value)] = value
    data[148:156] = b"%06o\0 " % sum(data)
    return bytes(data)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def extended(kind: bytes, data: bytes) -> bytes:
    return block(kind, b"././@LongLink", len(data)) + padded(data)


def record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = next(n for n in range(rest, rest + 9) if n == rest + len(str(n)))
    return b"%d %s=%s\n" % (length, key, value)


def pax(**records: bytes) -> bytes:
    return extended(b"x", b"".join(record(k.encode(), v) for k, v in records.items()))
