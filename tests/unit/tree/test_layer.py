"""A directory tree as a layer: owners, attributes, removals, dates."""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path

import pytest

from kstore.errors import IntegrityError, InvalidInputError, StorageError
from kstore.formats.layer_tar import TarReader
from kstore.streams import BytesStream
from kstore.tree import descent
from kstore.tree.descent import Descent
from kstore.tree.layer import LayerTar, TreeRules
from tests.support.trees import WHEN, made, make_tree, members, set_attribute

OVERRIDE = "user.containers.override_stat"
UPPER = TreeRules(removals=True)


def layer(root: Path, rules: TreeRules | None = None) -> bytes:
    with LayerTar(root, rules, warn=lambda _: None) as tar:
        return made(tar)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def attributed(path: Path, name: str, value: bytes) -> None:
    if not set_attribute(path, name, value):
        pytest.skip("this file system has no such attributes")


def test_the_same_tree_is_the_same_bytes_wherever_it_is(tmp_path: Path) -> None:
    files = {"b/c": b"1", "a": b"2", "b/a": "../a", "z/": None}
    one = make_tree(tmp_path / "one", files)
    other = make_tree(tmp_path / "other", dict(reversed(files.items())))
    assert layer(one) == layer(other)
    assert list(members(layer(one))) == ["a", "b", "b/a", "b/c", "z"]


def test_no_file_is_younger_than_the_time_that_was_given(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"new": b"1", "old": b"2"})
    os.utime(root / "old", (WHEN - 100, WHEN - 100))
    found = members(layer(root, TreeRules(newest=WHEN - 50)))
    assert {name: member.mtime for name, member in found.items()} == {
        "new": WHEN - 50,
        "old": WHEN - 100,
    }


def test_the_owner_and_mode_a_rootless_tool_noted_are_the_true_ones(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"bin/su": b"x"})
    attributed(root / "bin/su", OVERRIDE, b"1:2:0104755:file")
    found = members(layer(root))["bin/su"]
    assert (found.uid, found.gid, found.mode) == (1, 2, 0o4755)
    assert not any("override" in key for key in found.pax_headers)
    assert members(layer(root, TreeRules(owners="root")))["bin/su"].uid == 0


def test_a_placeholder_of_a_device_becomes_the_device(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"null": b""})
    attributed(root / "null", OVERRIDE, b"0:0:0666:char-1-3")
    found = members(layer(root))["null"]
    assert (found.type, found.devmajor, found.devminor) == (tarfile.CHRTYPE, 1, 3)


@pytest.mark.parametrize("value", [b"", b"root:root:755", b"1:2", b"-1:0:755", b"0:0:755:door"])
def test_a_note_that_makes_no_sense_is_refused(tmp_path: Path, value: bytes) -> None:
    root = make_tree(tmp_path / "tree", {"file": b"x"})
    attributed(root / "file", OVERRIDE, value)
    with pytest.raises(IntegrityError, match=r"file has an attribute .*override_stat"):
        layer(root)


@pytest.mark.unprivileged
def test_files_of_the_calling_user_become_roots(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"file": b"x"})
    found = members(layer(root))["file"]
    assert (found.uid, found.gid) == (0, 0)


@pytest.mark.root
def test_to_root_every_owner_is_what_it_is(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"file": b"x", "other": b"y"})
    os.chown(root / "file", 7, 8)
    os.chown(root / "other", 0, 5)
    found = members(layer(root))
    assert (found["file"].uid, found["file"].gid) == (7, 8)
    assert (found["other"].uid, found["other"].gid) == (0, 5)


def test_attributes_travel_but_those_of_this_machine(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"file": b"x", "dir/": None})
    attributed(root / "file", "user.note", b"\xff\x00y")
    attributed(root / "dir", "user.colour", b"blue")
    attributed(root / "file", "user.overlay.origin", b"z")
    entries = {entry.name: entry for entry in TarReader(BytesStream(layer(root)))}
    assert entries["dir/"].pax["SCHILY.xattr.user.colour"] == "blue"
    value = entries["file"].pax["SCHILY.xattr.user.note"]
    assert value.encode("utf-8", "surrogateescape") == b"\xff\x00y"
    assert not any("overlay" in key for key in entries["file"].pax)


