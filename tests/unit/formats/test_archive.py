from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard

from kstore.errors import (
    CancelledError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    StorageError,
)
from kstore.formats import spool
from kstore.formats.archive import Archive, open_archive
from kstore.streams import Cancel
from tests.support.dockertars import Link, tar_of

FILES = {
    "first": b"the first file",
    "dir/second": b"x" * 100_000,
    "dir/link": Link("second"),
    "dir/far": Link("../first"),
    "hard": Link("dir/second", hard=True),
    "again": Link("dir/link"),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def listed(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def opened(tmp_path: Path, data: bytes) -> Archive:
    path = tmp_path / "some.tar"
    path.write_bytes(data)
    return open_archive(path, spool_dir=tmp_path)


def piped(data: bytes) -> tuple[BinaryIO, threading.Thread]:
    """The reading end of a pipe that ``data`` comes through."""
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    return os.fdopen(reader, "rb"), thread


def check_files(archive: Archive) -> None:
    assert list(archive.names) == list(FILES)
    assert archive.read("first", 100) == b"the first file"
    assert archive.read("again", 200_000) == b"x" * 100_000
    assert archive.size("hard") == 100_000
    assert archive.read("dir/far", 100) == b"the first file"
    assert archive.resolve("again") == "dir/second"
    assert "nothing" not in archive
    with archive.open("first", 4) as member:
        buffer = memoryview(bytearray(100))
        assert member.offset == 4
        assert bytes(buffer[: member.readinto(buffer)]) == b"first file"
        assert member.readinto(buffer) == 0


def greedy_xz() -> bytes:
    """xz data of a few bytes whose header wants a dictionary of 2 GiB."""
    data = bytearray(lzma.compress(b"small"))
    header = slice(12, 12 + 4 * (data[12] + 1))  # behind the stream's own; ends with its CRC
    at = 12 + 4  # behind its size, its flags, and the filter's number and size of properties
    assert bytes(data[at - 2 : at]) == b"\x21\x01"
    data[at] = 38
    body = bytes(data[header])[:-4]
    data[header] = body + zlib.crc32(body).to_bytes(4, "little")
    return bytes(data)


def test_xz_data_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"xz data is damaged: .*[Mm]emory"):
        opened(tmp_path, greedy_xz())
    assert listed(tmp_path) == ["some.tar"]


def test_a_plain_file_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(tar_of(FILES))
    with open_archive(path, spool_dir=Path("/nonexistent")) as archive:
        check_files(archive)


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_file_is_unpacked_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    with opened(tmp_path, PACKERS[kind](tar_of(FILES))) as archive:
        check_files(archive)
        assert listed(tmp_path) == ["some.tar"]


@pytest.mark.parametrize("kind", [None, *PACKERS])
def test_a_pipe_is_read_to_its_end(tmp_path: Path, kind: str | None) -> None:
    data = tar_of(FILES)
    stream, thread = piped(PACKERS[kind](data) if kind else data)
    with stream, open_archive(stream, spool_dir=tmp_path) as archive:
        check_files(archive)
    thread.join()
    assert listed(tmp_path) == []


def test_a_redirected_file_is_read_where_it_is_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "some.tar"
    path.write_bytes(b"before" + tar_of(FILES))
    with path.open("rb") as stream:
        stream.read(6)
        with open_archive(stream, spool_dir=Path("/nonexistent")) as archive:
            check_files(archive)


def test_a_stream_without_a_descriptor_will_do(tmp_path: Path) -> None:
    with open_archive(io.BytesIO(tar_of(FILES)), spool_dir=tmp_path, what="it") as archive:
        check_files(archive)


def test_compressed_archives_of_several_members_are_one_archive(tmp_path: Path) -> None:
    data = tar_of(FILES)
    for kind, pack in PACKERS.items():
        packed = pack(data[:1000]) + pack(data[1000:])
        with opened(tmp_path, packed) as archive:
            assert list(archive.names) == list(FILES), kind


def test_an_open_member_outlives_its_archive(tmp_path: Path) -> None:
    with opened(tmp_path, tar_of(FILES)) as archive:
        member = archive.open("first")
    buffer = memoryview(bytearray(100))
    with member:
        assert bytes(buffer[: member.readinto(buffer)]) == b"the first file"


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    with opened(tmp_path, tar_of({"a": b"x" * 5000})) as archive, archive.open("a") as member:
        os.truncate(tmp_path / "some.tar", 1024)
        buffer = memoryview(bytearray(5000))
        member.readinto(buffer)
        with pytest.raises(IntegrityError, match="became shorter"):
            member.readinto(buffer)


def test_a_read_is_bounded(tmp_path: Path) -> None:
    with opened(tmp_path, tar_of(FILES)) as archive:
        assert len(archive.read("dir/second", 100_000)) == 100_000
        with pytest.raises(IntegrityError, match="'dir/second' in archive .* 99999 bytes"):
            archive.read("dir/second", 99_999)


def test_names_are_clean_and_special_files_do_not_count(tmp_path: Path) -> None:
    with opened(tmp_path, tar_of({"./a//b": b"1", "./c": b"2"})) as archive:
        assert list(archive.names) == ["a/b", "c"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("/etc/passwd", b"")], "an entry called '/etc/passwd'"),
        ([("a/../../b", b"")], "an entry called 'a/../../b'"),
        ([("a/../b", b"")], "an entry called 'a/../b'"),
        ([("..", b"")], "an entry called '..'"),
        ([("a", b"1"), ("a", b"2")], "two entries called 'a'"),
        ([("a", b"1"), ("./a", b"1")], "two entries called 'a'"),
        ([("a", b"1"), ("a", Link("b"))], "two entries called 'a'"),
        ([("d/l", Link("../../x"))], "'d/l' links to '../../x'"),
        ([("d/l", Link("/etc/passwd"))], "'d/l' links to '/etc/passwd'"),
        ([("d/l", Link("../x", hard=True))], "'d/l' links to '../x'"),
        ([("d/l", Link(".."))], "'d/l' links to '..'"),
    ],
)
def test_names_and_links_that_leave_the_archive_are_refused(
    tmp_path: Path, files: list[tuple[str, bytes | Link]], message: str
) -> None:
    with pytest.raises(IntegrityError) as caught:
        opened(tmp_path, tar_of(files))
    assert message in str(caught.value)
    assert "some.tar" in str(caught.value)


