"""A directory as a layer."""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import stat
import tarfile
from pathlib import Path

import pytest

from kstore.errors import ConflictError, InvalidInputError, StorageError
from kstore.operations.directory_tar import DirectoryInput
from kstore.operations.import_ import ImportOptions, import_tar
from kstore.operations.inspect import inspect_image
from kstore.store import Store
from kstore.streams import pump
from kstore.tree import descent
from kstore.tree.layer import TreeRules

WHEN = 1_700_000_000
MOMENT = WHEN * 10**9 + 500_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root file system, all of one time."""
    root = tmp_path / "tree"
    (root / "etc").mkdir(parents=True)
    (root / "bin").mkdir(mode=0o700)
    (root / "etc/motd").write_bytes(b"hello\n")
    (root / "etc/motd").chmod(0o640)
    (root / "bin/tool").write_bytes(random.Random(1).randbytes(3_000_000))
    (root / "bin/tool").chmod(0o4755)
    (root / "bin/same").hardlink_to(root / "bin/tool")
    (root / "bin/alias").symlink_to("./tool//x")
    (root / "empty").touch()
    os.mkfifo(root / "pipe")
    settle(root)
    return root


def settle(root: Path) -> None:
    """Give everything the same time, with a fraction."""
    for path in (*root.rglob("*"), root):
        os.utime(path, ns=(MOMENT, MOMENT), follow_symlinks=False)


def archived(
    root: Path, *, preserve_owner: bool = False, warnings: list[str] | None = None
) -> bytes:
    said = [] if warnings is None else warnings
    data = bytearray()
    rules = TreeRules(owners="kept" if preserve_owner else "root")
    with DirectoryInput(root, rules, warn=said.append) as source:
        pump(source, data.extend, chunk=100_000)
    return bytes(data)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_the_tree_is_in_it_in_order(tree: Path) -> None:
    found = members(archived(tree))
    assert list(found) == [
        *("bin", "bin/alias", "bin/same", "bin/tool"),
        *("empty", "etc", "etc/motd", "pipe"),
    ]
    kinds = {name: member.type for name, member in found.items()}
    assert kinds["bin"] == kinds["etc"] == tarfile.DIRTYPE
    assert (kinds["bin/alias"], found["bin/alias"].linkname) == (tarfile.SYMTYPE, "./tool//x")
    assert (kinds["bin/tool"], found["bin/tool"].linkname) == (tarfile.LNKTYPE, "bin/same")
    assert kinds["pipe"] == tarfile.FIFOTYPE
    assert found["bin/same"].mode == 0o4755
    assert (found["bin"].mode, found["etc/motd"].mode) == (0o700, 0o640)
    assert {member.mtime for member in found.values()} == {WHEN}


def test_contents_come_out_as_they_went_in(tree: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archived(tree))) as archive:
        for name in ("bin/same", "etc/motd", "empty"):
            file = archive.extractfile(name)
            assert file is not None
            assert file.read() == (tree / name).read_bytes()


def test_files_become_roots_unless_their_owners_are_wanted(tree: Path) -> None:
    owners = {(member.uid, member.gid) for member in members(archived(tree)).values()}
    assert owners == {(0, 0)}
    kept = members(archived(tree, preserve_owner=True))
    info = (tree / "etc/motd").stat()
    assert (kept["etc/motd"].uid, kept["etc/motd"].gid) == (info.st_uid, info.st_gid)


def test_two_trees_that_are_the_same_make_the_same_image(store: Store, tmp_path: Path) -> None:
    images = set()
    for order in ("ab", "ba"):
        root = tmp_path / order / "tree"
        root.mkdir(parents=True)
        for name in order:
            (root / name).write_bytes(name.encode())
        settle(root)
        images.add(import_tar(store, str(root), order).image_id)
    assert len(images) == 1


def test_the_image_tells_where_it_comes_from_and_is_as_old_as_its_youngest_file(
    store: Store, tree: Path
) -> None:
    os.utime(tree / "etc/motd", (WHEN + 60, WHEN + 60))
    result = import_tar(store, str(tree), "base")
    shown = inspect_image(store, "base").to_json()
    assert (shown["Created"], shown["Comment"]) == ("2023-11-14T22:14:20Z", "imported from tree")
    layer = store.read_blob(inspect_image(store, "base").manifest.layers[0].digest, cap=1 << 24)
    assert gzip.decompress(layer) == archived(tree)
    assert result.size == len(layer)
    assert not store.check(deep=True).problems


def test_names_that_are_no_text_or_very_long_survive(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    long = "d" * 200
    (root / long / long).mkdir(parents=True)
    (root / os.fsdecode(b"caf\xe9")).touch()
    (root / "caf\u00e9").touch()
    assert set(members(archived(root))) == {
        *(long, f"{long}/{long}"),
        *(os.fsdecode(b"caf\xe9"), "caf\u00e9"),
    }


def test_an_empty_directory_is_an_empty_layer(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    assert archived(tmp_path / "tree") == bytes(1024)


def test_a_socket_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    monkeypatch.chdir(root)  # the name of a socket must be short
    warnings: list[str] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("door")
        assert stat.S_ISSOCK((root / "door").stat().st_mode)
        assert members(archived(root, warnings=warnings)) == {}
    assert warnings == [f"{root / 'door'} is a socket, which no image can hold: left out"]


def test_a_name_that_means_a_removal_is_refused(tree: Path) -> None:
    (tree / "etc/.wh.motd").touch()
    with pytest.raises(InvalidInputError, match=r"\.wh\.motd cannot be in a layer"):
        archived(tree)


@pytest.mark.parametrize("change", ["grow", "shrink"])
def test_a_file_that_changes_meanwhile_makes_no_image(
    store: Store, tree: Path, change: str
) -> None:
    file = tree / "bin/tool"

    def meddle(_: int) -> None:
        with file.open("r+b") as opened:
            opened.truncate(2_000_000 if change == "shrink" else 4_000_000)

    with pytest.raises(ConflictError, match="changed while it was read"):
        import_tar(store, str(tree), "base", progress=meddle)
    assert (store.images(), store.names()) == ([], [])


def test_a_tree_with_too_many_entries_is_given_up(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descent, "MAX_ENTRIES", 5)
    with pytest.raises(InvalidInputError, match="more than 5 entries"):
        archived(tree)


def test_a_tree_beyond_the_limit_is_given_up(store: Store, tree: Path) -> None:
    from kstore.errors import IntegrityError

    with pytest.raises(IntegrityError, match="limit of 1000000 bytes, unpacked"):
        import_tar(store, str(tree), "base", ImportOptions(max_size=1_000_000))


def test_the_directory_of_the_store_is_not_taken_in(store: Store) -> None:
    with pytest.raises(InvalidInputError, match="holds the store itself"):
        import_tar(store, str(store.root.parent), "base")


@pytest.mark.unprivileged
def test_a_file_that_may_not_be_read_is_named(store: Store, tree: Path) -> None:
    (tree / "etc/motd").chmod(0)
    with pytest.raises(StorageError, match="etc/motd: Permission denied"):
        import_tar(store, str(tree), "base")
    assert store.images() == []


@pytest.mark.root
def test_devices_keep_their_numbers(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    try:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    found = members(archived(root))["null"]
    assert (found.type, found.devmajor, found.devminor) == (tarfile.CHRTYPE, 1, 3)
