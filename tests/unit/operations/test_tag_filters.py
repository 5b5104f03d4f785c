"""Which tags are wanted."""

from __future__ import annotations

import pytest

from kstore.errors import InvalidInputError
from kstore.operations.tag_filters import MAX_PATTERN, TagFilter

TAGS = ["1.0.0", "1.1.0", "1.1.0-alpine", "2.0.0", "latest", "nightly"]


def wanted(**patterns: list[str]) -> list[str]:
    chosen = TagFilter(**patterns)
    return [tag for tag in TAGS if chosen.wants(tag)]


def test_without_a_filter_all_tags_are_wanted() -> None:
    assert wanted() == TAGS


def test_one_pattern_of_a_kind_is_enough() -> None:
    assert wanted(globs=["1.0*", "night*"]) == ["1.0.0", "nightly"]


def test_every_kind_that_is_given_counts() -> None:
    assert wanted(versions=[">=1"], globs=["*.0.*"]) == ["1.0.0", "2.0.0"]


def test_a_regular_expression_matches_the_whole_tag() -> None:
    assert wanted(regexes=[r"1\.\d"]) == []
    assert wanted(regexes=[r"1\.\d\.0(-.*)?"]) == ["1.0.0", "1.1.0", "1.1.0-alpine"]


def test_what_cannot_be_a_tag_is_never_matched() -> None:
    assert not TagFilter(regexes=[".*"]).wants("a" * 129)


@pytest.mark.parametrize(
    "patterns",
    [{"regexes": ["("]}, {"regexes": ["a" * (MAX_PATTERN + 1)]}, {"versions": ["latest"]}],
)
def test_a_bad_pattern_is_refused(patterns: dict[str, list[str]]) -> None:
    with pytest.raises(InvalidInputError):
        TagFilter(**patterns)
