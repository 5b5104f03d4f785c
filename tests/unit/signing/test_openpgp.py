"""Packets, told apart byte by byte."""

from __future__ import annotations

import base64
import bz2
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.signing.openpgp import (
    MAX_UNPACKED,
    MalformedError,
    Packet,
    binary_keys,
    check_message,
    packets,
    primary_keys,
)


def new(tag: int, body: bytes) -> bytes:
    """A packet of the new format with a length of five octets."""
    return bytes([0xC0 | tag, 255]) + len(body).to_bytes(4) + body


def old(tag: int, body: bytes, size: int = 2) -> bytes:
    kind = {1: 0, 2: 1, 4: 2}[size]
    return bytes([0x80 | tag << 2 | kind]) + len(body).to_bytes(size) + body


SIGNATURE = b"\x04\x00" + b"s" * 20  # version 4, class 00
LITERAL = b"b\0\0\0\0\0hello"
SIGNED = new(4, b"\x03\x00one") + new(11, LITERAL) + new(2, SIGNATURE)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    "data",
    [
        SIGNED,
        old(4, b"one", 1) + old(11, LITERAL, 4) + old(2, SIGNATURE),
        new(2, SIGNATURE) + new(11, LITERAL),
        new(2, b"\x03\x05\x00" + b"s" * 20) + new(11, LITERAL),  # version 3, class 00
        new(8, b"\x00" + SIGNED),
        new(8, b"\x01" + raw_deflate(SIGNED)),
        new(8, b"\x02" + zlib.compress(SIGNED)),
        new(8, b"\x03" + bz2.compress(SIGNED)),
        b"\xa3\x01" + raw_deflate(SIGNED),  # up to the end of the data
        # a literal in parts: 2 bytes, then the rest
        new(4, b"one") + b"\xcb\xe1" + LITERAL[:2] + b"\x09" + LITERAL[2:] + new(2, SIGNATURE),
    ],
)
def test_one_signed_message_is_taken_in_every_form(data: bytes) -> None:
    check_message(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not one signed message"),
        (SIGNED + b"\0", "no OpenPGP packet"),
        (SIGNED[:-1], "middle of a packet"),
        (SIGNED + new(11, LITERAL), "not one signed message"),
        (SIGNED * 2, "not one signed message"),
        (new(4, b"one") * 2 + new(11, LITERAL) + new(2, SIGNATURE) * 2, "not one signed message"),
        (new(11, LITERAL), "not one signed message"),
        (new(2, SIGNATURE), "not one signed message"),
        (new(4, b"one") + new(2, SIGNATURE) + new(11, LITERAL), "not one signed message"),
        (new(1, b"session") + new(18, b"encrypted"), "not one signed message"),
        (new(8, b""), "empty compressed packet"),
        (new(8, b"\x09x"), "method 9"),
        (new(8, b"\x01nonsense"), "damaged"),
        (new(8, b"\x01" + raw_deflate(SIGNED) + b"x"), "bytes behind"),
        (b"\xa3\x01" + raw_deflate(SIGNED) + SIGNED, "bytes behind"),
        (new(8, b"\x01" + raw_deflate(SIGNED)[:-4]), "incomplete"),
        (new(8, b"\x01" + raw_deflate(new(8, b"\x01" + raw_deflate(SIGNED)))), "not one signed"),
        (new(8, b"\x01" + raw_deflate(b"\0" * (MAX_UNPACKED + 1))), "unpacks to too much"),
        (new(8, b"\x03" + bz2.compress(b"\0" * (MAX_UNPACKED + 1))), "unpacks to too much"),
        (new(8, b"\x01" + raw_deflate(SIGNED)) + new(11, LITERAL), "not one signed message"),
        (new(4, b"one") + new(11, LITERAL) + new(2, b"\x04\x01s"), "signature of text"),
        (new(4, b"one") + new(11, LITERAL) + new(2, b""), "signature of text"),
        (new(2, SIGNATURE) + b"\xaf" + LITERAL, "without an end"),
        (b"\xff\xff\xff\xff\xff\xff", "middle of a packet"),
        (b"-----BEGIN PGP MESSAGE-----", "no OpenPGP packet"),
        (new(60, b"") * 200_000, "too many packets"),
    ],
)
def test_what_is_not_one_signed_message_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        check_message(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_packets_or_malformed(data: bytes) -> None:
    try:
        found = list(packets(data))
    except MalformedError:
        return
    assert sum(len(packet.body) for packet in found) < max(len(data), 1)


@given(st.integers(0, 63), st.binary(max_size=9000), st.binary(max_size=20))
def test_a_packet_ends_where_its_length_says(tag: int, body: bytes, rest: bytes) -> None:
    assert next(packets(new(tag, body) + rest)) == Packet(tag, body)
    short = len(body)
    if short < 192:
        encoded = bytes([short])
    elif short < 8384:
        encoded = bytes([192 + (short - 192 >> 8), short - 192 & 255])
    else:
        return
    assert next(packets(bytes([0xC0 | tag]) + encoded + body + rest)) == Packet(tag, body)


def armored(data: bytes, *, checksum: bool = True, header: str = "") -> bytes:
    text = base64.encodebytes(data).decode()
    end = "=abcd\n" if checksum else ""
    return (
        f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n{header}\n{text}{end}"
        "-----END PGP PUBLIC KEY BLOCK-----\n"
    ).encode()


@pytest.mark.parametrize("checksum", [True, False])
@pytest.mark.parametrize("header", ["", "Version: GnuPG v2\nComment: a key\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 48, 100])
def test_armor_is_taken_off(checksum: bool, header: str, size: int) -> None:
    data = b"\x99" * size
    assert binary_keys(armored(data, checksum=checksum, header=header)) == data


def test_several_blocks_are_several_keys_and_text_around_them_is_none() -> None:
    text = (
        b"my keys\n"
        + armored(b"\x99one")
        + b"and\r\n"
        + armored(b"\x99two").replace(b"\n", b"\r\n")
    )
    assert binary_keys(text) == b"\x99one\x99two"
    assert binary_keys(b"no key at all") == b""


def test_damaged_armor_is_malformed() -> None:
    with pytest.raises(MalformedError, match="base64"):
        binary_keys(armored(b"\x99one").replace(b"mW9u", b"mW9"))


def test_only_primary_keys_count_and_old_ones_do_not() -> None:
    keys = new(6, b"\x04key") + new(13, b"user") + new(14, b"\x04subkey") + new(6, b"\x03old")
    assert len(primary_keys(keys)) == 1
    assert {len(each) for each in primary_keys(new(6, b"\x05v5") + new(6, b"\x06v6"))} == {64}
