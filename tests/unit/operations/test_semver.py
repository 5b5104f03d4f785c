"""Versions in tags, and ranges of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore.errors import InvalidInputError
from kstore.operations.semver import MAX_RANGE, Version, VersionRange


def means(range_: str, tag: str) -> bool:
    version = Version.of_tag(tag)
    return version is not None and version in VersionRange(range_)


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        ("^1.2.3", ["1.2.3", "1.9.0", "v1.2.4"], ["1.2.2", "2.0.0", "2.0.0-rc.1"]),
        ("^0.2.3", ["0.2.3", "0.2.9"], ["0.3.0", "0.2.2", "1.0.0"]),
        ("^0.0.3", ["0.0.3"], ["0.0.4", "0.0.2"]),
        ("^0", ["0.0.1", "0.9.0"], ["1.0.0"]),
        ("^0.0", ["0.0.9"], ["0.1.0"]),
        ("^1", ["1.0.0", "1.9"], ["2", "0.9.9"]),
        ("~1.2.3", ["1.2.3", "1.2.9"], ["1.3.0", "1.2.2"]),
        ("~1.2", ["1.2.0", "1.2"], ["1.3.0"]),
        ("~1", ["1.0.0", "1.9.9"], ["2.0.0"]),
        (">=1.2 <2", ["1.2", "1.9.9"], ["2.0.0", "2.0.0-rc.1", "1.1.9"]),
        (">= 1.2, < 2", ["1.2", "1.9.9"], ["2.0.0"]),
        (">1.2", ["1.3.0"], ["1.2.0", "1.2.9"]),
        (">1.2.3", ["1.2.4"], ["1.2.3"]),
        ("<=1.2", ["1.2.9", "0.1"], ["1.3.0"]),
        ("<=1.2.3", ["1.2.3"], ["1.2.4"]),
        ("<2", ["1.9.9"], ["2.0.0", "2.0.0-alpha"]),
        ("1.x", ["1.0.0", "1.7.2"], ["2.0.0"]),
        ("1.2.*", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("1.2", ["1.2.0", "1.2.9"], ["1.3.0"]),
        ("*", ["0.0.0", "9.9.9"], ["1.0.0-rc.1"]),
        ("=1.2.3", ["1.2.3", "v1.2.3"], ["1.2.4"]),
        ("1.2 - 1.5", ["1.2.0", "1.5.9"], ["1.6.0", "1.1.9"]),
        ("1 || >=3 <3.2", ["1.9.9", "3.1.0"], ["2.0.0", "3.2.0"]),
        (">=1.2.3-rc.1", ["1.2.3-rc.1", "1.2.3-rc.2", "1.2.3", "1.4.0"], ["1.3.0-rc.1"]),
        ("<1.2.3-beta", ["1.2.3-alpha", "1.2.2"], ["1.2.3-beta", "1.2.3"]),
        (">*", [], ["1.0.0"]),
    ],
)
def test_ranges_mean_what_they_mean_to_npm(
    range_: str, inside: list[str], outside: list[str]
) -> None:
    assert [tag for tag in inside if not means(range_, tag)] == []
    assert [tag for tag in outside if means(range_, tag)] == []


def test_versions_are_ordered_as_the_specification_shows() -> None:
    tags = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2"]
    tags += ["1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10.0", "2.0.0"]
    versions = [Version.of_tag(tag) for tag in tags]
    assert sorted(versions, key=lambda v: v and v.order) == versions


@pytest.mark.parametrize("tag", ["latest", "1.2.3.4", "01.2.3", "1.2.3-", "v", "", "1.x", "1.0\n"])
def test_a_tag_that_is_no_version_states_none(tag: str) -> None:
    assert Version.of_tag(tag) is None


@pytest.mark.parametrize("text", ["", "||", "1 ||", "latest", ">>1", "1.2.3.4", "^", "1..2"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        VersionRange(text)


def test_an_endless_range_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=f"{MAX_RANGE + 1} characters"):
        VersionRange("1" * (MAX_RANGE + 1))


@given(st.tuples(*[st.integers(0, 30)] * 3), st.tuples(*[st.integers(0, 30)] * 3))
def test_the_caret_keeps_the_first_number_that_is_not_0(
    low: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    first = next((n for n in range(3) if low[n]), 2)
    expected = other >= low and other[: first + 1] == low[: first + 1]
    text = ".".join(map(str, low))
    assert means(f"^{text}", ".".join(map(str, other))) == expected


@given(st.text(alphabet="0123456789.xX*^~<>=|- vrc", max_size=30))
def test_no_text_does_anything_but_parse_or_be_refused(text: str) -> None:
    try:
        range_ = VersionRange(text)
    except InvalidInputError:
        return
    assert isinstance(Version(1, 2, 3) in range_, bool)
