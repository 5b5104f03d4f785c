from __future__ import annotations

import gzip
import random
import struct
import sys
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kstore.compression import compressor, decompressor, detect, pieces
from kstore.errors import IntegrityError, UnsupportedError
from kstore.streams import BytesStream, pump

MIXED = random.Random(1).randbytes(300_000) + b"\0" * 3_000_000 + b"text " * 100_000


class Dribble(BytesStream):
    """A stream that gives a few bytes at a time."""

    def __init__(self, data: bytes, step: int) -> None:
        super().__init__(data)
        self.step = step
        self.closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        return super().readinto(buffer[: self.step])

    def close(self) -> None:
        self.closed = True


def unpack(kind: str, data: bytes, limit: int = 1 << 30, step: int = 1 << 20) -> bytes:
    stream = decompressor(kind, Dribble(data, step), max_output=limit)
    buffer = memoryview(bytearray(70_000))
    result = bytearray()
    while count := stream.readinto(buffer) or 0:
        result += buffer[:count]
    assert not stream.readinto(buffer)  # the end stays the end
    return bytes(result)


def pack(kind: str, data: bytes, level: int | None = None) -> bytes:
    packer = compressor(kind, level)
    pieces = [packer.update(memoryview(data)[i : i + 65_537]) for i in range(0, len(data), 65_537)]
    return b"".join(pieces) + packer.finish()


@pytest.fixture(params=["isal", "zlib"])
def gzip_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    return str(request.param)


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("data", [b"", b"x", MIXED], ids=["empty", "one", "mixed"])
def test_what_was_packed_unpacks_again(kind: str, data: bytes) -> None:
    packed = pack(kind, data)
    assert unpack(kind, packed) == data
    assert kind == "none" or detect(packed[:6]) == kind


def test_gzip_works_with_and_without_isal(gzip_engine: str) -> None:
    assert gzip.decompress(pack("gzip", MIXED)) == MIXED
    assert unpack("gzip", gzip.compress(MIXED)) == MIXED


@pytest.mark.parametrize("level", [1, 3, 6, 9])
def test_every_gzip_level_can_be_read_by_others(level: int) -> None:
    assert gzip.decompress(pack("gzip", MIXED, level)) == MIXED


def test_higher_levels_are_smaller() -> None:
    text = " ".join(str(number * number) for number in range(30_000)).encode()
    assert len(pack("gzip", text, 9)) < len(pack("gzip", text, 1))
    assert len(pack("zstd", text, 19)) < len(pack("zstd", text, 1))


def test_zstd_carries_a_checksum_and_can_be_read_by_others() -> None:
    packed = pack("zstd", MIXED)
    assert zstandard.get_frame_parameters(packed).has_checksum
    assert zstandard.ZstdDecompressor().decompressobj().decompress(packed) == MIXED


def test_gzip_members_are_read_one_after_the_other(gzip_engine: str) -> None:
    data = gzip.compress(b"one") + gzip.compress(b"") + gzip.compress(b"two")
    assert unpack("gzip", data) == b"onetwo"
    assert unpack("gzip", data, step=1) == b"onetwo"


def test_zstd_frames_and_skippable_frames_are_read_one_after_the_other() -> None:
    packer = zstandard.ZstdCompressor()
    skip = struct.pack("<II", 0x184D2A53, 5) + b"hello"
    data = skip + packer.compress(b"one") + skip + packer.compress(b"two") + skip
    assert unpack("zstd", data) == b"onetwo"
    assert unpack("zstd", data, step=1) == b"onetwo"
    assert detect(data) == "zstd"


def test_zeros_after_gzip_are_padding(gzip_engine: str) -> None:
    assert unpack("gzip", gzip.compress(b"data") + bytes(1000), step=100) == b"data"


@pytest.mark.parametrize("tail", [b"x", bytes(10) + b"x", b"\x1f\x8b", b"\x1f\x8c" + bytes(20)])
def test_anything_else_after_gzip_is_refused(gzip_engine: str, tail: bytes) -> None:
    with pytest.raises(IntegrityError):
        unpack("gzip", gzip.compress(b"data") + tail)


@pytest.mark.parametrize("tail", [b"xxxx", b"x", bytes(8)])
def test_anything_after_zstd_is_refused(tail: bytes) -> None:
    with pytest.raises(IntegrityError):
        unpack("zstd", zstandard.compress(b"data") + tail)


def test_gzip_cut_anywhere_is_refused(gzip_engine: str) -> None:
    packed = gzip.compress(b"some data, some data, some more")
    for end in range(len(packed)):
        with pytest.raises(IntegrityError):
            unpack("gzip", packed[:end])


