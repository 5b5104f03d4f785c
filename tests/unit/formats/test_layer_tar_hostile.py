"""Archives that are cut off, damaged or hostile: one of our errors, in bounded time and memory."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import IntegrityError, UnsupportedError
from kstore.formats.layer_tar import BLOCK, TarEntry, TarLimits, TarReader, TarWriter
from kstore.streams import BytesStream, read_limited
from tests.support.strategies import steady
from tests.support.tarheaders import block, extended, padded, pax, record

END = bytes(2 * BLOCK)


def entries(tar: bytes, limits: TarLimits | None = None) -> list[TarEntry]:
    return list(TarReader(BytesStream(tar), limits=limits or TarLimits(), what="the test archive"))


def drain(reader: TarReader, read: bool) -> None:
    for entry in reader:
        if read:
            read_limited(reader, 1 << 20, entry.name)


def refusal(tar: bytes) -> str | None:
    """What one of our errors says about ``tar``, None if it is read; others get through."""
    try:
        entries(tar)
    except (IntegrityError, UnsupportedError) as exc:
        return exc.message
    return None


def small(form: int) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as tar:
        for name, size in (("one", 700), ("n" * 130, 512), ("ä", 0), ("last", 1)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"x" * size))
        end = tar.offset
    return output.getvalue()[: end + 2 * BLOCK]


@pytest.mark.parametrize("read", [True, False], ids=["read", "skipped"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
def test_an_archive_cut_anywhere_is_refused(
    form: int, read: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tar = small(form)
    assert len(entries(tar)) == 4
    file = tmp_path_factory.mktemp("cut") / "a.tar"
    cuts = {at + more for at in range(0, len(tar), BLOCK) for more in (0, 1, 200, 511)}
    for cut in sorted(cuts):
        file.write_bytes(tar[:cut])
        with file.open("rb") as stream:
            for source in (stream, BytesStream(tar[:cut])):
                with pytest.raises(IntegrityError, match=f"archive is cut off at byte {cut}$"):
                    drain(TarReader(source), read)


def test_a_read_of_content_that_is_missing_fails_even_for_the_last_byte() -> None:
    reader = TarReader(BytesStream(block(size=10) + b"123456789"), what="the test archive")
    next(reader)
    with pytest.raises(IntegrityError, match="the test archive is cut off at byte 521"):
        read_limited(reader, 100, "file")


def test_an_empty_stream_is_no_archive_but_two_blocks_of_zeros_are() -> None:
    with pytest.raises(IntegrityError, match="cut off at byte 0"):
        entries(b"")
    assert entries(END) == []


def test_only_zeros_may_follow_the_end() -> None:
    assert len(entries(block() + END + bytes(100_000))) == 1
    for garbage in (b"x", bytes(70_000) + b"x", bytes(512) + block() + END):
        at = 3 * BLOCK + garbage.index(garbage.strip(b"\0")[:1])
        with pytest.raises(IntegrityError, match=f"trailing garbage at byte {at}$"):
            entries(block() + END + garbage)
    with pytest.raises(IntegrityError, match="more than 1024 bytes of zeros"):
        entries(END + bytes(2000), TarLimits(max_padding=1024))


def test_finish_looks_at_all_that_is_left() -> None:
    tar = block(name=b"a", size=1000) + bytes(1024) + block(name=b"b")
    reader = TarReader(BytesStream(tar + END + b"x"))
    next(reader)
    with pytest.raises(IntegrityError, match="trailing garbage"):
        reader.finish()
    whole = TarReader(BytesStream(tar + END))
    whole.finish()
    assert list(whole) == []
    whole.finish()


HOSTILE = {
    "garbage": b"\xff" * BLOCK + END,
    "lone block of zeros": block() + bytes(BLOCK) + block() + END,
    "wrong checksum": block().replace(b"file", b"fila") + END,
    "negative base-256 size": block(size_field=b"\xff" * 12) + END,
    "negative octal size": block(size_field=b"-0000000012") + END,
    "huge base-256 size": block(size_field=b"\x80" + b"\x7f" * 11) + END,
    "size that overflows with its offset": block(size_field=b"\x80\0\0\0\x7f" + b"\xff" * 7) + END,
    "size with a sign": block(size_field=b"+0000000012") + END,
    "size with an underscore": block(size_field=b"0_000000012") + END,
    "size with a prefix": block(size_field=b"0o000000012") + END,
    "size that is not octal": block(size_field=b"00000000008") + END,
    "negative user": block(uid=b"\xff" * 8) + END,
    "text as time": block(mtime=b"yesterday\0\0\0") + END,
    "bad device": block(b"3", device=b"zz") + END,
    "negative PAX size": pax(size=b"-1") + block() + END,
    "huge PAX size": pax(size=b"9" * 19) + block() + END,
    "PAX size with many digits": pax(size=b"9" * 5000) + block() + END,
    "PAX size in other digits": pax(size="\u0663".encode()) + block() + END,
    "PAX user that is no number": pax(uid=b"root") + block() + END,
    "PAX time that is no time": pax(mtime=b"1e99") + block() + END,
    "PAX time without digits": pax(mtime=b".") + block() + END,
    "PAX path with a zero byte": pax(path=b"a\0b") + block() + END,
    "PAX link with a zero byte": pax(linkpath=b"a\0b") + block(b"2") + END,
    "PAX key with a zero byte": extended(b"x", record(b"a\0b", b"c")) + block() + END,
    "PAX record without a key": extended(b"x", b"5 =a\n") + block() + END,
    "PAX record of length 0": extended(b"x", b"0 a=b\n") + block() + END,
    "PAX record of negative length": extended(b"x", b"-6 a=b\n") + block() + END,
    "PAX record that is too long": extended(b"x", b"60 a=b\n") + block() + END,
    "PAX record that is too short": extended(b"x", b"5 a=b\n") + block() + END,
    "PAX record without an end": extended(b"x", b"6 a=bc") + block() + END,
    "PAX record without a length": extended(b"x", b"a=b\n") + block() + END,
    "PAX record with an endless length": extended(b"x", b"9" * 5000 + b" a=b\n") + block() + END,
    "zero bytes behind PAX records": extended(b"x", b"6 a=b\n\0\0") + block() + END,
    "long name with a zero byte": extended(b"L", b"a\0b\0") + block() + END,
    "two PAX headers": pax(path=b"a") + pax(path=b"b") + block() + END,
    "two long names": extended(b"L", b"a\0") * 2 + block() + END,
    "two long links": extended(b"K", b"a\0") * 2 + block(b"2") + END,
    "a name given twice": extended(b"L", b"a\0") + pax(path=b"b") + block() + END,
    "a link given twice": pax(linkpath=b"b") + extended(b"K", b"a\0") + block(b"2") + END,
    "PAX header at the end": block() + pax(path=b"a") + END,
    "long name at the end": block() + extended(b"L", b"a\0") + END,
    "PAX header of 400 MB": block(b"x", size=400 << 20) + END,
    "long name of 400 MB": block(b"L", size=400 << 20) + END,
    "global header of 400 MB": block(b"g", size=400 << 20) + END,
    "long PAX path": pax(path=b"p" * 70_000) + block() + END,
    "many global headers": extended(b"g", b"6 a=b\n") * 1001 + block() + END,
    "long global records": b"".join(
        extended(b"g", record(b"k%d" % n, b"v" * 600_000)) for n in range(2)
    )
    + END,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_archive_is_refused_with_the_place(name: str) -> None:
    with pytest.raises(IntegrityError, match=r"^the test archive cannot be read at .* byte \d+: "):
        entries(HOSTILE[name])


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_an_extended_header_is_measured_before_memory_is_taken(kind: bytes) -> None:
    tar = block(kind, size=400 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="419430400 bytes is over the limit"):
            entries(tar)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("tar", "sort"),
    [
        (block(b"S") + END, "a sparse file"),
        (pax(**{"GNU.sparse.major": b"1", "GNU.sparse.name": b"disk"}) + block() + END, "'disk'"),
        (extended(b"g", record(b"GNU.sparse.map", b"0,1")) + block() + END, "a sparse file"),
        (block(b"M") + END, "another volume"),
        (block(b"D") + END, "a directory dump"),
        (block(b"V") + END, "a volume label"),
        (block(b"Z") + END, "unknown type b'Z'"),
    ],
)
def test_what_cannot_be_expressed_is_unsupported_and_named(tar: bytes, sort: str) -> None:
    with pytest.raises(UnsupportedError, match=sort) as caught:
        entries(tar)
    assert caught.value.message.startswith("the test archive holds ")


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (TarLimits(max_entries=2), "more than 2 entries"),
        (TarLimits(max_entry_size=511), "'file' has 512 bytes, over the limit of 511"),
        (TarLimits(max_name=9), "11 bytes is over the limit of 10"),
        (TarLimits(max_pax=9), "13 bytes is over the limit of 9"),
    ],
)
def test_a_limit_is_the_readers_to_choose(limits: TarLimits, message: str) -> None:
    tar = block(size=512) + bytes(512) + extended(b"L", b"0123456789\0") + block()
    tar += pax(path=b"path") + block() + END
    assert [entry.name for entry in entries(tar)] == ["file", "0123456789", "path"]
    with pytest.raises(IntegrityError, match=message):
        entries(tar, limits)


def test_a_pax_size_counts_for_its_entry_and_not_for_the_headers_between() -> None:
    tar = pax(size=b"600") + extended(b"L", b"long\0") + block(size=0) + block(name=b"inner")
    tar += bytes(512) + block(name=b"outer") + END
    first, second = entries(tar)
    assert (first.name, first.size, second.name) == ("long", 600, "outer")


@pytest.mark.parametrize("kind", [b"1", b"2", b"3", b"4", b"5", b"6"])
def test_a_size_of_what_has_no_content_is_not_skipped(kind: bytes) -> None:
    first, second = entries(block(kind, size=512, link=b"to") + block(name=b"next") + END)
    assert (first.size, second.name) == (0, "next")


def test_dialects_old_and_odd_are_read() -> None:
    v7 = block(b"\0", b"dir/", magic=b"")
    blanks = block(uid=b"     0 \0", mode=b" 644 \0 \0", name=b"blanks")
    binary = block(name=b"binary", uid=b"\x80\0\0\0\xff\xff\xff\xff", mtime=b"\xff" * 12)
    contiguous = block(b"7", b"contiguous", 1) + padded(b"c")
    star = block(prefix=b"dir".ljust(131, b"\0") + b"00000000001 00000000002 ")
    full = block(prefix=b"d" * 131 + b"00000000001 00000000002 ".ljust(32, b"\0") + b"tar\0")
    gnu = block(prefix=b"00000000001", magic=b"ustar  \0")
    found = entries(v7 + blanks + binary + contiguous + star + full + gnu + END)
    assert [entry.kind for entry in found] == ["dir"] + ["file"] * 6
    assert [entry.name for entry in found[4:]] == ["dir/file", "d" * 131 + "/file", "file"]
    assert (found[1].uid, found[1].mode) == (0, 0o644)
    assert (found[2].uid, found[2].mtime_ns) == (0xFFFFFFFF, -1_000_000_000)


def test_a_checksum_over_signed_bytes_counts_too() -> None:
    data = bytearray(block(name="ä".encode()))
    data[148:156] = b" " * 8
    signed = sum(byte - 256 * (byte >= 128) for byte in data)
    data[148:156] = b"%06o\0 " % signed
    assert [entry.name for entry in entries(bytes(data) + END)] == ["ä"]
    data[148:156] = b"%06o\0 " % (signed + 1)
    with pytest.raises(IntegrityError, match="checksum"):
        entries(bytes(data) + END)


def test_names_are_told_as_they_stand() -> None:
    names = ["../../etc/passwd", "/abs", "a//b/./c", "..", "\udcff\udc80", "new\nline"]
    output = io.BytesIO()
    writer = TarWriter(output.write)
    for name in names:
        writer.add(name)
    writer.finish()
    assert [entry.name for entry in entries(output.getvalue())] == names


def _swap(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + bytes([value]) + data[at + 1 :]


def _resum(data: bytes) -> bytes:
    """The first header's checksum made right, so that damage gets past it."""
    head = bytearray(data[:BLOCK])
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data[BLOCK:]


@steady
@given(
    at=st.integers(0, 2047),
    value=st.integers(0, 255),
    repair=st.sampled_from([_resum, bytes]),
    form=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
)
def test_any_damaged_byte_ends_in_entries_or_one_of_our_errors(
    at: int, value: int, repair: Callable[[bytes], bytes], form: int
) -> None:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("n" * 120))
    message = refusal(repair(_swap(output.getvalue(), at, value)))
    assert message is None or "the test archive" in message


@steady
@given(st.binary(max_size=3000), st.binary(max_size=600))
def test_any_bytes_end_in_entries_or_one_of_our_errors(data: bytes, records: bytes) -> None:
    for tar in (data, extended(b"x", records) + block() + END, _resum(padded(data + b"x") + END)):
        message = refusal(tar)
        assert message is None or "the test archive" in message
