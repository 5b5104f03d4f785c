"""Man pages say what the commands say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import click
import pytest

from kstore.cli.grammar import Entry, LazyGroup, declare
from kstore.cli.main import COMMANDS, cli
from kstore.cli.manpages import man_pages, write_pages
from tests.support.cli import REPOSITORY
from tests.support.programs import require_program

SHIPPED = REPOSITORY / "contrib" / "man"


@declare("hard", examples=(("echo 'a\\b' .x", "hard to write"),))
@click.option("--way", type=click.Choice(["up", "down"]), default="up", show_default=True)
@click.option("--secret", hidden=True)
def hard() -> None:
    """.Begins with a dot - and has a \\backslash.

    'Another' paragraph with é.
    """


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    assert isinstance(cli, LazyGroup)
    return man_pages(cli)


@pytest.fixture
def hard_page() -> str:
    group = LazyGroup("kstore", table={"hard": Entry(__name__, "All", "A hard one", "hard")})
    return man_pages(group)["kstore-hard.1"]


def test_every_command_has_a_page(pages: dict[str, str]) -> None:
    assert {"kstore.1", *(f"kstore-{name}.1" for name in COMMANDS)} <= set(pages)
    assert "kstore-ingest-ls.1" in pages


def test_the_shipped_pages_are_those_of_this_version(pages: dict[str, str]) -> None:
    shipped = {path.name: path.read_text() for path in SHIPPED.iterdir()}
    stale = sorted(name for name in {*shipped, *pages} if shipped.get(name) != pages.get(name))
    assert stale == [], "python -m kstore.cli.manpages contrib/man writes them anew"


def test_a_page_tells_options_examples_and_exit_codes(pages: dict[str, str]) -> None:
    page = pages["kstore-images.1"]
    assert '.TH "KSTORE\\-IMAGES" 1' in page
    assert "\\fB\\-f\\fR, \\fB\\-\\-filter\\fR \\fIKEY=VALUE\\fR" in page
    assert "[default: created]" in page
    assert "kstore images busybox\n" in page
    assert ".TP\n\\fB3\\fR\nWhat was asked for does not exist." in pages["kstore.1"]
    assert "\\fBkstore\\-images\\fR(1)" in pages["kstore.1"]


def test_no_text_is_taken_for_a_request(hard_page: str) -> None:
    assert "\n\\&.Begins with a dot \\- and has a \\ebackslash.\n" in hard_page
    assert "\n\\&\\(aqAnother\\(aq paragraph with \\[u00E9].\n" in hard_page
    assert "\necho \\(aqa\\eb\\(aq .x\n" in hard_page
    assert "up|down" in hard_page
    assert "secret" not in hard_page


def test_writing_removes_pages_of_commands_that_are_gone(tmp_path: Path) -> None:
    (tmp_path / "kstore-gone.1").write_text("old")
    (tmp_path / "other.1").write_text("kept")
    write_pages(tmp_path, {"kstore.1": "new"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kstore.1", "other.1"]


def test_groff_has_nothing_to_say(pages: dict[str, str], hard_page: str) -> None:
    groff = require_program("groff")
    for text in (*pages.values(), hard_page):
        run = subprocess.run(
            [groff, "-man", "-Tutf8", "-ww", "-z"],
            input=text.encode(),
            capture_output=True,
            timeout=30,
        )
        assert (run.returncode, run.stderr.decode()) == (0, "")