def test_zstd_cut_anywhere_is_refused() -> None:
    packed = pack("zstd", b"some data, some data, some more")
    for end in range(len(packed)):
        with pytest.raises(IntegrityError):
            unpack("zstd", packed[:end])


def test_a_wrong_gzip_checksum_is_refused(gzip_engine: str) -> None:
    packed = bytearray(gzip.compress(MIXED))
    packed[-6] ^= 1
    with pytest.raises(IntegrityError):
        unpack("gzip", bytes(packed))


def test_a_wrong_gzip_length_is_refused(gzip_engine: str) -> None:
    packed = bytearray(gzip.compress(MIXED))
    packed[-2] ^= 1
    with pytest.raises(IntegrityError):
        unpack("gzip", bytes(packed))


def test_a_wrong_zstd_checksum_is_refused() -> None:
    packed = bytearray(pack("zstd", MIXED))
    packed[-2] ^= 1
    with pytest.raises(IntegrityError):
        unpack("zstd", bytes(packed))


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_unpacking_stops_at_the_limit(kind: str) -> None:
    packed = pack(kind, bytes(5_000_000))
    assert len(unpack(kind, packed, limit=5_000_000)) == 5_000_000
    with pytest.raises(IntegrityError, match="more than 4999999 bytes"):
        unpack(kind, packed, limit=4_999_999)


def test_a_bomb_is_refused_before_it_has_grown() -> None:
    bombs = {"gzip": gzip.compress(bytes(100 << 20), 9), "zstd": zstandard.compress(bytes(1 << 30))}
    for kind, bomb in bombs.items():
        seen: list[int] = []
        stream = decompressor(kind, BytesStream(bomb), max_output=3 << 20)
        with pytest.raises(IntegrityError):
            pump(stream, lambda view, seen=seen: seen.append(len(view)))
        assert 0 < sum(seen) <= 3 << 20


def test_a_zstd_frame_with_a_huge_window_is_refused() -> None:
    # Descriptor 0: a window byte follows; exponent 21 above 10 bits makes 2 GiB.
    frame = struct.pack("<I", 0xFD2FB528) + bytes([0, 21 << 3]) + b"\x01\x00\x00"
    with pytest.raises(IntegrityError, match="window"):
        unpack("zstd", frame)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_no_data_at_all_is_refused(kind: str) -> None:
    with pytest.raises(IntegrityError):
        unpack(kind, b"")


@pytest.mark.parametrize("kind", ["bzip2", "xz", ""])
def test_other_compressions_are_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedError):
        decompressor(kind, BytesStream(b""), max_output=1)
    with pytest.raises(UnsupportedError):
        compressor(kind)


def test_closing_closes_the_source() -> None:
    source = Dribble(b"", 1)
    decompressor("gzip", source, max_output=1).close()
    assert source.closed


def test_foreign_compressions_are_told_apart() -> None:
    import bz2
    import lzma

    assert detect(bz2.compress(b"x")) == "bzip2"
    assert detect(lzma.compress(b"x")) == "xz"
    assert detect(b"plain text") == "none"
    assert detect(b"") == "none"
    assert detect(zlib.compress(b"x")) == "none"


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["gzip", "zstd"]),
    st.binary(max_size=300),
    st.integers(0, 10_000),
    st.integers(0, 7),
)
def test_a_flipped_bit_gives_the_same_bytes_or_an_error(
    kind: str, data: bytes, position: int, bit: int
) -> None:
    packed = bytearray(pack(kind, data))
    packed[position % len(packed)] ^= 1 << bit
    try:
        assert unpack(kind, bytes(packed)) == data
    except IntegrityError:
        pass


def pack_in_pieces(kind: str, data: bytes, level: int | None = None) -> bytes:
    method = pieces(kind, level)
    packed = [method.pack(data[at : at + method.size]) for at in range(0, len(data), method.size)]
    tail = method.tail(zlib.crc32(data), len(data))
    return b"".join([method.head, *(packed or [method.pack(b"")]), tail])


@pytest.mark.parametrize("level", [None, 1, 6])
@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("data", [b"", b"x", MIXED], ids=["empty", "one", "mixed"])
def test_what_was_packed_in_pieces_unpacks_as_one(
    kind: str, data: bytes, level: int | None, gzip_engine: str
) -> None:
    packed = pack_in_pieces(kind, data, level)
    assert packed == pack_in_pieces(kind, data, level)
    assert unpack(kind, packed) == data
    if kind == "gzip":
        plain = zlib.decompressobj(wbits=31)
        assert plain.decompress(packed) == data
        assert plain.eof
        assert plain.unused_data == b""  # one member, so that every reader sees all of it


def test_an_unknown_kind_cannot_be_packed_in_pieces() -> None:
    with pytest.raises(UnsupportedError, match="xz"):
        pieces("xz")
