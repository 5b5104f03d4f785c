from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.cli.text import (
    human_age,
    human_duration,
    human_size,
    printable,
    rfc3339,
    shorten,
    width,
)

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.234 kB"),
        (45_140_000, "45.14 MB"),
        (123_456_789, "123.5 MB"),
        (10**9, "1 GB"),
        (10**21, "1000 EB"),
        (None, "unknown"),
    ],
)
def test_sizes_are_decimal_with_four_significant_digits(size: int | None, shown: str) -> None:
    assert human_size(size) == shown


@pytest.mark.parametrize("size", [999_999, 999_950])
def test_a_size_that_rounds_up_to_a_thousand_takes_the_next_unit(size: int) -> None:
    assert human_size(size) == "1 MB"


@given(st.integers(0, 2**63 - 1))
def test_no_size_is_shown_as_a_thousand_of_a_unit_or_with_an_exponent(size: int) -> None:
    number, unit = human_size(size).split()
    assert float(number) < 1000 or unit == "EB"
    assert "e" not in number


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (60, "About a minute ago"),
        (119, "About a minute ago"),
        (120, "2 minutes ago"),
        (3599, "59 minutes ago"),
        (3600, "About an hour ago"),
        (7200, "2 hours ago"),
        (48 * 3600 - 1, "47 hours ago"),
        (48 * 3600, "2 days ago"),
        (14 * 86400 - 1, "13 days ago"),
        (14 * 86400, "2 weeks ago"),
        (90 * 86400 - 1, "12 weeks ago"),
        (90 * 86400, "3 months ago"),
        (730 * 86400 - 1, "24 months ago"),
        (730 * 86400, "2 years ago"),
    ],
)
def test_ages_are_one_rough_unit(seconds: int, shown: str) -> None:
    assert human_age(NOW - dt.timedelta(seconds=seconds), NOW) == shown


def test_a_date_in_the_future_counts_as_just_now() -> None:
    assert human_age(NOW + dt.timedelta(days=900), NOW) == "Less than a second ago"


def test_an_unknown_date_has_no_age() -> None:
    assert human_age(None, NOW) == "unknown"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0.0 s"),
        (0.04, "40 ms"),
        (0.0991, "100 ms"),
        (0.0995, "0.1 s"),
        (4.14, "4.1 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (-1.0, "0 s"),
        (5, "5 s"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain über 漢字", "plain über 漢字"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202egnp.exe", "user\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("\x7f", "\\x7f"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_characters_to_keep_are_kept() -> None:
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@given(st.text())
def test_escaped_text_is_always_printable_and_escaping_it_again_changes_nothing(text: str) -> None:
    once = printable(text)
    assert once.isprintable()
    assert printable(once) == once


def test_wide_letters_take_two_cells_and_combining_ones_none() -> None:
    assert width("漢字") == 4
    assert width("e\u0301") == 1


def test_long_text_is_cut_with_dots() -> None:
    assert shorten("x" * 46, 45) == "x" * 42 + "..."
    assert shorten("x" * 45, 45) == "x" * 45


def test_dates_are_rfc_3339_in_utc() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    assert rfc3339(dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=east)) == "2024-01-02T01:04:05Z"
    assert rfc3339(dt.datetime(2024, 1, 2, 3, 4, 5)) == "2024-01-02T03:04:05Z"