def test_links_in_a_circle_or_to_nowhere_fail_when_they_are_used(tmp_path: Path) -> None:
    files = {
        "one": Link("two"),
        "two": Link("one"),
        "self": Link("self"),
        "nowhere": Link("gone"),
        "fine": b"",
        **{f"chain{n}": Link(f"chain{n + 1}") for n in range(20)},
        "chain20": b"",
    }
    with opened(tmp_path, tar_of(files)) as archive:
        for name in ("one", "two", "self", "chain0"):
            with pytest.raises(IntegrityError, match=f"link '{name}' leads in a circle"):
                archive.open(name)
        assert archive.size("chain15") == 0
        with pytest.raises(IntegrityError, match="leads to 'gone', which is not in it"):
            archive.size("nowhere")
        with pytest.raises(NotFoundError, match="has no file 'missing'"):
            archive.open("missing")


def test_an_archive_cut_at_any_block_is_refused(tmp_path: Path) -> None:
    data = tar_of({"a": b"x" * 1000, "b": b"y"})
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512 + 1024
    for cut in [*range(0, end, 512), 1, 511, 513, end - 1]:
        with pytest.raises(IntegrityError, match=r"some\.tar"):
            opened(tmp_path, data[:cut])
    opened(tmp_path, data[:end]).close()


@pytest.mark.parametrize("kind", PACKERS)
def test_a_compressed_archive_cut_anywhere_or_followed_by_anything_is_refused(
    tmp_path: Path, kind: str
) -> None:
    data = PACKERS[kind](tar_of({"a": b"x" * 1000}))
    for cut in range(1, len(data), 7):
        with pytest.raises(IntegrityError):
            opened(tmp_path, data[:cut])
    with pytest.raises(IntegrityError, match=r"some\.tar"):
        opened(tmp_path, data + b"more")


def test_what_follows_the_end_of_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"some\.tar"):
        opened(tmp_path, tar_of(FILES) + b"trailing garbage")


def test_a_bomb_is_stopped_long_before_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "FREE_BYTES", 1 << 20)
    for kind, pack in PACKERS.items():
        bomb = pack(tar_of({"a": bytes(8 << 20)}))
        with pytest.raises(IntegrityError, match=r"some\.tar unpacks to more than 200 times"):
            opened(tmp_path, bomb)
        assert listed(tmp_path) == ["some.tar"], kind


def test_an_endless_stream_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_SPOOLED", 50_000)
    for data in (tar_of(FILES), *(pack(tar_of(FILES)) for pack in PACKERS.values())):
        with pytest.raises(IntegrityError, match="more than 50000 bytes"):
            open_archive(io.BytesIO(data), spool_dir=tmp_path)


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "is empty"), (b"no tar" * 200, "is not a tar archive")]
)
def test_what_is_no_archive_is_called_so(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        opened(tmp_path, data)


def test_what_cannot_be_opened_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"cannot open archive .*gone\.tar"):
        open_archive(tmp_path / "gone.tar", spool_dir=tmp_path)
    with pytest.raises(InvalidInputError, match="is a directory"):
        open_archive(tmp_path, spool_dir=tmp_path)
    path = tmp_path / "packed.tar"
    path.write_bytes(gzip.compress(tar_of(FILES)))
    with pytest.raises(KstoreError, match="cannot unpack archive .* into /nonexistent"):
        open_archive(path, spool_dir=Path("/nonexistent"))
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StorageError, match="loop"):
        open_archive(tmp_path / "loop", spool_dir=tmp_path)


def test_a_full_disk_is_named_with_a_way_out(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "packed.tar"
    path.write_bytes(gzip.compress(tar_of({"a": os.urandom(3 << 20)})))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StorageError, match="File too large") as caught:
            open_archive(path, spool_dir=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "TMPDIR" in (caught.value.hint or "")
    assert listed(tmp_path) == ["packed.tar"]


def test_spooling_stops_when_asked_to(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CancelledError):
        open_archive(io.BytesIO(tar_of(FILES)), spool_dir=tmp_path, cancel=cancel)
