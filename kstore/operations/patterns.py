"""Patterns for names: which ``[repository][:tag][@digest]`` a user means."""

from __future__ import annotations

import fnmatch
import re

from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidInputError
from kstore.reference import DEFAULT_DOMAIN, Named
from kstore.store import NameRecord, conditions

__all__ = ["NamePattern"]

_ALLOWED = re.compile(r"[A-Za-z0-9._/:*?!\[\]-]+", re.ASCII)
_LONGEST = 1000  # characters; no name is longer than half of that


class NamePattern:
    """What ``[repository][:tag][@digest]`` means, shell globs allowed.

    The pattern's repository must equal the last components of the name's, so ``redis`` and
    ``library/redis`` mean ``docker.io/library/redis`` and ``ry/redis`` does not; a tag or digest
    counts when it is given.
    """

    def __init__(self, text: str) -> None:
        """Raises InvalidInputError for a pattern that can mean no name."""
        rest, at, digest = text.partition("@")
        head, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        self._components = (head + slash + last).split("/")
        self._tag = tag if colon else None
        self._digest = _digest(digest, text) if at else None
        if (
            not _ALLOWED.fullmatch(rest)
            or len(rest) > _LONGEST
            or "" in self._components
            or (colon and (not tag or ":" in tag))
        ):
            raise InvalidInputError(f"{text[:200]!r} is not an image name or pattern")
        if self._components[0] in (DEFAULT_DOMAIN, f"index.{DEFAULT_DOMAIN}"):
            self._components[0] = DEFAULT_DOMAIN
            if len(self._components) == 2:
                self._components.insert(1, "library")

    @property
    def condition(self) -> conditions.Condition:
        """Holds for every image with a name that matches, and perhaps for some others."""
        return conditions.name_like("/".join(self._components), self._tag, self._digest)

    def matches(self, record: NameRecord) -> bool:
        """Whether the pattern means this name; a digest may also be that of what it leads to."""
        return self.means(record.name, record.target, record.manifest, record.via)

    def means(self, name: Named, *digests: Digest | None) -> bool:
        """Whether the pattern means a name, of an image that also has these digests."""
        has = [name.domain, *name.path.split("/")][-len(self._components) :]
        if len(has) != len(self._components):
            return False
        if self._digest not in (None, name.digest, *digests):
            return False
        if self._tag is not None and not fnmatch.fnmatchcase(name.tag or "", self._tag):
            return False
        return all(map(fnmatch.fnmatchcase, has, self._components))


def _digest(text: str, whole: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigestError as exc:
        raise InvalidInputError(f"{whole[:200]!r} has a bad digest: {exc}") from exc
