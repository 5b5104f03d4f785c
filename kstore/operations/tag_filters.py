"""Which tags of a repository are wanted."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from kstore.errors import InvalidInputError
from kstore.operations.semver import Version, VersionRange
from kstore.reference import is_tag

__all__ = ["TagFilter"]

#: Longest pattern, in characters.
MAX_PATTERN = 500


class TagFilter:
    """Wants the tags that meet one pattern of every kind that is given; all tags without any."""

    def __init__(
        self,
        globs: Sequence[str] = (),
        regexes: Sequence[str] = (),
        versions: Sequence[str] = (),
    ) -> None:
        """``globs`` are shell patterns, ``regexes`` regular expressions for the whole tag,
        ``versions`` ranges of semantic versions.  InvalidInputError for what is none."""
        for pattern in (*globs, *regexes):
            if len(pattern) > MAX_PATTERN:
                raise InvalidInputError(f"tag pattern {pattern[:100]!r}... is too long")
        self._globs = tuple(globs)
        self._regexes = [_compiled(text) for text in regexes]
        self._ranges = [VersionRange(text) for text in versions]

    @property
    def wants_all(self) -> bool:
        return not (self._globs or self._regexes or self._ranges)

    def wants(self, tag: str) -> bool:
        """Whether ``tag`` is wanted; what is no tag never is, unless there is no filter."""
        if self.wants_all:
            return True
        if not is_tag(tag):  # at most 128 characters, whatever the patterns are
            return False
        version = Version.of_tag(tag) if self._ranges else None
        return (
            (not self._globs or any(fnmatch.fnmatchcase(tag, glob) for glob in self._globs))
            and (not self._regexes or any(regex.fullmatch(tag) for regex in self._regexes))
            and (
                not self._ranges
                or (version is not None and any(version in range_ for range_ in self._ranges))
            )
        )


def _compiled(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.ASCII)
    except (re.error, RecursionError, OverflowError) as exc:
        raise InvalidInputError(f"{text[:100]!r} is not a regular expression: {exc}") from exc
