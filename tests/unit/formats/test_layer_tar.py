"""Round trips of the tar reader and writer: with each other, the standard library and GNU tar."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import InvalidInputError
from kstore.formats.layer_tar import BLOCK, TarEntry, TarReader, TarWriter, looks_like_tar
from kstore.streams import BytesStream, Readable, read_limited
from tests.support.programs import require_program
from tests.support.strategies import steady

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "/".join(["a-directory-with-a-name"] * 12) + "/file"
#: Bytes, as text the way archives decode it: any but zero.
texts = st.binary(max_size=300).map(
    lambda data: data.replace(b"\0", b"0").decode("utf-8", "surrogateescape")
)


class Drip:
    """A stream that gives a few bytes at a time, and cannot seek."""

    def __init__(self, data: bytes, step: int) -> None:
        self._stream = BytesStream(data)
        self._step = step

    def readinto(self, buffer: memoryview, /) -> int:
        return self._stream.readinto(buffer[: self._step])


def contents(stream: Readable) -> list[tuple[TarEntry, bytes]]:
    reader = TarReader(stream)
    return [(entry, read_limited(reader, 1 << 24, entry.name)) for entry in reader]


def written(*members: tuple[dict[str, Any], bytes]) -> bytes:
    output = io.BytesIO()
    writer = TarWriter(output.write)
    for arguments, data in members:
        writer.add(**arguments, size=len(data))
        writer.write(data)
    writer.finish()
    assert writer.position == len(output.getvalue())
    return output.getvalue()


MEMBERS: list[tuple[dict[str, Any], bytes]] = [
    ({"name": "dir/", "kind": "dir", "mode": 0o1755, "mtime_ns": 1_600_000_000_000_000_000}, b""),
    ({"name": "dir/empty", "uid": 1000, "gid": 100, "uname": "me", "gname": "us"}, b""),
    ({"name": "dir/one", "mode": 0o4711}, b"x"),
    ({"name": "dir/block"}, bytes(range(256)) * 2),
    ({"name": "dir/big"}, b"0123456789" * 30_000),
    ({"name": LONG}, b"long"),
    ({"name": "n" * 101}, b"too long for the field"),
    ({"name": "größe/名前"}, b"text"),
    ({"name": "link", "kind": "symlink", "link": "../elsewhere"}, b""),
    ({"name": "far", "kind": "symlink", "link": LONG}, b""),
    ({"name": "hard", "kind": "hardlink", "link": "dir/one"}, b""),
    ({"name": "null", "kind": "char", "device": (1, 3)}, b""),
    ({"name": "disk", "kind": "block", "device": (8, 16)}, b""),
    ({"name": "pipe", "kind": "fifo"}, b""),
    ({"name": "fraction", "mtime_ns": 1_234_567_890_123_456_789}, b""),
    ({"name": "early", "mtime_ns": -1_500_000_000}, b""),
    ({"name": "owner", "uid": (1 << 32) - 1, "gid": 1 << 21}, b""),
    ({"name": "xattr", "pax": {"SCHILY.xattr.user.a": "b", "SCHILY.xattr.user.none": ""}}, b"c"),
]


def test_what_the_writer_writes_the_reader_reads() -> None:
    found = contents(BytesStream(written(*MEMBERS)))
    assert len(found) == len(MEMBERS)
    for (entry, data), (arguments, expected) in zip(found, MEMBERS, strict=True):
        assert data == expected
        assert entry.size == len(expected)
        for key, value in arguments.items():
            if key == "pax":
                assert dict(entry.pax) == value
            else:
                assert getattr(entry, key) == value, (arguments, key)


def test_the_standard_library_reads_what_the_writer_writes() -> None:
    with tarfile.open(fileobj=io.BytesIO(written(*MEMBERS)), errorlevel=2) as tar:
        found = tar.getmembers()
        assert len(found) == len(MEMBERS)
        for member, (arguments, data) in zip(found, MEMBERS, strict=True):
            assert member.name == arguments["name"].rstrip("/")
            assert member.mode == arguments.get("mode", 0o644)
            assert (member.uid, member.gid) == (arguments.get("uid", 0), arguments.get("gid", 0))
            assert member.mtime == pytest.approx(arguments.get("mtime_ns", 0) / 1e9, abs=1e-6)
            assert member.linkname == arguments.get("link", "")
            if member.isreg():
                content = tar.extractfile(member)
                assert content is not None
                assert content.read() == data
            if member.isdev() and not member.isfifo():
                assert (member.devmajor, member.devminor) == arguments["device"]
        assert found[-1].pax_headers == MEMBERS[-1][0]["pax"]


@pytest.mark.parametrize("form", FORMATS)
def test_the_reader_reads_what_the_standard_library_writes(form: str) -> None:
    output = io.BytesIO()
    limited = form == "ustar"
    with tarfile.open(fileobj=output, mode="w", format=FORMATS[form]) as tar:
        for arguments, data in MEMBERS:
            info = tarfile.TarInfo(arguments["name"])
            info.type = {
                "dir": b"5", "symlink": b"2", "hardlink": b"1",
                "char": b"3", "block": b"4", "fifo": b"6",
            }.get(arguments.get("kind", ""), b"0")  # fmt: skip
            info.size = len(data)
            info.mode = arguments.get("mode", 0o644)
            info.uid, info.gid = arguments.get("uid", 0), arguments.get("gid", 0)
            info.linkname = arguments.get("link", "")
            info.mtime = arguments.get("mtime_ns", 0) // 1_000_000_000
            info.devmajor, info.devminor = arguments.get("device", (0, 0))
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError:  # names and numbers that USTAR cannot hold
                assert limited
                continue
        names = [(tarinfo.name, tarinfo.isdir()) for tarinfo in tar.getmembers()]
    by_name = {arguments["name"].rstrip("/"): (arguments, data) for arguments, data in MEMBERS}
    found = contents(BytesStream(output.getvalue()))
    assert [(e.name.rstrip("/"), e.kind == "dir") for e, _ in found] == [
        (name.rstrip("/"), is_dir) for name, is_dir in names
    ]
    assert len(found) == len(MEMBERS) or limited
    for entry, data in found:
        arguments, expected = by_name[entry.name.rstrip("/")]
        assert data == expected
        assert entry.kind == arguments.get("kind", "file")
        assert entry.link == arguments.get("link", "")
        assert (entry.uid, entry.gid) == (arguments.get("uid", 0), arguments.get("gid", 0))
        assert entry.mtime_ns // 1_000_000_000 == arguments.get("mtime_ns", 0) // 1_000_000_000
        assert entry.device == arguments.get("device")


@pytest.mark.peer
@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_the_reader_reads_what_gnu_tar_writes(form: str, tmp_path: Path) -> None:
    program = require_program("tar")
    # The links of USTAR, and all names of v7, have room for 100 bytes.
    deep = {"v7": "d" * 40, "ustar": "d" * 58 + "/" + "e" * 34}.get(form, "d" * 90 + "/" + "e" * 90)
    (tmp_path / "in" / deep).mkdir(parents=True)
    file = tmp_path / "in" / deep / "file"
    file.write_bytes(b"content" * 1000)
    os.utime(file, ns=(0, 1_600_000_000_000_000_000))
    (file.parent / "another-empty-file").touch()
    (tmp_path / "in" / "link").symlink_to(f"{deep}/file")
    os.link(file, tmp_path / "in" / "second")
    run = [program, f"--format={form}", "--sort=name", "-C", str(tmp_path / "in"), "-c", "."]
    found = {e.name: (e, data) for e, data in contents(BytesStream(subprocess.check_output(run)))}
    entry, data = found[f"./{deep}/file"]
    assert data == b"content" * 1000
    assert entry.mtime_ns == 1_600_000_000_000_000_000
    assert entry.mode == file.stat().st_mode & 0o7777
    assert (entry.uid, entry.gid) == (os.getuid(), os.getgid())
    assert found["./"][0].kind == "dir"
    assert found[f"./{deep}/"][0].kind == "dir"
    assert found["./second"][0].link == f"./{deep}/file"
    assert found["./link"][0].link == f"{deep}/file"
    assert found[f"./{deep}/another-empty-file"][0].size == 0


@pytest.mark.peer
def test_gnu_tar_lists_what_the_writer_writes(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(written(*MEMBERS))
    run = [require_program("tar"), "--quoting-style=literal", "-tf", str(archive)]
    result = subprocess.run(run, capture_output=True, check=True)
    assert result.stdout.decode().splitlines() == [arguments["name"] for arguments, _ in MEMBERS]


@steady
@given(
    name=texts.filter(bool),
    data=st.binary(max_size=2000),
    link=texts,
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, (1 << 63) - 1),
    gid=st.integers(0, (1 << 63) - 1),
    mtime_ns=st.integers(-(10**20), 10**20),
    uname=texts,
    pax=st.dictionaries(st.from_regex(r"SCHILY\.xattr\.[a-z.]{1,9}", fullmatch=True), texts),
    step=st.integers(1, 700),
)
def test_any_metadata_survives_a_round_trip(
    name: str, data: bytes, link: str, mode: int, uid: int, gid: int, mtime_ns: int, uname: str,
    pax: dict[str, str], step: int,
) -> None:  # fmt: skip
    owner: dict[str, Any] = {"mode": mode, "uid": uid, "gid": gid, "mtime_ns": mtime_ns}
    owner |= {"uname": uname, "pax": pax}
    tar = written(
        ({"name": name, **owner}, data),
        ({"name": "link", "kind": "symlink", "link": link, **owner}, b""),
    )
    (file, content), (symlink, _) = contents(Drip(tar, step))
    assert (file.name, content, symlink.link) == (name, data, link)
    for entry in (file, symlink):
        assert (entry.mode, entry.uid, entry.gid) == (mode, uid, gid)
        assert (entry.mtime_ns, entry.uname) == (mtime_ns, uname)
        assert {key: entry.pax[key] for key in pax} == pax


@steady
@given(size=st.integers(0, (1 << 63) - 4096))
def test_any_size_is_announced_as_it_is(size: int) -> None:
    output = io.BytesIO()
    TarWriter(output.write).add("file", size=size)
    assert next(TarReader(BytesStream(output.getvalue()))).size == size
    assert ("size" in next(TarReader(BytesStream(output.getvalue()))).pax) == (size >= 8 << 30)


def test_equal_calls_write_equal_bytes_whatever_the_order_of_the_attributes() -> None:
    pax = {"SCHILY.xattr.b": "1", "SCHILY.xattr.a": "2", "comment": "3"}
    turned = dict(reversed(pax.items()))
    assert written(({"name": "ä", "pax": pax}, b"1")) == written(
        ({"name": "ä", "pax": turned}, b"1")
    )


def test_the_umask_does_not_show_in_the_bytes() -> None:
    before = os.umask(0o077)
    try:
        strict = written(*MEMBERS)
        os.umask(0)
        assert written(*MEMBERS) == strict
    finally:
        os.umask(before)


def test_plain_entries_are_ustar_without_extended_headers() -> None:
    tar = written(({"name": "a" * 150 + "/" + "b" * 100, "uid": 0o7777777}, b"12345"))
    assert len(tar) == 4 * BLOCK
    assert tar[257:265] == b"ustar\x0000"


def test_names_beyond_ascii_are_pax_records_marked_binary_if_they_are_not_utf_8() -> None:
    tar = written(({"name": "ä"}, b""), ({"name": "\udcff"}, b""))
    text, binary = TarReader(BytesStream(tar))
    assert dict(text.pax) == {"path": "ä"}
    assert dict(binary.pax) == {"hdrcharset": "BINARY", "path": "\udcff"}
    with tarfile.open(fileobj=io.BytesIO(tar)) as peer:
        assert peer.getnames() == ["ä", "\udcff"]


def test_an_offset_is_where_the_content_stands_in_the_archive() -> None:
    tar = written(*MEMBERS)
    for entry, data in contents(BytesStream(tar)):
        assert tar[entry.offset : entry.offset + entry.size] == data


def test_content_that_is_not_read_is_skipped(tmp_path: Path) -> None:
    tar = written(*MEMBERS)
    (tmp_path / "a.tar").write_bytes(b"before" + tar)
    expected = [entry for entry, _ in contents(BytesStream(tar))]
    for buffering in (0, -1):
        with (tmp_path / "a.tar").open("rb", buffering=buffering) as file:
            file.seek(6)
            assert list(TarReader(file)) == expected
    assert list(TarReader(Drip(tar, 511))) == expected
    reader = TarReader(Drip(tar, 100))
    partly = []
    for entry in reader:
        reader.readinto(memoryview(bytearray(7)))
        partly.append(entry)
    assert partly == expected


def test_unread_content_of_a_plain_file_is_not_read(tmp_path: Path) -> None:
    hole = tmp_path / "a.tar"
    size = 1 << 40
    with hole.open("wb") as file:
        TarWriter(file.write).add("huge", size=size)
        file.seek(size, os.SEEK_CUR)
        file.write(written(({"name": "after"}, b"x")))
    with hole.open("rb") as file:
        assert [(entry.name, entry.size) for entry in TarReader(file)] == [
            ("huge", size),
            ("after", 1),
        ]


def test_what_is_written_from_an_entry_is_that_entry() -> None:
    output = io.BytesIO()
    writer = TarWriter(output.write)
    first = contents(BytesStream(written(*MEMBERS)))
    for entry, data in first:
        fields = {name: getattr(entry, name) for name in TarEntry.__slots__ if name != "offset"}
        writer.add(**fields)
        writer.write(data)
    writer.finish()
    assert output.getvalue() == written(*MEMBERS)


def test_global_records_apply_until_a_local_one_differs() -> None:
    output = io.BytesIO()
    with tarfile.open(
        fileobj=output,
        mode="w",
        format=tarfile.PAX_FORMAT,
        pax_headers={"comment": "all", "x": "1"},
    ) as tar:
        tar.addfile(tarfile.TarInfo("plain"))
        special = tarfile.TarInfo("special")
        special.pax_headers = {"x": "2"}
        tar.addfile(special)
    plain, special_entry = TarReader(BytesStream(output.getvalue()))
    assert dict(plain.pax) == {"comment": "all", "x": "1"}
    assert dict(special_entry.pax) == {"comment": "all", "x": "2"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": "a\0b"},
        {"name": "\ud800"},
        {"name": "n" * 70_000},
        {"name": "a", "kind": "symlink", "link": "b\0"},
        {"name": "a", "kind": "char", "device": (8**7, 0)},
        {"name": "a", "pax": {"key=": "value"}},
        {"name": "a", "pax": {"": "value"}},
        {"name": "a", "pax": {"comment": "c" * (1 << 20)}},
    ],
)
def test_what_no_archive_can_hold_is_refused_before_a_byte(arguments: dict[str, Any]) -> None:
    output = io.BytesIO()
    with pytest.raises(InvalidInputError):
        TarWriter(output.write).add(**arguments)
    assert output.getvalue() == b""


def test_wrong_use_of_the_writer_is_a_runtime_error() -> None:
    writer = TarWriter(io.BytesIO().write)
    with pytest.raises(RuntimeError):
        writer.write(b"x")
    writer.add("file", size=3)
    with pytest.raises(RuntimeError):
        writer.write(b"four")
    writer.write(b"tw")
    for call in (writer.finish, lambda: writer.add("next")):
        with pytest.raises(RuntimeError):
            call()
    writer.write(b"o")
    with pytest.raises(RuntimeError):
        writer.add("dir", kind="dir", size=1)
    with pytest.raises(RuntimeError):
        writer.add("file", uid=-1)
    writer.finish()
    for call in (writer.finish, lambda: writer.add("next")):
        with pytest.raises(RuntimeError):
            call()


def test_a_tar_is_recognised_by_its_first_block() -> None:
    tar = written(*MEMBERS)
    assert looks_like_tar(tar)
    assert looks_like_tar(bytes(1024))
    assert not looks_like_tar(tar[:511])
    assert not looks_like_tar(tar[1:])
    assert not looks_like_tar(b"\x1f\x8b" + bytes(510))
