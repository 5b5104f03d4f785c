"""Files of stacked layers, and how two stacks differ."""

from __future__ import annotations

import pytest

from kstore.errors import IntegrityError
from kstore.formats.layer_tar import TarReader
from kstore.streams import BytesStream
from kstore.tree import contents
from kstore.tree.contents import Contents, changes
from tests.support.layers import Member, directory, file, hardlink, layer, symlink

BASE = layer(
    directory("etc"),
    file("etc/passwd", b"root"),
    file("etc/group", b"root"),
    directory("usr"),
    directory("usr/bin"),
    file("usr/bin/sh", b"shell"),
    directory("var"),
    directory("var/log"),
    file("var/log/old", b"o"),
)


def stack(*layers: bytes, hashed: bool = False) -> Contents:
    found = Contents()
    for number, data in enumerate(layers):
        add(found, data, f"{number}-{hash(data)}", hashed=hashed)
    return found


def add(found: Contents, data: bytes, origin: str, *, hashed: bool = False) -> None:
    found.add_layer(TarReader(BytesStream(data)), origin, hashed=hashed)


def on_top(*members: Member, base: bytes = BASE) -> list[str]:
    """What a layer of ``members`` changes on ``base``."""
    before = stack(base)
    after = before.copy()
    add(after, layer(*members), "top")
    return between(before, after)


def between(old: Contents, new: Contents) -> list[str]:
    return [f"{change.kind} {change.path}" for change in changes(old, new)]


def test_a_new_file_changes_the_directory_it_is_in() -> None:
    assert on_top(file("etc/motd")) == ["C /etc", "A /etc/motd"]


def test_a_new_file_in_the_root_changes_nothing_else() -> None:
    assert on_top(file("init")) == ["A /init"]


def test_a_file_written_anew_changes_and_its_directory_does_not() -> None:
    assert on_top(directory("etc"), file("etc/passwd", b"two")) == ["C /etc/passwd"]


def test_a_directory_changes_with_its_own_facts() -> None:
    assert on_top(directory("usr/bin", mode=0o700)) == ["C /usr/bin"]
    assert on_top(directory("usr/bin", mtime=2000)) == ["C /usr/bin"]
    assert on_top(directory("usr/bin")) == []


def test_directories_that_no_layer_describes_are_added_with_what_is_in_them() -> None:
    assert on_top(file("srv/www/index")) == ["A /srv", "A /srv/www", "A /srv/www/index"]


def test_a_whiteout_removes_a_file() -> None:
    assert on_top(file("etc/.wh.group")) == ["C /etc", "D /etc/group"]


def test_a_removed_directory_is_told_once() -> None:
    assert on_top(file(".wh.var")) == ["D /var"]


def test_a_whiteout_of_what_is_not_there_changes_nothing() -> None:
    assert on_top(file("etc/.wh.none"), file("none/.wh.none")) == []


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_an_opaque_directory_hides_lower_files_wherever_its_mark_stands(first: bool) -> None:
    mark, new = file("var/log/.wh..wh..opq"), file("var/log/new")
    members = (mark, new) if first else (new, mark)
    assert on_top(directory("var/log"), *members) == [
        "C /var/log",
        "A /var/log/new",
        "D /var/log/old",
    ]


def test_a_whiteout_beside_the_same_name_leaves_what_its_own_layer_wrote() -> None:
    assert on_top(directory("var"), file("var/new"), file(".wh.var")) == [
        "C /var",
        "D /var/log",
        "A /var/new",
    ]


def test_marks_of_storage_drivers_are_no_files() -> None:
    assert on_top(file("etc/.wh..wh.aufs")) == []


_LINKED = layer(
    directory("usr"), directory("usr/lib"), file("usr/lib/so"), symlink("lib", "usr/lib")
)


@pytest.mark.parametrize(
    ("member", "base", "changed"),
    [
        (file("etc/.wh."), BASE, []),
        (file("etc/.wh.."), BASE, []),
        (file("etc/.wh..."), BASE, []),
        (file(".wh..wh..opq"), BASE, ["D /etc", "D /usr", "D /var"]),
        (file("lib/.wh.so"), _LINKED, []),
    ],
    ids=["no name", "the directory", "its parent", "all", "through a link"],
)
def test_an_odd_mark_removes_what_it_names_and_nothing_else(
    member: Member, base: bytes, changed: list[str]
) -> None:
    assert on_top(member, base=base) == changed


def test_a_directory_in_the_place_of_a_file_brings_its_files() -> None:
    assert on_top(directory("etc/group"), file("etc/group/a")) == [
        "C /etc/group",
        "A /etc/group/a",
    ]


def test_a_file_in_the_place_of_a_directory_takes_what_was_in_it() -> None:
    assert on_top(symlink("var", "/data")) == ["C /var"]


