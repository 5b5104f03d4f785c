from __future__ import annotations

import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.cli.output import json_line, json_text, render_table, write_table
from kstore.digest import Digest


def test_columns_are_aligned_three_spaces_apart_with_nothing_trailing() -> None:
    rows = [("ID", "NAME"), ("abcdef", "x"), ("a", "a name")]
    assert render_table(rows) == ["ID       NAME", "abcdef   x", "a        a name"]


def test_wide_letters_do_not_break_the_columns() -> None:
    assert render_table([("漢", "x"), ("abc", "y")]) == ["漢    x", "abc   y"]


def test_a_cell_cannot_break_its_line_or_steer_the_terminal() -> None:
    assert render_table([("a\nb", "\x1b[2J")]) == ["a\\nb   \\x1b[2J"]


def test_rows_of_different_lengths_are_accepted() -> None:
    assert render_table([("a",), ("b", "c")]) == ["a", "b   c"]


def test_an_empty_table_shows_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("ID", "SIZE"), [])
    assert capsys.readouterr().out == "ID   SIZE\n"


def test_without_heading_an_empty_table_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write_table(("ID", "SIZE"), [], heading=False)
    assert capsys.readouterr().out == ""


def test_json_has_two_spaces_rfc_3339_dates_and_texts_of_values() -> None:
    value = {"at": dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "digest": Digest.of(b""), "size": 5}
    text = json_text(value)
    assert text.splitlines()[1] == '  "at": "2024-01-02T00:00:00Z",'
    assert json.loads(text)["digest"] == str(Digest.of(b""))
    assert json.loads(text)["size"] == 5


def test_no_records_are_an_empty_json_list() -> None:
    assert json_text([]) == "[]"


def test_json_keeps_letters_readable() -> None:
    assert json_text("größe 漢") == '"größe 漢"'


@pytest.mark.parametrize("char", ["\x1b", "\x7f", "\x9b", "\u202e", "\U000e0001"])
def test_json_escapes_what_could_steer_a_terminal(char: str) -> None:
    text = json_line(char)
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == char


@given(st.recursive(st.text() | st.integers() | st.none(), lambda s: st.lists(s, max_size=3)))
def test_json_always_reads_back_as_it_was(value: object) -> None:
    assert json.loads(json_text(value)) == value
