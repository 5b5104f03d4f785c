"""Additional stores as a user has them: found, inspected, pushed, saved, and never written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.cli import Result, run, run_process
from tests.support.images import random_image
from tests.support.localregistry import serve
from tests.support.stores import put_image

MINE, THEIRS = random_image(1), random_image(2)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A store, and one whose directories cannot be written to."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    with Store.open(mine) as store:
        put_image(store, MINE, "localhost/mine")
    with Store.open(theirs) as store:
        put_image(store, THEIRS, "localhost/theirs:1")
    directories = [theirs, *(path for path in theirs.rglob("*") if path.is_dir())]
    for directory in directories:
        directory.chmod(0o555)
    yield mine, theirs
    for directory in directories:
        directory.chmod(0o755)


def kstore(stores: tuple[Path, Path], *args: object) -> Result:
    return run("--root", stores[0], "--additional-store", stores[1], *args)


def test_they_are_listed_inspected_and_drawn(stores: tuple[Path, Path]) -> None:
    listed = kstore(stores, "images", "--format", "{{.Name}} {{.ReadOnly}}").out
    assert listed.splitlines() == ["localhost/mine:latest false", "localhost/theirs:1 true"]
    document = json.loads(kstore(stores, "images", "--format", "json").out)
    assert [image["location"] for image in document] == [None, str(stores[1])]
    assert (
        kstore(stores, "inspect", "--format", "{{.Id}}", "theirs:1").out.strip().endswith(THEIRS.id)
    )
    for command in (["history", "theirs:1"], ["tree", "theirs:1"], ["diff", "theirs:1"]):
        result = kstore(stores, *command)
        assert result.code == 0, result


def test_they_are_named_by_the_environment(stores: tuple[Path, Path]) -> None:
    result = run_process(
        "--root", stores[0], "images", "-q", "--no-trunc",
        env={"KSTORE_ADDITIONAL_STORES": f"{stores[1]}:{stores[1]}"},
    )  # fmt: skip
    assert THEIRS.id in result.out


@pytest.mark.unprivileged
@pytest.mark.parametrize("by_variable", [False, True], ids=["option", "variable"])
def test_one_that_may_not_be_read_is_a_warning(
    stores: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    mine, theirs = stores
    theirs.chmod(0)
    if by_variable:
        monkeypatch.setenv("KSTORE_ADDITIONAL_STORES", str(theirs))
    words = () if by_variable else ("--additional-store", theirs)
    result = run("--root", mine, *words, "images", "-q", "--no-trunc")
    assert (result.code, result.out.strip()) == (0, MINE.id)
    assert f"warning: the additional store {theirs} cannot be used" in result.err


def test_they_are_pushed_without_being_copied(stores: tuple[Path, Path], tmp_path: Path) -> None:
    before = sorted((stores[0] / "blobs" / "sha256").iterdir())
    with serve(tmp_path / "registry") as registry:
        name = f"{registry.host}/team/app:1"
        result = kstore(stores, "push", "--tls-verify=false", "theirs:1", name)
        assert result.code == 0, result
        pulled = run("--root", tmp_path / "new", "pull", "--tls-verify=false", name)
        assert pulled.out.strip() == THEIRS.id
    assert sorted((stores[0] / "blobs" / "sha256").iterdir()) == before


def test_they_are_saved_and_copied(stores: tuple[Path, Path], tmp_path: Path) -> None:
    assert kstore(stores, "save", "-o", tmp_path / "saved.tar", "theirs:1").code == 0
    assert run("--root", tmp_path / "new", "load", tmp_path / "saved.tar").code == 0
    assert THEIRS.id in run("--root", tmp_path / "new", "images", "-q", "--no-trunc").out
    copied = kstore(stores, "copy", "kstore:localhost/theirs:1", f"oci:{tmp_path / 'layout'}:x")
    assert copied.code == 0, copied


def test_containers_are_made_from_them(stores: tuple[Path, Path]) -> None:
    made = kstore(stores, "from", "theirs:1")
    assert made.code == 0, made
    listed = json.loads(kstore(stores, "containers", "--format", "json").out)
    assert len(listed) == 1
    assert run("--root", stores[0], "prune").code == 0


@pytest.mark.parametrize("command", [["rmi", "theirs:1"], ["tag", "theirs:1", "new"]], ids=" ".join)
def test_changing_them_is_refused_with_the_way_round(
    stores: tuple[Path, Path], command: list[str]
) -> None:
    result = kstore(stores, *command)
    assert result.code == 6
    assert "is in the additional store" in result.err
    assert "kstore copy" in result.err
    assert kstore(stores, "rmi", "--all").code == 0
    assert kstore(stores, "inspect", "theirs:1").code == 0


def test_they_can_give_what_the_own_store_has_lost(
    stores: tuple[Path, Path], tmp_path: Path
) -> None:
    root = tmp_path / "third"
    with Store.open(root) as store:
        put_image(store, THEIRS, "localhost/copy")
    (root / "blobs" / "sha256" / THEIRS.layers[0].digest.hex).unlink()
    result = run("--root", root, "--additional-store", stores[1], "check", "--repair")
    assert result.code == 0, result
    assert f"from {stores[1]})" in result.out