def test_a_link_on_the_way_is_replaced_not_followed() -> None:
    base = layer(directory("usr"), directory("usr/lib"), symlink("lib", "usr/lib"))
    assert on_top(file("lib/libc.so"), base=base) == ["C /lib", "A /lib/libc.so"]


def test_names_may_begin_with_a_slash_or_a_dot() -> None:
    assert on_top(directory("./"), file("./etc/a"), file("/etc/b")) == [
        "C /etc",
        "A /etc/a",
        "A /etc/b",
    ]


def test_changes_come_by_path_directories_before_what_is_in_them() -> None:
    found = on_top(file("usr/bin/a"), file("etc/z"), file("aaa"), file("var/.wh.log"))
    assert found == [
        "A /aaa",
        "C /etc",
        "A /etc/z",
        "C /usr/bin",
        "A /usr/bin/a",
        "C /var",
        "D /var/log",
    ]


def test_layers_of_two_stacks_are_compared_by_content() -> None:
    one = stack(layer(file("a", b"1"), file("b", b"1")), hashed=True)
    two = stack(layer(file("b", b"2"), file("a", b"1")), hashed=True)
    assert between(one, two) == ["C /b"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (file("a", b"1"), file("a", b"1", mode=0o600)),
        (file("a", b"1"), file("a", b"1", mtime=7)),
        (file("a", b"1"), file("a", b"1", xattrs={"user.x": "y"})),
        (file("a", b"1"), file("a", b"12")),
        (symlink("a", "b"), symlink("a", "c")),
        (symlink("a", "b"), directory("a")),
    ],
    ids=["mode", "time", "xattr", "size", "target", "kind"],
)
def test_every_fact_of_a_file_counts(old: Member, new: Member) -> None:
    assert between(stack(layer(old), hashed=True), stack(layer(new), hashed=True)) == ["C /a"]
    assert between(stack(layer(old), hashed=True), stack(layer(old), hashed=True)) == []


def test_a_hard_link_has_the_content_of_what_it_links_to() -> None:
    linked = stack(layer(file("a", b"1"), hardlink("b", "a")), hashed=True)
    copied = stack(layer(file("a", b"1"), file("b", b"1")), hashed=True)
    other = stack(layer(file("a", b"2"), hardlink("b", "./a")), hashed=True)
    assert between(linked, copied) == []
    assert between(linked, other) == ["C /a", "C /b"]


@pytest.mark.parametrize(
    ("members", "added"),
    [
        ([hardlink("b", "a"), file("a", b"1")], ["A /a", "A /b"]),
        ([hardlink("b", "nothing")], ["A /b"]),
        ([file("a"), symlink("l", "a"), hardlink("b", "l")], ["A /a", "A /b", "A /l"]),
        ([file("a"), hardlink("a/b", "a")], ["A /a", "A /a/b"]),
    ],
    ids=["before its target", "without a target", "to a link", "below its target"],
)
@pytest.mark.parametrize("hashed", [True, False])
def test_an_odd_hard_link_is_a_file_all_the_same(
    members: list[Member], added: list[str], hashed: bool
) -> None:
    assert between(Contents(), stack(layer(*members), hashed=hashed)) == added


@pytest.mark.parametrize("name", ["a\\b", "caf\udce9", "new\nline", "d" * 5000])
def test_a_name_may_be_anything_but_a_way_out(name: str) -> None:
    assert on_top(file(name)) == [f"A /{name}"]


def test_a_copy_is_not_touched_by_layers_that_follow() -> None:
    before = stack(BASE)
    twin = before.copy()
    add(twin, layer(file(".wh.etc"), file("new")), "top")
    assert between(before, stack(BASE)) == []
    assert between(before, twin) == ["D /etc", "A /new"]


@pytest.mark.parametrize("name", ["../etc/passwd", "a/../../b", "d/" * 401 + "f"])
def test_a_name_no_file_can_have_is_damage(name: str) -> None:
    with pytest.raises(IntegrityError, match="in a layer"):
        stack(layer(file(name)))


def test_a_file_cannot_take_the_place_of_the_root() -> None:
    with pytest.raises(IntegrityError, match="the place of /"):
        stack(layer(symlink("./", "/etc")))


def test_the_deepest_tree_allowed_can_be_built_copied_hidden_and_compared() -> None:
    deep = "d/" * 399 + "f"
    before = stack(layer(file(deep)))
    after = before.copy()
    add(after, layer(file(".wh.d")), "top")
    assert between(before, after) == ["D /d"]
    assert len(between(Contents(), before)) == 400


def test_more_files_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "MAX_FILES", 3)
    stack(layer(file("a"), file("b/c")))
    with pytest.raises(IntegrityError, match="more than 3 files"):
        stack(layer(file("a"), file("b/c/d")))
