"""``df``, ``prune`` with rules, ``protect``: space as a user sees it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from kstore.store import Store
from tests.support.cli import run
from tests.support.images import random_image
from tests.support.stores import put_image

ONE, SAME, OTHER = random_image(1), random_image(1, labels={"a": "b"}), random_image(2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, ONE, "localhost/app:1")
        put_image(store, SAME, "localhost/app:2")
        put_image(store, OTHER, "localhost/other")
        put_image(store, random_image(3))
    return tmp_path / "root"


def names(root: Path) -> list[str]:
    out = run("--root", root, "images", "--format", "{{.Repository}}:{{.Tag}}").out
    return sorted(line for line in out.splitlines() if "<none>" not in line)


def loaded(root: Path, *args: str) -> Any:
    result = run("--root", root, *args)
    assert result.code == 0, result
    return json.loads(result.out)


def test_df_shows_images_and_kinds_of_files(root: Path) -> None:
    result = run("--root", root, "df")
    assert (result.code, result.err) == (0, "")
    images, disk = result.out.split("\n\n")
    header, *rows = images.splitlines()
    assert header.split() == ["IMAGE", "ID", "NAME", "UNIQUE", "SHARED", "TOTAL"]
    assert {row.split()[0] for row in rows} == {
        image.id[:12] for image in (ONE, SAME, OTHER, random_image(3))
    }
    assert [line.split("  ")[0] for line in disk.splitlines()] == [
        "ON THE DISK", "Blobs of images", "Unreferenced blobs", "Partial downloads", "Containers",
        "Database", "Quarantine", "Everything else", "Total",
    ]  # fmt: skip


def test_df_as_json_adds_up_to_what_du_says_afterwards(root: Path) -> None:
    document = loaded(root, "df", "--format", "json")
    du = subprocess.run(["du", "-sB1", root], capture_output=True, text=True, check=True).stdout
    assert document["total"] == int(du.split()[0])
    assert sum(kind["bytes"] for kind in document["disk"].values()) == document["total"]
    for image in document["images"]:
        assert image["unique"] + image["shared"] == image["total"]


@pytest.mark.parametrize("images", [["app:1"], ["app:1", "app:2"], ["app:1", "app:2", "other"]])
def test_what_if_tells_what_rmi_frees(root: Path, images: list[str]) -> None:
    before = names(root)
    free = loaded(root, "df", "--format", "json")["disk"]["images"]["files"]
    told = loaded(root, "df", "--what-if", "rm", "--format", "json", *images)
    assert names(root) == before
    blobs = {path.name: path.stat().st_size for path in (root / "blobs/sha256").iterdir()}
    assert run("--root", root, "rmi", *images).code == 0
    left = {path.name for path in (root / "blobs/sha256").iterdir()}
    assert told["bytes_freed"] == sum(size for name, size in blobs.items() if name not in left)
    assert told["blobs_removed"] == len(blobs) - len(left)
    assert free > 0


def test_what_if_fails_as_rmi_would(root: Path) -> None:
    result = run("--root", root, "df", "--what-if", "rm", "absent", "app:1")
    assert result.code == 3
    assert "Would untag: localhost/app:1" in result.out
    assert "no image 'absent'" in result.err


@pytest.mark.parametrize("wrong", [["app:1"], ["--what-if", "rm"], ["--what-if", "pull", "app:1"]])
def test_df_with_wrong_words_is_refused(root: Path, wrong: list[str]) -> None:
    assert run("--root", root, "df", *wrong).code == 2


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (["--keep", "1"], ["localhost/app:2", "localhost/other:latest"]),
        (["--all"], []),
        (["--all", "--filter", "reference=app:*"], ["localhost/other:latest"]),
        (["--all", "--filter", "since=other"], ["app", "other"]),
        (["--keep", "1", "--filter", "reference=other"], ["app", "other"]),
        (["--max-size", "1"], []),
        (["--max-size", "1GB"], ["app", "other"]),
    ],
    ids=str,
)
def test_prune_frees_what_its_rehearsal_says(root: Path, rule: list[str], left: list[str]) -> None:
    before = names(root)
    told = loaded(root, "prune", "--dry-run", "--format", "json", *rule)
    assert names(root) == before
    done = loaded(root, "prune", "--format", "json", *rule)
    assert {**told, "dry_run": False} == done
    assert names(root) == (before if left == ["app", "other"] else left)


def test_prune_says_which_names_it_took(root: Path) -> None:
    result = run("--root", root, "prune", "--keep", "1", "--dry-run")
    assert "Would untag: localhost/app:1" in result.out.splitlines()


def test_a_size_that_cannot_be_reached_is_said(root: Path) -> None:
    run("--root", root, "protect", "other")
    result = run("--root", root, "prune", "--max-size", "1")
    assert result.code == 0
    assert names(root) == ["localhost/other:latest"]
    stays = sum(len(data) for data in OTHER.blobs.values()) + len(OTHER.raw.data)
    assert result.err == (
        f"kstore: warning: the images that must stay have {stays} bytes, more than the 1 wanted\n"
    )
    assert run("--root", root, "prune", "--max-size", "1GB").err == ""


def test_protected_names_stay_until_they_are_released(root: Path) -> None:
    assert run("--root", root, "protect", "app:1").out == "localhost/app:1\n"
    assert run("--root", root, "protect").out == "localhost/app:1\n"
    assert run("--root", root, "prune", "--all").code == 0
    assert names(root) == ["localhost/app:1"]
    refused = run("--root", root, "rmi", "--force", "app:1")
    assert refused.code == 4
    assert refused.err.splitlines() == [
        "kstore: localhost/app:1 is protected",
        "hint: kstore unprotect localhost/app:1",
    ]
    assert run("--root", root, "unprotect", "app:1").out == "localhost/app:1\n"
    assert run("--root", root, "unprotect", "app:1").out == ""
    assert run("--root", root, "rmi", "app:1").code == 0


def test_an_image_is_protected_by_its_id_under_all_its_names(root: Path) -> None:
    run("--root", root, "tag", "other", "another")
    done = run("--root", root, "protect", OTHER.id[:12])
    assert done.out.splitlines() == ["localhost/another:latest", "localhost/other:latest"]
    nameless = run("--root", root, "protect", random_image(3).id)
    assert nameless.code == 2
    assert "has no name that could be protected" in nameless.err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--filter", "colour=red"],
        ["--filter", "until=soon"],
        ["--keep", "-1"],
        ["--max-size", "much"],
        ["--all", "--keep", "1"],
    ],
    ids=" ".join,
)
def test_prune_with_wrong_words_is_refused(root: Path, wrong: list[str]) -> None:
    before = names(root)
    assert run("--root", root, "prune", *wrong).code == 2
    assert names(root) == before
