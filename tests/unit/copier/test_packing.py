"""Pieces of one stream, packed by several threads."""

from __future__ import annotations

import io
import random
import threading
import zlib

import pytest

from kstore.compression import Kind, Pieces, decompressor, pieces
from kstore.copier.packing import Crew, Seen, packed
from kstore.digest import Digest
from tests.support.trees import made

DATA = random.Random(1).randbytes(100_000) * 130  # 13 MB: more pieces than threads


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_pieces_come_in_order_and_everything_is_seen(kind: Kind) -> None:
    seen = Seen(hashed=True)
    with Crew() as crew:
        data = b"".join(packed(io.BytesIO(DATA), pieces(kind), seen, crew))
    plain = decompressor(kind, io.BytesIO(data), max_output=1 << 24)
    assert made(plain) == DATA
    assert (seen.digest, seen.length, seen.crc) == (Digest.of(DATA), len(DATA), zlib.crc32(DATA))


def test_pieces_wait_for_each_other_however_long_one_takes() -> None:
    slow = threading.Event()

    def pack(piece: bytes | bytearray) -> bytes:
        if piece == b"0":
            assert slow.wait(30)
        elif piece == b"2":
            slow.set()
        return bytes(piece)

    method = Pieces(1, b"<", pack, lambda crc, length: f">{length}".encode())
    with Crew() as crew:
        crew.size = max(crew.size, 4)
        told = b"".join(packed(io.BytesIO(b"0123456789"), method, Seen(hashed=False), crew))
    assert told == b"<0123456789>10"
