"""save, load and copy, as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.cli import Result, run, run_process
from tests.support.images import TestImage, random_image
from tests.support.stores import put_image

IMAGE: TestImage = random_image(2)
NAME = "localhost/app:1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with one image that has two names."""
    root = tmp_path / "root"
    with Store.open(root, command="test") as store:
        put_image(store, IMAGE, NAME, "localhost/other:2")
    return root


def kstore(root: Path, *args: object) -> Result:
    return run("--root", root, *args)


def digest_of(root: Path, name: str = NAME) -> str:
    with Store.open(root, command="test") as store:
        return str(store.find_image(name).manifest)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_was_saved_is_loaded_with_its_names_and_digest(
    root: Path, tmp_path: Path, form: str
) -> None:
    target, fresh = tmp_path / "target", tmp_path / "fresh"
    saved = kstore(root, "save", "-q", "--format", form, "-o", target, NAME)
    assert (saved.code, saved.out) == (0, "")
    loaded = kstore(fresh, "load", "-q", "-i", target)
    assert loaded.code == 0
    assert f"Loaded image: {NAME}" in loaded.out
    assert digest_of(fresh) == digest_of(root)


def test_an_archive_goes_through_a_pipe(root: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    assert kstore(root, "save", "-q", "-o", saved, NAME, "localhost/other:2").code == 0
    loaded = run_process("--root", tmp_path / "fresh", "load", "-q", stdin=saved.read_bytes())
    assert loaded.code == 0
    assert len(loaded.out.splitlines()) == 2


def test_a_file_that_exists_is_not_overwritten(root: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    result = kstore(root, "save", "-o", target, NAME)
    assert result.code == 4
    assert "exists" in result.err
    assert target.read_bytes() == b"precious"


def test_a_cut_off_archive_is_refused_and_nothing_is_named(root: Path, tmp_path: Path) -> None:
    saved, fresh = tmp_path / "saved", tmp_path / "fresh"
    assert kstore(root, "save", "-q", "-o", saved, NAME).code == 0
    saved.write_bytes(saved.read_bytes()[:-2000])
    result = kstore(fresh, "load", "-i", saved)
    assert result.code == 5
    assert "saved" in result.err
    assert kstore(fresh, "images", "-q").out == ""


def test_no_clobber_refuses_to_move_a_name(root: Path, tmp_path: Path) -> None:
    saved, fresh = tmp_path / "saved", tmp_path / "fresh"
    assert kstore(root, "save", "-q", "-o", saved, NAME).code == 0
    with Store.open(fresh, command="test") as store:
        put_image(store, random_image(3), NAME)
    before = digest_of(fresh)
    assert kstore(fresh, "load", "--no-clobber", "-i", saved).code == 4
    assert digest_of(fresh) == before
    moved = kstore(fresh, "load", "-i", saved)
    assert moved.code == 0
    assert "before" in moved.err
    assert digest_of(fresh) == digest_of(root)


def test_copy_needs_no_store_between_layouts(root: Path, tmp_path: Path) -> None:
    layout, fresh = tmp_path / "layout", tmp_path / "fresh"
    assert kstore(root, "copy", "-q", f"kstore:{NAME}", f"oci:{layout}:v1").code == 0
    assert kstore(fresh, "copy", "-q", f"oci:{layout}:v1", f"dir:{tmp_path / 'd'}").code == 0
    assert (tmp_path / "d" / "manifest.json").exists()
    assert not fresh.exists()


def test_copy_says_what_a_plain_name_lacks(root: Path, tmp_path: Path) -> None:
    result = kstore(root, "copy", NAME, f"oci:{tmp_path / 'layout'}:v1")
    assert result.code == 2
    assert f"kstore:{NAME}" in result.err
