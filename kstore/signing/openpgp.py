"""OpenPGP packets, as far as they must be told apart without trusting another program.

GnuPG reports a signature as good although other data, or a second message, follows it; and it
takes armor and text for messages.  So the shape of a message is checked here, by its packets, and
GnuPG is asked about the signature alone.

Source: RFC 4880 sections 4 (packets), 6 (armor), 11.3 (messages); 12.2 for fingerprints.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from enum import IntEnum

from kstore.values import dataclass

__all__ = ["MalformedError", "Packet", "binary_keys", "check_message", "packets", "primary_keys"]

#: Most bytes that a compressed message may unpack to.
MAX_UNPACKED = 2 << 20
_MAX_PACKETS = 100_000
_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----[ \t]*\r?\n"
    rb"(?:[A-Za-z]+: [^\r\n]*\r?\n)*"
    rb"[ \t]*\r?\n([A-Za-z0-9+/=\s]*?)"
    rb"(?:\r?\n=[A-Za-z0-9+/]{4}[ \t]*)?\r?\n-----END PGP PUBLIC KEY BLOCK-----"
)


class MalformedError(Exception):
    """Not what it should be; the message is a clause that goes on from what it is about."""


class Tag(IntEnum):
    """Kinds of packets that matter here."""

    SIGNATURE = 2
    ONE_PASS = 4
    PUBLIC_KEY = 6
    COMPRESSED = 8
    LITERAL = 11


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; ``open_ended`` if only the end of the data ends it."""

    tag: int
    body: bytes
    open_ended: bool = False


def packets(data: bytes) -> Iterator[Packet]:
    """The packets that make up ``data``, to its very end; MalformedError."""
    position = count = 0
    while position < len(data):
        count += 1
        if count > _MAX_PACKETS:
            raise MalformedError("has too many packets")
        packet, position = _read_packet(data, position)
        yield packet


def _read_packet(data: bytes, position: int) -> tuple[Packet, int]:
    head = data[position]
    if not head & 0x80:
        raise MalformedError(f"has bytes at {position} that are no OpenPGP packet")
    position += 1
    if head & 0x40:
        body, position = _new_body(data, position)
        return Packet(head & 0x3F, body), position
    kind = head & 3
    if kind == 3:
        return Packet(head >> 2 & 0xF, data[position:], open_ended=True), len(data)
    length = int.from_bytes(_take(data, position, 1 << kind))
    position += 1 << kind
    return Packet(head >> 2 & 0xF, _take(data, position, length), False), position + length


def _new_body(data: bytes, position: int) -> tuple[bytes, int]:
    """A body with lengths of the new format, which may come in parts."""
    parts = []
    while True:
        first = _take(data, position, 1)[0]
        partial = 224 <= first < 255
        if first < 192:
            length, used = first, 1
        elif first < 224:
            length, used = (first - 192 << 8) + _take(data, position, 2)[1] + 192, 2
        elif partial:
            length, used = 1 << (first & 0x1F), 1
        else:
            length, used = int.from_bytes(_take(data, position + 1, 4)), 5
        position += used
        parts.append(_take(data, position, length))
        position += length
        if not partial:
            return b"".join(parts), position


def _take(data: bytes, position: int, length: int) -> bytes:
    taken = data[position : position + length]
    if len(taken) != length:
        raise MalformedError("ends in the middle of a packet")
    return taken


def check_message(data: bytes) -> None:
    """Raise MalformedError unless ``data`` is one message with one signature (of class 00, which
    is for binary data), to its very end.

    That is one-pass signature, literal data, signature; or signature, literal data; or one of
    these compressed.
    """
    found = list(packets(data))
    if [packet.tag for packet in found] == [Tag.COMPRESSED]:
        found = list(packets(_unpack(found[0])))
    tags = [packet.tag for packet in found]
    classes = {_class(packet.body) for packet in found if packet.tag == Tag.SIGNATURE}
    if any(packet.open_ended for packet in found):
        raise MalformedError("has a packet without an end")
    if tags not in ([Tag.ONE_PASS, Tag.LITERAL, Tag.SIGNATURE], [Tag.SIGNATURE, Tag.LITERAL]):
        shown = ", ".join(map(str, tags[:8])) + (" ..." if len(tags) > 8 else "")
        raise MalformedError(f"is not one signed message (its packets are of types {shown})")
    if classes != {0}:
        raise MalformedError("is a signature of text, not of binary data")


def _class(signature: bytes) -> int | None:
    """The class of a signature packet, which stands behind its version (and a length before v4)."""
    at = 2 if signature[:1] in (b"\x02", b"\x03") else 1
    return signature[at] if len(signature) > at else None


def _unpack(packet: Packet) -> bytes:
    if not packet.body:
        raise MalformedError("has an empty compressed packet")
    algorithm, body = packet.body[0], packet.body[1:]
    if algorithm == 0:
        return body
    makers: dict[int, Callable[[], zlib._Decompress | bz2.BZ2Decompressor]] = {
        1: lambda: zlib.decompressobj(-15),
        2: zlib.decompressobj,
        3: bz2.BZ2Decompressor,
    }
    if algorithm not in makers:
        raise MalformedError(f"is compressed by method {algorithm}, which is unknown")
    unpacker = makers[algorithm]()
    try:
        data = unpacker.decompress(body, MAX_UNPACKED)
    except (zlib.error, OSError, ValueError) as exc:
        raise MalformedError("has compressed data that is damaged") from exc
    if not unpacker.eof:
        long = len(data) >= MAX_UNPACKED
        raise MalformedError("unpacks to too much" if long else "has incomplete compressed data")
    if unpacker.unused_data:
        raise MalformedError("has bytes behind its compressed data")
    return data


def binary_keys(data: bytes) -> bytes:
    """Public keys without armor; MalformedError if an armored block is damaged."""
    if data[:1] and data[0] & 0x80:
        return data
    blocks = _ARMOR.findall(data)
    try:
        return b"".join(
            base64.b64decode(b"".join(block.split()), validate=True) for block in blocks
        )
    except binascii.Error as exc:
        raise MalformedError("is armor with damaged base64") from exc


def primary_keys(data: bytes) -> frozenset[str]:
    """The fingerprints (upper-case hex) of the primary keys in binary ``data``; MalformedError.

    Keys of versions that are too old or too new are left out.
    """
    found = (_fingerprint(packet.body) for packet in packets(data) if packet.tag == Tag.PUBLIC_KEY)
    return frozenset(fingerprint for fingerprint in found if fingerprint is not None)


def _fingerprint(body: bytes) -> str | None:
    version = body[0] if body else 0
    if version == 4:
        frame = b"\x99" + len(body).to_bytes(2) + body
        return hashlib.sha1(frame, usedforsecurity=False).hexdigest().upper()
    if version in (5, 6):
        frame = bytes([0x9A if version == 5 else 0x9B]) + len(body).to_bytes(4) + body
        return hashlib.sha256(frame).hexdigest().upper()
    return None
