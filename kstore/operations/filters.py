"""Choosing images: the NAME argument and ``--filter``."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence

from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidInputError
from kstore.reference import DEFAULT_DOMAIN
from kstore.store import ImageRecord, NameRecord

__all__ = ["ImageFilter", "parse_filters", "reference_filter"]

_PATTERN = re.compile(r"[A-Za-z0-9._/:*?!\[\]-]+", re.ASCII)

#: Whether a listing shows this image under this name (None: it has none).
ImageFilter = Callable[[ImageRecord, NameRecord | None], bool]


def parse_filters(expressions: Sequence[str]) -> tuple[ImageFilter, ...]:
    """Filters for ``key=value`` texts: ``dangling=true|false``, ``label=KEY[=VALUE]``,
    ``reference=PATTERN``.  InvalidInputError names the text that is wrong."""
    return tuple(_parse(expression) for expression in expressions)


def _parse(expression: str) -> ImageFilter:
    key, equals, value = expression.partition("=")
    key = key.strip()
    if not equals:
        raise InvalidInputError(f"filter {expression[:200]!r} is not KEY=VALUE")
    make = _FILTERS.get(key)
    if make is None:
        known = ", ".join(sorted(_FILTERS))
        raise InvalidInputError(f"unknown filter {key[:100]!r} (known: {known})")
    return make(value)


def _dangling(value: str) -> ImageFilter:
    if value not in ("true", "false"):
        raise InvalidInputError(f"filter dangling= takes true or false, not {value[:100]!r}")
    wanted = value == "true"
    return lambda image, name: (name is None) is wanted


def _label(value: str) -> ImageFilter:
    key, equals, wanted = value.partition("=")
    if not key:
        raise InvalidInputError("filter label= takes KEY or KEY=VALUE")
    if equals:
        return lambda image, name: image.labels.get(key) == wanted
    return lambda image, name: key in image.labels


def reference_filter(value: str) -> ImageFilter:
    """Keeps names that ``value`` (``[repository][:tag][@digest]``, shell globs allowed) means.

    The pattern's repository must equal the last components of the name's, so ``redis`` and
    ``library/redis`` mean ``docker.io/library/redis`` and ``ry/redis`` does not; a tag or digest
    counts when it is given.  Raises InvalidInputError for a pattern without repository.
    """
    pattern = _Pattern(value)
    return lambda image, name: name is not None and pattern.matches(name)


_FILTERS: dict[str, Callable[[str], ImageFilter]] = {
    "dangling": _dangling,
    "label": _label,
    "reference": reference_filter,
}


class _Pattern:
    def __init__(self, text: str) -> None:
        rest, at, digest = text.partition("@")
        head, slash, last = rest.rpartition("/")
        last, colon, tag = last.partition(":")
        self._components = (head + slash + last).split("/")
        self._tag = tag if colon else None
        self._digest = _digest(digest, text) if at else None
        if (
            not _PATTERN.fullmatch(rest)
            or "" in self._components
            or (colon and (not tag or ":" in tag))
        ):
            raise InvalidInputError(f"{text[:200]!r} is not an image name or pattern")
        if self._components[0] in (DEFAULT_DOMAIN, f"index.{DEFAULT_DOMAIN}"):
            self._components[0] = DEFAULT_DOMAIN
            if len(self._components) == 2:
                self._components.insert(1, "library")

    def matches(self, record: NameRecord) -> bool:
        name = record.name
        has = [name.domain, *name.path.split("/")][-len(self._components) :]
        if len(has) != len(self._components):
            return False
        if self._digest not in (None, name.digest, record.target, record.manifest, record.via):
            return False
        if self._tag is not None and not fnmatch.fnmatchcase(name.tag or "", self._tag):
            return False
        return all(map(fnmatch.fnmatchcase, has, self._components))


def _digest(text: str, whole: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidDigestError as exc:
        raise InvalidInputError(f"{whole[:200]!r} has a bad digest: {exc}") from exc
