"""Layers merged into one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence

import pytest

from kstore.errors import UnsupportedError
from kstore.streams import BytesStream
from kstore.tree.squash import SquashedTar
from tests.support.trees import content, made, members

FILE, DIR, LINK, SYMLINK = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


def tar(*entries: tuple[str, bytes, bytes | str], mode: int = 0o644, mtime: int = 1000) -> bytes:
    """A layer of (name, type, content or link target)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, what in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = kind, mode, mtime
            if isinstance(what, str):
                info.linkname = what
            else:
                info.size = len(what)
            archive.addfile(info, io.BytesIO(what) if isinstance(what, bytes) else None)
    return data.getvalue()


def squashed(*layers: bytes, newest: int | None = None, hollow: bool = False) -> bytes:
    openers: Sequence = [lambda data=data: BytesStream(data) for data in layers]
    with SquashedTar(openers, newest=newest, hollow=hollow) as merged:
        return made(merged)


def test_what_shows_in_the_end_is_there_once_with_its_last_content() -> None:
    base = tar(("etc", DIR, b""), ("etc/motd", FILE, b"old"), ("etc/keep", FILE, b"kept"))
    top = tar(("etc", DIR, b""), ("etc/motd", FILE, b"new"), ("etc/more", FILE, b"x"))
    data = squashed(base, top)
    assert sorted(members(data)) == ["etc", "etc/keep", "etc/more", "etc/motd"]
    assert content(data, "etc/motd") == b"new"
    assert data.count(b"old") == 0


def test_what_was_removed_is_not_there() -> None:
    base = tar(("a/b", FILE, b"1"), ("a/c", FILE, b"2"), ("d/e", FILE, b"3"), ("f", FILE, b"4"))
    top = tar(("a/.wh.b", FILE, b""), ("d/.wh..wh..opq", FILE, b""), ("d/g", FILE, b"5"))
    assert sorted(members(squashed(base, top))) == ["a/c", "d/g", "f"]


def test_a_directory_has_the_facts_of_the_last_layer_and_comes_first() -> None:
    base = tar(("a", DIR, b""), ("a/b", FILE, b"1"), mode=0o755)
    top = tar(("a", DIR, b""), mode=0o700)
    found = members(squashed(base, top))
    assert list(found) == ["a", "a/b"]
    assert found["a"].mode == 0o700


def test_hard_links_stay_links() -> None:
    found = members(squashed(tar(("a", FILE, b"1"), ("b", LINK, "./a"), ("c", LINK, "b"))))
    assert [(m.type, m.linkname) for m in found.values()] == [(FILE, ""), (LINK, "a"), (LINK, "a")]


def test_the_links_to_a_file_that_is_gone_keep_its_content() -> None:
    base = tar(("a", FILE, b"precious"), ("b", LINK, "a"), ("c", LINK, "a"), ("d", LINK, "a"))
    top = tar((".wh.a", FILE, b""), ("c", FILE, b"other"))
    data = squashed(base, top)
    found = members(data)
    assert sorted(found) == ["b", "c", "d"]
    assert [content(data, name) for name in "bcd"] == [b"precious", b"other", b"precious"]
    assert (found["b"].type, found["d"].linkname) == (FILE, "b")


def test_a_link_to_what_another_layer_hid_cannot_be_kept() -> None:
    base = tar(("a", FILE, b"1"))
    middle = tar(("b", LINK, "a"))
    with pytest.raises(UnsupportedError, match="'b' links to 'a'"):
        squashed(base, middle, tar((".wh.a", FILE, b"")))
    assert members(squashed(base, middle))["b"].linkname == "a"


def test_a_directory_that_a_file_replaced_takes_its_files_with_it() -> None:
    base = tar(("a", DIR, b""), ("a/b", FILE, b"1"))
    data = squashed(base, tar(("a", SYMLINK, "etc")))
    assert {name: member.type for name, member in members(data).items()} == {"a": SYMLINK}


def test_dates_are_cut_and_contents_left_out_where_that_is_wanted() -> None:
    base = tar(("a", DIR, b""), ("a/b", FILE, b"1" * 3000), mtime=5000)
    assert {m.mtime for m in members(squashed(base, newest=4000)).values()} == {4000}
    assert [m.size for m in members(squashed(base, hollow=True)).values()] == [0, 0]


def test_layers_are_closed_whatever_happens() -> None:
    closed: list[int] = []

    class Watched(BytesStream):
        def close(self) -> None:
            super().close()
            closed.append(1)

    with SquashedTar([lambda: Watched(tar(("a", FILE, b"x" * 5000)))]) as merged:
        assert merged.readinto(memoryview(bytearray(512))) == 512
    assert closed == [1, 1]
