"""Versions in tags, and ranges of them.

Sources: Semantic Versioning 2.0.0 (precedence, section 11); the ranges are those of npm
(``node-semver``): ``>=1.2 <2``, ``^1.2.3``, ``~1.2``, ``1.x``, ``1.2 - 1.5``, and alternatives
with ``||``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kstore.errors import InvalidInputError
from kstore.values import dataclass

__all__ = ["Version", "VersionRange"]

#: Longest range, in characters; more is no range somebody wrote.
MAX_RANGE = 500
_MAX_DIGITS = 18

_NUMBER = rf"(?:0|[1-9][0-9]{{0,{_MAX_DIGITS - 1}}})"
_WORDS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?({_NUMBER})(?:\.({_NUMBER}))?(?:\.({_NUMBER}))?(?:-({_WORDS}))?(?:\+{_WORDS})?", re.ASCII
)
_PART = rf"(?:{_NUMBER}|[xX*])"
_TERM = re.compile(
    rf"(\^|~|>=|<=|>|<|=|)v?({_PART})(?:\.({_PART}))?(?:\.({_PART}))?(?:-({_WORDS}))?(?:\+{_WORDS})?",
    re.ASCII,
)
_OPERATOR_GAP = re.compile(r"(\^|~|>=|<=|>|<|=)\s+")
_HYPHEN = re.compile(r"(\S+)\s+-\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Version:
    """A version; ``pre`` are the words of a pre-release, empty for a release."""

    major: int
    minor: int = 0
    patch: int = 0
    pre: tuple[str, ...] = ()

    @classmethod
    def of_tag(cls, tag: str) -> Version | None:
        """The version a tag states (``1.2.3``, ``v1.2``, ``1.2.3-rc.1``), None if it states none.

        What is left out is 0.
        """
        match = _VERSION.fullmatch(tag)
        if match is None:
            return None
        major, minor, patch, pre = match.groups()
        return cls(int(major), int(minor or 0), int(patch or 0), _words(pre))

    @property
    def numbers(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.patch

    @property
    def order(self) -> Any:
        """What versions are compared by: a pre-release comes before its release."""
        words = tuple((0, int(w), "") if w.isdigit() else (1, 0, w) for w in self.pre)
        return self.numbers, not self.pre, words


def _words(pre: str | None) -> tuple[str, ...]:
    return tuple(pre.split(".")) if pre else ()


@dataclass(frozen=True, slots=True)
class _Comparison:
    """``version OPERATOR bound``."""

    operator: str
    bound: Version

    def holds(self, version: Version) -> bool:
        mine, other = version.order, self.bound.order
        return bool(
            {
                ">=": mine >= other,
                ">": mine > other,
                "<=": mine <= other,
                "<": mine < other,
                "=": mine == other,
            }[self.operator]
        )


class VersionRange:
    """What versions are wanted.

    As in npm, a pre-release is only meant by a range that names one of the same version:
    ``>=1.2.3-rc.1`` means 1.2.3-rc.2, and not 1.3.0-rc.1.
    """

    def __init__(self, text: str) -> None:
        """Parse a range; InvalidInputError."""
        self.text = text
        if len(text) > MAX_RANGE:
            raise InvalidInputError(f"version range {text[:100]!r}... is {len(text)} characters")
        self._alternatives = [_conjunction(part.strip(), text) for part in text.split("||")]

    def __contains__(self, version: Version) -> bool:
        return any(_meets(version, comparisons) for comparisons in self._alternatives)


def _meets(version: Version, comparisons: Sequence[_Comparison]) -> bool:
    if not all(comparison.holds(version) for comparison in comparisons):
        return False
    return not version.pre or any(
        comparison.bound.pre
        and comparison.bound.numbers == version.numbers
        # An upper bound that only cuts off (<2.0.0-0) names no pre-release anybody asked for.
        and comparison.bound.pre != ("0",)
        for comparison in comparisons
    )


def _conjunction(part: str, text: str) -> list[_Comparison]:
    hyphen = _HYPHEN.fullmatch(part)
    if hyphen is not None:
        return [*_term(f">={hyphen[1]}", text), *_term(f"<={hyphen[2]}", text)]
    words = _OPERATOR_GAP.sub(r"\1", part.replace(",", " ")).split()
    if not words:
        raise InvalidInputError(f"version range {text!r} has an empty part", hint="'*' is any")
    return [comparison for word in words for comparison in _term(word, text)]


def _term(word: str, text: str) -> list[_Comparison]:
    match = _TERM.fullmatch(word)
    if match is None:
        raise InvalidInputError(
            f"{word[:100]!r} in version range {text[:100]!r} is not a version with an operator"
            " (^ ~ >= <= > < =)"
        )
    operator, *parts, pre = match.groups()
    given = [int(part) for part in _leading_numbers(parts)]
    low = _padded(given, _words(pre))
    if not given:
        return [_Comparison("<", Version(0, pre=("0",)))] if operator in ("<", ">") else []
    full = len(given) == 3
    above = _cut(_above(low, len(given) - 1))
    match operator:
        case "^":
            return [_Comparison(">=", low), _Comparison("<", _cut(_above_caret(low, given)))]
        case "~":
            return [
                _Comparison(">=", low),
                _Comparison("<", _cut(_above(low, min(len(given) - 1, 1)))),
            ]
        case ">" if not full:
            return [_Comparison(">=", replace(above, pre=()))]
        case "<=" if not full:
            return [_Comparison("<", above)]
        case "<" if not pre:
            return [_Comparison("<", _cut(low))]
        case ">" | "<=" | "<" | ">=":
            return [_Comparison(operator, low)]
    return [_Comparison("=", low)] if full else [_Comparison(">=", low), _Comparison("<", above)]


def _leading_numbers(parts: Sequence[str | None]) -> list[str]:
    numbers: list[str] = []
    for part in parts:
        if part is None or part in "xX*":
            break
        numbers.append(part)
    return numbers


def _padded(numbers: Sequence[int], pre: tuple[str, ...] = ()) -> Version:
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    return Version(major, minor, patch, pre)


def _above(version: Version, position: int) -> Version:
    """The first release that differs in the number at ``position`` (0 is major) or before it."""
    numbers = list(version.numbers[: position + 1])
    numbers[position] += 1
    return _padded(numbers)


def _above_caret(low: Version, given: Sequence[int]) -> Version:
    """The first release with another leftmost number that is not 0."""
    for position, number in enumerate(given):
        if number:
            return _above(low, position)
    return _above(low, len(given) - 1)


def _cut(version: Version) -> Version:
    """Just below ``version``: its own pre-releases are not part of what is below it."""
    return replace(version, pre=("0",))
