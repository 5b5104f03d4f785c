from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import CancelledError, DigestMismatchError, IntegrityError, SizeMismatchError
from kstore.streams import (
    CHUNK,
    BytesStream,
    ByteStream,
    Cancel,
    VerifiedStream,
    pump,
    read_limited,
)
from tests.support.strategies import steady

if TYPE_CHECKING:
    from _typeshed import TraceFunction

DATA = bytes(range(256)) * 40


class Trickle:
    """A stream that gives its bytes in pieces of its own choosing, and remembers its closing."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        if not self.pieces:
            return 0
        piece, self.pieces[0] = self.pieces[0][: len(buffer)], self.pieces[0][len(buffer) :]
        if not self.pieces[0]:
            del self.pieces[0]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self.closed = True


class Broken(Trickle):
    """A stream whose other side goes away in the end."""

    def readinto(self, buffer: memoryview, /) -> int:
        count = super().readinto(buffer)
        if count == 0:
            raise ConnectionResetError("gone")
        return count


def descriptor(data: bytes, algorithm: str = "sha256", size: int | None = None) -> Descriptor:
    size = len(data) if size is None else size
    return Descriptor(mt.OCI_LAYER, Digest.of(data, algorithm), size)


def collect(stream: ByteStream, chunk: int = 1000) -> bytes:
    result = bytearray()
    pump(stream, result.extend, chunk=chunk)
    return bytes(result)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_the_true_bytes_pass(data: bytes, algorithm: str) -> None:
    stream = VerifiedStream(Trickle(data[:7], data[7:]), descriptor(data, algorithm))
    assert collect(stream) == data
    assert stream.verified
    assert stream.readinto(memoryview(bytearray(1))) == 0


def test_nothing_is_verified_before_the_end_was_seen() -> None:
    stream = VerifiedStream(BytesStream(DATA), descriptor(DATA))
    assert stream.readinto(memoryview(bytearray(len(DATA)))) == len(DATA)
    assert not stream.verified


@pytest.mark.parametrize("sent", [b"", DATA[:-1], DATA[:1]])
def test_an_early_end_is_an_error_that_counts_the_bytes(sent: bytes) -> None:
    want = descriptor(DATA)
    stream = VerifiedStream(BytesStream(sent), want)
    with pytest.raises(SizeMismatchError) as caught:
        collect(stream)
    assert str(caught.value) == (
        f"{want.digest} ended after {len(sent)} of {len(DATA)} declared bytes"
    )
    assert not stream.verified


def test_one_byte_too_many_is_an_error_as_soon_as_it_arrives() -> None:
    endless = Trickle(DATA, b"x", *[b"y" * 1000] * 1000)
    stream = VerifiedStream(endless, descriptor(DATA))
    with pytest.raises(SizeMismatchError, match=f"longer than the declared {len(DATA)} bytes"):
        collect(stream)
    assert len(endless.pieces) >= 999
    assert not stream.verified


def test_true_bytes_under_a_false_size_are_refused() -> None:
    for size in (len(DATA) - 1, len(DATA) + 1, 0):
        with pytest.raises(SizeMismatchError):
            collect(VerifiedStream(BytesStream(DATA), descriptor(DATA, size=size)))


def test_other_bytes_of_the_right_size_are_an_error_that_names_both_digests() -> None:
    other = b"x" + DATA[1:]
    stream = VerifiedStream(BytesStream(other), descriptor(DATA))
    with pytest.raises(DigestMismatchError) as caught:
        collect(stream)
    assert str(Digest.of(DATA)) in str(caught.value)
    assert str(Digest.of(other)) in str(caught.value)
    assert not stream.verified


@pytest.mark.parametrize("sent", [DATA[:-1], DATA + b"x", b"x" + DATA[1:]])
def test_after_a_failure_a_stream_never_pretends_to_have_ended_well(sent: bytes) -> None:
    stream = VerifiedStream(BytesStream(sent), descriptor(DATA))
    for _ in range(3):
        with pytest.raises(IntegrityError):
            collect(stream)
    assert not stream.verified


@pytest.mark.parametrize("held", [0, 1, len(DATA) - 1, len(DATA)])
def test_a_resumed_blob_is_checked_as_a_whole(held: int) -> None:
    prefix = Digest.new_hasher()
    prefix.update(DATA[:held])
    stream = VerifiedStream(BytesStream(DATA[held:]), descriptor(DATA), offset=held, prefix=prefix)
    assert collect(stream) == DATA[held:]
    assert stream.verified


def test_a_resumed_blob_with_a_bad_beginning_is_refused() -> None:
    prefix = Digest.new_hasher()
    prefix.update(b"x" * 100)
    stream = VerifiedStream(BytesStream(DATA[100:]), descriptor(DATA), offset=100, prefix=prefix)
    with pytest.raises(DigestMismatchError):
        collect(stream)


def test_a_server_that_ignores_the_wish_to_resume_is_noticed() -> None:
    prefix = Digest.new_hasher()
    prefix.update(DATA[:100])
    stream = VerifiedStream(BytesStream(DATA), descriptor(DATA), offset=100, prefix=prefix)
    with pytest.raises(SizeMismatchError):
        collect(stream)


def test_an_offset_beyond_the_end_is_refused() -> None:
    stream = VerifiedStream(BytesStream(b""), descriptor(DATA), offset=len(DATA) + 1)
    with pytest.raises(SizeMismatchError):
        collect(stream)


def test_leaving_a_verified_stream_closes_what_is_below() -> None:
    below = Trickle(DATA)
    with VerifiedStream(below, descriptor(DATA)) as stream:
        stream.readinto(memoryview(bytearray(10)))
        assert not below.closed
    assert below.closed


def test_a_failure_below_passes_through_unchanged() -> None:
    with pytest.raises(ConnectionResetError, match="gone"):
        collect(VerifiedStream(Broken(DATA), descriptor(DATA)))


def test_a_file_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(DATA)
    with path.open("rb") as file:
        assert collect(VerifiedStream(file, descriptor(DATA))) == DATA
    assert collect(VerifiedStream(io.BytesIO(DATA), descriptor(DATA))) == DATA


def test_a_cancel_stops_a_verified_stream_between_two_chunks() -> None:
    cancel = Cancel()
    stream = VerifiedStream(BytesStream(DATA), descriptor(DATA), cancel=cancel)
    assert stream.readinto(memoryview(bytearray(10))) == 10
    cancel.cancel()
    with pytest.raises(CancelledError):
        stream.readinto(memoryview(bytearray(10)))
    assert not stream.verified


def test_a_cancel_stops_a_pump_before_the_next_chunk() -> None:
    cancel = Cancel()
    got: list[bytes] = []

    def sink(chunk: memoryview) -> None:
        got.append(bytes(chunk))
        if len(got) == 2:
            cancel.cancel()

    with pytest.raises(CancelledError, match="stopped on request"):
        pump(BytesStream(DATA), sink, cancel=cancel, chunk=100)
    assert b"".join(got) == DATA[:200]


def test_a_pump_counts_what_it_moves_and_uses_one_buffer() -> None:
    owners = set()
    total = pump(BytesStream(DATA), lambda chunk: owners.add(id(chunk.obj)), chunk=100)
    assert total == len(DATA)
    assert len(owners) == 1
    assert pump(BytesStream(b""), lambda chunk: pytest.fail("nothing to move")) == 0
    assert CHUNK == 1024 * 1024


def test_a_parent_cancels_its_children_but_not_the_other_way_round() -> None:
    parent = Cancel()
    one, two = Cancel(parent), Cancel(parent)
    one.cancel()
    assert (parent.cancelled, one.cancelled, two.cancelled) == (False, True, False)
    two.check()
    parent.cancel()
    assert Cancel(two).cancelled
    with pytest.raises(CancelledError):
        two.check()


def test_waiting_lasts_as_long_as_asked_for() -> None:
    start = time.monotonic()
    Cancel().wait(0.15)
    assert time.monotonic() - start >= 0.15
    Cancel().wait(0)
    Cancel().wait(-1)


@pytest.mark.parametrize("seconds", [-1, 0, 60])
def test_waiting_after_a_cancel_raises_at_once(seconds: float) -> None:
    cancel = Cancel()
    cancel.cancel()
    start = time.monotonic()
    with pytest.raises(CancelledError):
        cancel.wait(seconds)
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("generations", [0, 2])
def test_a_cancel_wakes_a_sleeper_of_another_thread(generations: int) -> None:
    first = Cancel()
    sleeper = first
    for _ in range(generations):
        sleeper = Cancel(sleeper)
    timer = threading.Timer(0.05, first.cancel)
    timer.start()
    start = time.monotonic()
    with pytest.raises(CancelledError):
        sleeper.wait(60)
    timer.join()
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("method", [Cancel.cancel, lambda c: c.wait(0.01), Cancel.check])
def test_a_signal_handler_may_cancel_at_any_moment(method: Callable[[Cancel], None]) -> None:
    """A handler runs between any two steps of the main thread; a trace function does as well."""
    cancel = Cancel()

    def handler(frame: FrameType, event: str, arg: object) -> TraceFunction:
        cancel.cancel()
        return handler

    def victim() -> None:
        sys.settrace(handler)
        try:
            method(cancel)
        except CancelledError:
            pass
        finally:
            sys.settrace(None)

    thread = threading.Thread(target=victim, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "a cancel inside a cancel waits for itself"
    assert cancel.cancelled


@pytest.mark.parametrize("cap", [len(DATA), len(DATA) + 1, 10**9])
def test_everything_up_to_the_cap_is_read(cap: int) -> None:
    assert read_limited(BytesStream(DATA), cap, "manifest") == DATA


@pytest.mark.parametrize("cap", [0, 1, len(DATA) - 1])
def test_one_byte_beyond_the_cap_is_an_error(cap: int) -> None:
    assert read_limited(BytesStream(DATA[:cap]), cap, "manifest") == DATA[:cap]
    with pytest.raises(IntegrityError) as caught:
        read_limited(BytesStream(DATA[: cap + 1]), cap, "manifest")
    assert str(caught.value) == f"manifest is larger than the limit of {cap} bytes"


def test_an_endless_stream_is_not_read_far_beyond_the_cap() -> None:
    endless = Trickle(*[b"x" * 10_000] * 1000)
    with pytest.raises(IntegrityError):
        read_limited(endless, 50_000, "manifest")
    assert len(endless.pieces) > 990


def test_a_pipe_that_gives_little_at_a_time_is_read_to_its_end() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", buffering=0) as stream:
        with os.fdopen(writer, "wb", buffering=0) as sink:
            sink.write(DATA[:3])
            sink.write(DATA[3:8])
        assert read_limited(stream, 100, "pipe") == DATA[:8]


def test_bytes_are_gone_once_their_stream_is_closed() -> None:
    stream = BytesStream(DATA)
    stream.close()
    assert collect(stream) == b""


_PIECES = st.lists(st.binary(min_size=1, max_size=50), max_size=8)


@steady
@given(_PIECES, st.integers(1, 64))
def test_however_bytes_are_cut_they_arrive_whole(pieces: list[bytes], chunk: int) -> None:
    data = b"".join(pieces)
    stream = VerifiedStream(Trickle(*pieces), descriptor(data))
    assert collect(stream, chunk) == data
    assert stream.verified


@steady
@given(_PIECES, st.binary(max_size=50), st.integers(0, 400), st.integers(1, 64))
def test_a_stream_is_verified_exactly_if_size_and_bytes_are_right(
    pieces: list[bytes], claimed: bytes, size: int, chunk: int
) -> None:
    sent = b"".join(pieces)
    for want in (descriptor(claimed, size=size), descriptor(sent, size=size), descriptor(claimed)):
        stream = VerifiedStream(Trickle(*pieces), want)
        try:
            collect(stream, chunk)
        except IntegrityError:
            pass
        assert stream.verified == (want.size == len(sent) and want.digest == Digest.of(sent))


@steady
@given(st.binary(max_size=200), st.integers(0, 200), st.integers(1, 64))
def test_a_blob_can_be_resumed_anywhere(data: bytes, cut: int, chunk: int) -> None:
    cut = min(cut, len(data))
    prefix = Digest.new_hasher("sha512")
    prefix.update(data[:cut])
    stream = VerifiedStream(
        BytesStream(data[cut:]), descriptor(data, "sha512"), offset=cut, prefix=prefix
    )
    assert data[:cut] + collect(stream, chunk) == data
    assert stream.verified


@steady
@given(_PIECES, st.integers(0, 400))
def test_a_limited_read_gives_all_or_an_error(pieces: list[bytes], cap: int) -> None:
    data = b"".join(pieces)
    if len(data) <= cap:
        assert read_limited(Trickle(*pieces), cap, "x") == data
    else:
        with pytest.raises(IntegrityError):
            read_limited(Trickle(*pieces), cap, "x")
