"""Commands beside a store that does not exist, as after a mistyped --root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import run
from tests.support.images import random_image, write_oci_layout

CHANGES = [
    ["prune"],
    ["rmi", "app"],
    ["rmi", "--all"],
    ["rmi", "--filter", "dangling=true"],
    ["tag", "app", "other"],
    ["tag", "--restore", "app@{1}"],
    ["untag", "app"],
    ["from", "app"],
    ["config", "--user", "me", "box"],
    ["add", "box", "/etc/hostname", "/"],
    ["commit", "box"],
    ["rm", "box"],
    ["ingest", "rm", "3f4a90"],
    ["push", "app"],
    ["check"],
    ["check", "--repair"],
    ["save", "-o", "/dev/null", "app"],
    ["delete", "kstore:app"],
    ["copy", "kstore:app", "dir:/nowhere"],
    ["sync", "kstore:", "dir:/nowhere"],
    ["sync", "--src", "kstore", "app", "oci:/nowhere"],
    ["protect", "app"],
    ["unprotect", "app"],
    ["df", "--what-if", "rm", "app"],
]
#: What they look for is not there, of which the missing store is no more than a part.
ASKS = [
    ["inspect", "app"],
    ["history", "app"],
    ["diff", "app"],
    ["tree", "app"],
    ["log", "app"],
    ["referrers", "kstore:app"],
    ["inspect", "kstore:app"],
]
LOOKS = [["images"], ["containers"], ["log"], ["info"], ["ingest", "ls"], ["df"], ["protect"]]


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_what_changes_a_store_does_not_make_one(tmp_path: Path, command: list[str]) -> None:
    root = tmp_path / "mistyped"
    result = run("--root", root, *command)
    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines()[0] == f"kstore: there is no store at {root}"
    assert "--root" in result.err.splitlines()[1]
    assert not root.exists()


@pytest.mark.parametrize("command", ASKS, ids=" ".join)
def test_what_asks_for_an_image_does_not_find_it_and_makes_no_store(
    tmp_path: Path, command: list[str]
) -> None:
    root = tmp_path / "mistyped"
    result = run("--root", root, *command)
    assert result.code == 3
    assert "'app'" in result.err
    assert not root.exists()


@pytest.mark.parametrize(
    "command",
    [["prune"], ["check"], ["check", "--repair"], ["untag", "app"], ["protect", "app"]],
    ids=" ".join,
)
def test_what_changes_a_store_needs_one_also_beside_an_additional_store(
    tmp_path: Path, command: list[str]
) -> None:
    root, others = tmp_path / "mistyped", tmp_path / "others"
    write_oci_layout(others, {"app": random_image(1)})
    result = run("--root", root, "--additional-store", others, *command)
    assert (result.code, result.out) == (3, "")
    assert result.err.splitlines()[0] == f"kstore: there is no store at {root}"
    assert not root.exists()


@pytest.mark.parametrize(
    "command",
    [["save", "-q", "-o", "saved", "app"], ["copy", "-q", "kstore:app", "dir:saved"]],
    ids=" ".join,
)
def test_an_additional_store_can_be_used_without_an_own_one(
    tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root, others = tmp_path / "mistyped", tmp_path / "others"
    write_oci_layout(others, {"app": random_image(1)})
    result = run("--root", root, "--additional-store", others, *command)
    assert result.code == 0, result
    assert Path("saved").exists()
    assert not root.exists()


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_what_only_looks_finds_an_empty_store_and_makes_none(
    tmp_path: Path, command: list[str]
) -> None:
    root = tmp_path / "mistyped"
    result = run("--root", root, *command)
    assert (result.code, result.err) == (0, "")
    assert not root.exists()


def test_a_container_of_scratch_makes_the_store(tmp_path: Path) -> None:
    root = tmp_path / "new"
    assert run("--root", root, "from", "scratch").code == 0
    assert root.exists()


@pytest.mark.unprivileged
def test_a_directory_that_may_not_be_made_is_named_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        result = run("--root", tmp_path / "store", "from", "scratch")
    finally:
        tmp_path.chmod(0o700)
    assert result.code == 10
    assert result.err.splitlines()[0] == (
        f"kstore: cannot use {tmp_path}/store as a store: Permission denied"
    )
