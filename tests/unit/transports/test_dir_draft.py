"""How one directory of an image takes another's place, and what a writer that was killed leaves."""

from __future__ import annotations

import errno
import fcntl
from pathlib import Path

import pytest

from kstore.errors import StorageError
from kstore.transports import dir_draft
from tests.support.images import random_image
from tests.support.scripts import read_line, started
from tests.support.sessions import get, put
from tests.unit.transports.test_dir import contents, expected, image_dir, names

ONE, TWO = random_image(1), random_image(2, docker=True)
HEX = "0123456789abcdef"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An image that stands there already."""
    put(image_dir(tmp_path / "image"), ONE)
    return tmp_path / "image"


def test_where_directories_cannot_be_exchanged_two_renames_do(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(one: Path, other: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(dir_draft, "_exchange", cannot)
    put(image_dir(old), TWO)
    assert contents(old) == expected(TWO.raw.data, TWO.blobs)
    assert names(old.parent) == ["image"]


def test_an_exchange_that_fails_leaves_the_old_image(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(one: Path, other: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = contents(old)
    monkeypatch.setattr(dir_draft, "_exchange", cannot)
    with pytest.raises(StorageError, match="Input/output error"):
        put(image_dir(old), TWO)
    assert contents(old) == before
    assert names(old.parent) == ["image"]


def test_the_second_of_two_renames_that_fails_takes_the_first_back(old: Path) -> None:
    before = contents(old)
    with pytest.raises(FileNotFoundError):
        dir_draft._replace_in_two_steps(old, old.parent / "missing draft")
    assert contents(old) == before
    assert names(old.parent) == ["image"]


# Writers that were killed

WRITER = """
    import sys
    from tests.support.images import random_image
    from tests.support.sessions import send
    from tests.unit.transports.test_dir import image_dir

    with image_dir(sys.argv[1]).open_destination() as destination:
        send(destination, random_image(2, docker=True))
        print("written", flush=True)
        sys.stdin.read()
"""


def killed_writer(target: Path) -> None:
    with started(WRITER, str(target)) as writer:
        assert read_line(writer) == "written"


def drafts(target: Path) -> list[str]:
    return [name for name in names(target.parent) if name.startswith(f".{target.name}.")]


@pytest.mark.parametrize("there", [True, False], ids=["an old image", "nothing there"])
def test_the_next_writer_removes_what_a_killed_one_left(old: Path, there: bool) -> None:
    target = old if there else old.parent / "new"
    killed_writer(target)
    assert len(drafts(target)) == 1
    put(image_dir(target), ONE)
    assert drafts(target) == []
    assert get(image_dir(target)).raw == ONE.raw


def test_a_writer_at_work_keeps_what_it_has_written(old: Path) -> None:
    with started(WRITER, str(old)) as writer:
        assert read_line(writer) == "written"
        put(image_dir(old), ONE)
        assert len(drafts(old)) == 1
        writer.communicate(timeout=30)
        assert writer.returncode == 0
    assert drafts(old) == []


def test_opening_a_destination_and_reading_sweep_nothing_up(old: Path) -> None:
    killed_writer(old)
    get(image_dir(old))
    with image_dir(old).open_destination():
        pass
    assert len(drafts(old)) == 1


@pytest.mark.parametrize(
    "name", [f".image.{HEX}x", f".image.{HEX[1:]}", f".other.{HEX}", f"image.{HEX}"]
)
def test_what_is_not_called_like_a_draft_is_not_swept_up(old: Path, name: str) -> None:
    (old.parent / name).mkdir()
    put(image_dir(old), TWO)
    assert names(old.parent) == sorted([name, "image"])


def test_what_holds_other_files_or_is_no_directory_is_not_swept_up(old: Path) -> None:
    (old.parent / f".image.{HEX}").mkdir()
    (old.parent / f".image.{HEX}" / "thesis.tex").write_text("precious")
    (old.parent / f".image.{HEX[::-1]}").symlink_to("image")
    before = names(old.parent)
    put(image_dir(old), TWO)
    assert names(old.parent) == before
    assert names(old.parent / f".image.{HEX}") == ["thesis.tex"]


def test_an_old_image_that_a_crash_left_aside_is_kept_until_there_is_a_new_one(old: Path) -> None:
    aside = old.rename(old.with_name(f".image.{HEX}"))
    before = contents(aside)
    put(image_dir(old), TWO)
    assert contents(aside) == before
    put(image_dir(old), TWO)
    assert names(old.parent) == ["image"]


def test_where_nothing_can_be_locked_nothing_is_swept_up(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_writer(old)
    left = drafts(old)

    def cannot(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", cannot)
    put(image_dir(old), TWO)
    assert drafts(old) == left
    assert get(image_dir(old)).raw == TWO.raw


def test_a_draft_that_is_swept_up_before_it_is_locked_is_made_again(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    make = Path.mkdir

    def make_and_lose(path: Path) -> None:
        make(path)
        if not swept:
            swept.append(path)
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", make_and_lose)
    put(image_dir(old), TWO)
    assert swept
    assert names(old.parent) == ["image"]
