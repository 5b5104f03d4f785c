"""Commands beside a store that does not exist, as after a mistyped --root."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import run

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
    ["save", "-o", "/dev/null", "app"],
    ["delete", "kstore:app"],
    ["copy", "kstore:app", "dir:/nowhere"],
    ["sync", "kstore:", "dir:/nowhere"],
    ["sync", "--src", "kstore", "app", "oci:/nowhere"],
]
LOOKS = [["images"], ["containers"], ["log"], ["info"], ["ingest", "ls"]]


@pytest.mark.parametrize("command", CHANGES, ids=" ".join)
def test_what_changes_a_store_does_not_make_one(tmp_path: Path, command: list[str]) -> None:
    root = tmp_path / "mistyped"
    result = run("--root", root, *command)
    assert (result.code, result.out) == (10, "")
    assert result.err.splitlines()[0] == f"kstore: there is no store at {root}"
    assert "--root" in result.err.splitlines()[1]
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
