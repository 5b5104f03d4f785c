"""A new layout appears whole or not at all, and what a killed writer leaves goes with the next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.transports.layout_draft import layout_draft
from kstore.transports.oci import OciTransport
from tests.support.images import random_image
from tests.support.scripts import read_line, started
from tests.support.sessions import get, put
from tests.unit.transports.test_dir import image_dir, names

ONE, TWO = random_image(1), random_image(2)
HEX = "0123456789abcdef"
WRITER = """
    import sys
    from pathlib import Path
    from kstore.transports.layout_draft import layout_draft
    from tests.unit.transports.test_layout_draft import TWO, fill

    with layout_draft(Path(sys.argv[1])) as draft:
        fill(draft, TWO)
        print("written", flush=True)
        sys.stdin.read()
"""


def fill(layout: Path, image: object = ONE) -> None:
    put(OciTransport().parse_reference(f"{layout}:v1"), image)  # type: ignore[arg-type]


def save(target: Path) -> None:
    with layout_draft(target) as draft:
        fill(draft)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "layout"


def drafts(target: Path) -> list[str]:
    return [name for name in names(target.parent) if name.startswith(".")]


def test_the_layout_has_no_name_until_it_is_complete(target: Path) -> None:
    with layout_draft(target) as draft:
        fill(draft)
        assert not target.exists()
    assert names(target.parent) == ["layout"]
    assert get(OciTransport().parse_reference(f"{target}:v1")).raw == ONE.raw


def test_a_failure_leaves_nothing(target: Path) -> None:
    def save_half() -> None:
        with layout_draft(target) as draft:
            fill(draft)
            raise KeyError

    with pytest.raises(KeyError):
        save_half()
    assert names(target.parent) == []


@pytest.mark.parametrize("write", [save, fill], ids=["a new layout", "into a layout"])
def test_the_next_writer_removes_what_a_killed_one_left(
    target: Path, write: Callable[[Path], None]
) -> None:
    with started(WRITER, str(target)) as writer:
        assert read_line(writer) == "written"
    assert len(drafts(target)) == 1
    write(target)
    assert names(target.parent) == ["layout"]


@pytest.mark.parametrize("write", [save, fill], ids=["a new layout", "into a layout"])
def test_a_writer_at_work_keeps_what_it_has_written(
    target: Path, write: Callable[[Path], None]
) -> None:
    with started(WRITER, str(target)) as writer:
        assert read_line(writer) == "written"
        write(target)
        assert len(drafts(target)) == 1


def test_what_is_no_layout_or_of_another_name_stays(target: Path) -> None:
    thesis = target.parent / f".layout.{HEX}" / "thesis.tex"
    thesis.parent.mkdir()
    thesis.write_text("precious")
    (target.parent / f".other.{HEX}").mkdir()
    put(image_dir(target.parent / f".layout.{HEX[::-1]}"), ONE)  # a crash left it aside
    before = names(target.parent)
    save(target)
    assert names(target.parent) == sorted([*before, "layout"])
