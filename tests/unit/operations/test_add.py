"""Adding files to a working container."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from kstore.errors import (
    CancelledError,
    ConflictError,
    ImageNotFoundError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    StoreDamagedError,
)
from kstore.operations.add import AddOptions, add_files
from kstore.operations.configure import ConfigEdits, configure_container
from kstore.operations.import_ import import_tar
from kstore.operations.working import make_container
from kstore.store import ContainerRecord, Store
from kstore.streams import Cancel
from kstore.tree.layer import LayerTar, TreeRules
from tests.support.stores import listing
from tests.support.trees import WHEN, content, made, make_tree, members, set_attribute

BASE = {
    "usr/lib/libc.so": b"c",
    "lib": "usr/lib",
    "etc/motd": b"old",
    "srv/secret/": None,
    "out": "/../../outside",
}


@pytest.fixture
def box(store: Store, tmp_path: Path) -> ContainerRecord:
    """A container of an image with a merged /usr and a directory only root may enter."""
    base = make_tree(tmp_path / "base", BASE)
    (base / "srv/secret").chmod(0o700)
    import_tar(store, str(base), "base")
    return make_container(store, "base", "box")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", {"tool": b"#!", "tree/a/b": b"ab", "tree/c": "a/b"})


def layer(record: ContainerRecord) -> bytes:
    with LayerTar(record.upper, TreeRules(removals=True), warn=lambda _: None) as tar:
        return made(tar)


def paths(record: ContainerRecord) -> list[str]:
    return sorted(members(layer(record)))


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("/etc/motd", "etc/motd"),
        ("/etc", "etc/tool"),
        ("/new/", "new/tool"),
        ("/new", "new"),
        ("/lib/", "usr/lib/tool"),
        ("/lib/new/deep", "usr/lib/new/deep"),
        ("/../../../etc/tool", "etc/tool"),
        ("/out/x", "outside/x"),
        ("relative", "work/relative"),
        (".", "work/tool"),
    ],
)
def test_a_file_goes_where_a_program_inside_would_put_it(
    store: Store, box: ContainerRecord, source: Path, destination: str, expected: str
) -> None:
    make_tree(source.parent / "work", {"work/": None})
    add_files(store, "box", [str(source.parent / "work")], "/")
    configure_container(store, "box", ConfigEdits(work_dir="/work"))
    add_files(store, "box", [str(source / "tool")], destination)
    assert expected in paths(box)
    assert content(layer(box), expected) == b"#!"
    assert not (store.root / "outside").exists()


def test_what_is_above_comes_up_as_the_base_has_it(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    add_files(store, "box", [str(source / "tool")], "/srv/secret/")
    found = members(layer(box))
    assert (found["srv/secret"].mode, found["srv/secret"].mtime) == (0o700, WHEN)
    assert (found["srv"].mode, found["srv/secret/tool"].mtime) == (0o755, WHEN)
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_what_is_in_a_directory_goes_over_what_is_there(
    store: Store, box: ContainerRecord, tmp_path: Path
) -> None:
    files = {"lib/libx.so": b"x", "etc/motd": b"new", "etc/link": "motd", "own/": None}
    root = make_tree(tmp_path / "rootfs", files)
    (root / "own").chmod(0o750)
    (root / "etc").chmod(0o700)
    os.mkfifo(root / "own/pipe")
    (root / "lib/liby.so").hardlink_to(root / "lib/libx.so")
    add_files(store, "box", [str(root)], "/")
    found = members(layer(box))
    assert sorted(found) == [
        *("etc", "etc/link", "etc/motd", "own", "own/pipe"),
        *("usr", "usr/lib", "usr/lib/libx.so", "usr/lib/liby.so"),
    ]
    assert found["usr/lib/liby.so"].linkname == "usr/lib/libx.so"
    assert found["etc/link"].linkname == "motd"
    assert (found["own"].mode, found["etc"].mode) == (0o750, 0o755)
    assert content(layer(box), "etc/motd") == b"new"


def test_several_sources_go_into_a_directory(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    add_files(store, "box", [str(source / "tool"), str(source / "tree")], "/opt")
    assert paths(box) == ["opt", "opt/a", "opt/a/b", "opt/c", "opt/tool"]


def test_a_link_that_is_named_itself_is_followed(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    (source / "alias").symlink_to("tool")
    add_files(store, "box", [str(source / "alias")], "/opt/")
    assert content(layer(box), "opt/alias") == b"#!"


def test_adding_again_replaces(store: Store, box: ContainerRecord, source: Path) -> None:
    add_files(store, "box", [str(source)], "/opt")
    (source / "tool").write_bytes(b"second")
    (source / "tree/c").unlink()
    (source / "tree/c").write_bytes(b"now a file")
    add_files(store, "box", [str(source)], "/opt")
    assert content(layer(box), "opt/tool") == b"second"
    assert content(layer(box), "opt/tree/c") == b"now a file"


def test_what_was_removed_comes_back_without_what_was_in_it(
    store: Store, box: ContainerRecord, tmp_path: Path
) -> None:
    (box.upper / ".wh.etc").touch()
    (box.upper / ".wh.out").touch()
    make_tree(tmp_path / "new", {"etc/issue": b"i", "out": b"file"})
    add_files(store, "box", [str(tmp_path / "new")], "/")
    assert paths(box) == ["etc", "etc/.wh..wh..opq", "etc/issue", "out"]


def test_owner_and_mode_can_be_said(store: Store, box: ContainerRecord, source: Path) -> None:
    if not set_attribute(source, "user.test", b"x"):
        pytest.skip("this file system has no attributes to note an owner in")
    options = AddOptions(owner=(1000, 100), mode=0o4511)
    add_files(store, "box", [str(source / "tool")], "/usr/bin/tool", options)
    found = members(layer(box))
    tool = found["usr/bin/tool"]
    assert (tool.uid, tool.gid, tool.mode) == (1000, 100, 0o4511)
    assert (found["usr/bin"].uid, found["usr/bin"].mode) == (0, 0o755)
    if os.geteuid():
        assert (box.upper / "usr/bin/tool").stat().st_mode & 0o7000 == 0


def test_attributes_come_along(store: Store, box: ContainerRecord, source: Path) -> None:
    if not set_attribute(source / "tool", "user.note", b"hi"):
        pytest.skip("this file system has no attributes")
    add_files(store, "box", [str(source / "tool")], "/")
    headers = members(layer(box))["tool"].pax_headers
    assert headers["SCHILY.xattr.user.note"] == "hi"


@pytest.mark.parametrize(
    ("name", "destination", "what"),
    [
        ("tree", "/etc/motd", "/etc/motd is not a directory"),
        ("tool", "/etc/motd/x", "/etc/motd is not a directory"),
        ("tree", "/etc/motd/x", "/etc/motd is not a directory"),
        ("clash", "/", "/etc/motd is not a directory"),
        ("reverse", "/", "/etc is a directory"),
    ],
)
def test_a_file_and_a_directory_do_not_replace_each_other(
    store: Store, box: ContainerRecord, source: Path, name: str, destination: str, what: str
) -> None:
    make_tree(source / "clash", {"a": b"1", "etc/motd/x": b"2"})
    make_tree(source / "reverse", {"a": b"1", "etc": b"2"})
    with pytest.raises(ConflictError, match=what):
        add_files(store, "box", [str(source / name)], destination)
    assert listing(box.upper) == []
    assert not list(box.directory.glob(".adding*"))


def test_of_several_sources_none_is_added_when_one_fails(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    with pytest.raises(NotFoundError, match="nothing"):
        add_files(store, "box", [str(source / "tool"), str(source / "nothing")], "/opt/")
    assert listing(box.upper) == []
    assert sorted(listing(box.directory)) == ["base.tar", "kstore.json", "upper"]


def test_what_a_killed_process_left_is_cleared_away(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    make_tree(box.directory / ".adding-dead", {"etc/x": b"x"})
    add_files(store, "box", [str(source / "tool")], "/")
    assert paths(box) == ["tool"]
    assert not list(box.directory.glob(".adding*"))


def test_a_name_that_means_a_removal_is_refused(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    make_tree(source / "bad", {"x/.wh.motd": b""})
    for origin, destination in ((source / "bad", "/"), (source / "tool", "/etc/.wh.motd")):
        with pytest.raises(InvalidInputError, match="its name means"):
            add_files(store, "box", [str(origin)], destination)
    assert listing(box.upper) == []


def test_the_store_is_not_added_to_itself(store: Store, box: ContainerRecord) -> None:
    with pytest.raises(InvalidInputError, match="holds the store itself"):
        add_files(store, "box", [str(store.root.parent)], "/")


@pytest.mark.parametrize("bad", [["a\0b"], []])
def test_what_is_no_path_is_refused(store: Store, box: ContainerRecord, bad: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        add_files(store, "box", bad, "/")


def test_a_socket_is_left_out_with_a_warning(
    store: Store, box: ContainerRecord, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source / "tree")
    warnings: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("door")
        add_files(store, "box", [str(source / "tree")], "/opt", warn=warnings.append)
    assert paths(box) == ["opt", "opt/a", "opt/a/b", "opt/c"]
    assert len(warnings) == 1
    assert "door is a socket" in warnings[0]


def test_a_cancelled_addition_adds_nothing(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CancelledError):
        add_files(store, "box", [str(source / "tool")], "/", cancel=cancel)
    assert listing(box.directory) == ["kstore.json", "upper"]


def test_a_container_whose_image_is_gone_says_so(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    assert box.image_id is not None
    store.remove_image(box.image_id, force=True)
    with pytest.raises(ImageNotFoundError, match="of container box is gone"):
        add_files(store, "box", [str(source / "tool")], "/")


def test_a_container_without_its_files_says_so(store: Store, source: Path) -> None:
    record = make_container(store, "scratch", "box")
    record.upper.rmdir()
    with pytest.raises(StoreDamagedError, match="container box has lost its files") as caught:
        add_files(store, "box", [str(source / "tool")], "/")
    assert caught.value.hint == "kstore rm box"


def test_a_link_put_into_the_layer_by_hand_leads_nowhere_outside(
    store: Store, box: ContainerRecord, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (box.upper / "escape").symlink_to(tmp_path / "outside")
    add_files(store, "box", [str(source / "tool")], "/escape/")
    assert listing(tmp_path / "outside") == []
    assert f"{tmp_path}/outside/tool".lstrip("/") in paths(box)


@pytest.mark.unprivileged
def test_a_layer_that_cannot_be_written_to_is_named(
    store: Store, box: ContainerRecord, source: Path
) -> None:
    box.upper.chmod(0o500)
    with pytest.raises(KstoreError, match=r"cannot move files into .*upper"):
        add_files(store, "box", [str(source / "tool")], "/")
    assert not list(box.directory.glob(".adding*"))