def test_removals_come_before_what_is_beside_them(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"etc/!first": b"x", "etc/.wh.motd": b"", "etc/a": b"y"})
    assert list(members(layer(root, UPPER))) == ["etc", "etc/.wh.motd", "etc/!first", "etc/a"]


def test_what_hides_a_directory_makes_single_removals_needless(tmp_path: Path) -> None:
    files = {"etc/.wh.motd": b"", "etc/.wh..wh..opq": b"", "etc/a": b"y"}
    root = make_tree(tmp_path / "tree", files)
    assert list(members(layer(root, UPPER))) == ["etc", "etc/.wh..wh..opq", "etc/a"]


def test_an_opaque_directory_of_an_overlay_hides_what_is_below(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"etc/a": b"y"})
    attributed(root / "etc", "user.overlay.opaque", b"y")
    assert list(members(layer(root, UPPER))) == ["etc", "etc/.wh..wh..opq", "etc/a"]
    assert list(members(layer(root))) == ["etc", "etc/a"]


def test_a_removal_an_overlay_noted_is_one(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"etc/": None})
    try:
        os.mknod(root / "etc/motd", stat.S_IFCHR, os.makedev(0, 0))
    except PermissionError:
        pytest.skip("such files cannot be made here")
    assert list(members(layer(root, UPPER))) == ["etc", "etc/.wh.motd"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", ".wh..wh.plnk"])
def test_a_name_that_removes_nothing_is_refused(tmp_path: Path, name: str) -> None:
    root = make_tree(tmp_path / "tree", {name: b""})
    with pytest.raises(InvalidInputError, match="is no removal"):
        layer(root, UPPER)


@pytest.mark.parametrize("what", [b"full", "a link"], ids=["with content", "link"])
def test_only_an_empty_file_removes(tmp_path: Path, what: bytes | str) -> None:
    root = make_tree(tmp_path / "tree", {".wh.motd": what})
    with pytest.raises(InvalidInputError, match="an empty file"):
        layer(root, UPPER)


def test_a_hollow_layer_has_everything_but_the_bytes(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"a/b": b"x" * 5000, "c": "a"})
    full, hollow = (members(layer(root, TreeRules(hollow=h))) for h in (False, True))
    assert list(full) == list(hollow)
    assert (full["a/b"].size, hollow["a/b"].size) == (5000, 0)


def test_a_directory_that_became_a_link_meanwhile_is_not_followed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", {"a/b/c": b"x", "outside/c": b"secret"})
    with Descent(root) as tree:
        assert [child.name for child in tree.children("a/b")] == ["c"]
        (root / "a/b/c").unlink()
        (root / "a/b").rmdir()
        (root / "a/b").symlink_to(root / "outside")
        assert [child.name for child in tree.children("a")] == ["b"]
        with pytest.raises(StorageError, match="cannot read .*a/b"):
            tree.children("a/b")


def test_a_tree_of_any_width_keeps_two_descriptors_open(tmp_path: Path) -> None:
    names = {"/".join("d" * depth) + "/file": b"" for depth in range(1, 40)}
    root = make_tree(tmp_path / "tree", names)
    before = open_descriptors()
    with LayerTar(root, warn=lambda _: None) as tar:
        assert len(members(made(tar))) == 78
        assert open_descriptors() <= before + 2
    assert open_descriptors() == before


def test_a_tree_too_deep_to_be_read_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descent, "MAX_DEPTH", 3)
    root = make_tree(tmp_path / "tree", {"a/b/c/d/e": b""})
    with pytest.raises(InvalidInputError, match="deeper than 3 directories"):
        layer(root)
