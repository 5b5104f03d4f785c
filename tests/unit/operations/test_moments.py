"""Times as users write them."""

from __future__ import annotations

import datetime as dt

import pytest

from kstore.errors import InvalidInputError
from kstore.operations.moments import parse_moment

NOW = dt.datetime(2024, 6, 1, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24h", dt.datetime(2024, 5, 31, 12, 0, tzinfo=dt.UTC)),
        ("1h30m", dt.datetime(2024, 6, 1, 10, 30, tzinfo=dt.UTC)),
        ("1.5h", dt.datetime(2024, 6, 1, 10, 30, tzinfo=dt.UTC)),
        ("7d", dt.datetime(2024, 5, 25, 12, 0, tzinfo=dt.UTC)),
        ("2w1d", dt.datetime(2024, 5, 17, 12, 0, tzinfo=dt.UTC)),
        ("1500ms", dt.datetime(2024, 6, 1, 11, 59, 58, 500_000, tzinfo=dt.UTC)),
        ("0s", NOW),
        ("2024-01-31T12:00:00Z", dt.datetime(2024, 1, 31, 12, 0, tzinfo=dt.UTC)),
        ("2024-01-31T12:00:00+02:00", dt.datetime(2024, 1, 31, 10, 0, tzinfo=dt.UTC)),
        ("1700000000", dt.datetime(2023, 11, 14, 22, 13, 20, tzinfo=dt.UTC)),
        ("2024-01-31", dt.datetime(2024, 1, 31).astimezone()),  # of this machine
        ("20240131", dt.datetime(2024, 1, 31).astimezone()),
        ("2024-01-31 08:15", dt.datetime(2024, 1, 31, 8, 15).astimezone()),
    ],
)
def test_ages_times_and_seconds_are_understood(text: str, expected: dt.datetime) -> None:
    moment = parse_moment(text, NOW)
    assert moment == expected
    assert moment.tzinfo is not None


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "24", "-24h", "24H", "h", "1y", "2024-13-01", "9" * 12, "999999999w", "١h"],
)
def test_anything_else_is_an_error_that_shows_what_is_meant(text: str) -> None:
    with pytest.raises(InvalidInputError, match="neither an age"):
        parse_moment(text, NOW)
