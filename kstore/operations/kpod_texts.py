"""What kpod asked of texts alone: IDs, names and sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kstore.errors import InvalidInputError, InvalidReferenceError
from kstore.reference import Named

__all__ = ["NO_NAME", "formatted_size", "matches_id", "matches_reference", "parse_image_names"]

#: What stands for the name of an image that has none.
NO_NAME: Final = "<none>"

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")


def matches_id(image_id: str, argument: str) -> bool:
    """Whether ``argument`` is the ID, or the start of it; ``sha256:`` may stand before it."""
    digits = argument.removeprefix("sha256:")
    return bool(digits) and image_id.startswith(digits)


def matches_reference(name: str, argument: str) -> bool:
    """Whether ``argument`` (``[repository][:tag][@digest]``, shell globs allowed) means ``name``.

    Its repository must be the last components of the name's, and tag and digest equal where they
    are given: ``redis`` and ``library/redis`` mean ``docker.io/library/redis:latest``, ``dis`` does
    not.  A name with neither tag nor digest has the tag ``latest``.  :data:`NO_NAME` means only
    itself; a text that begins or ends in the middle of a reference means nothing.

    Raises InvalidInputError for what can mean no name, InvalidReferenceError if ``name`` is none.
    """
    if NO_NAME in (name, argument):
        return name == argument
    if not argument or argument[0] in "/:" or argument[-1] in "/:<>":
        return False
    from kstore.operations.patterns import NamePattern  # here: it brings SQL with it

    return NamePattern(argument).means(Named.parse(name).with_default_tag())


def formatted_size(size: int | None) -> str:
    """Bytes in units of 1024 with four significant digits: ``0 B``, ``3.954 MB``, ``1024 TB``.

    None is ``unknown``.  Raises InvalidInputError for a negative number.
    """
    if size is None:
        return "unknown"
    if size < 0:
        raise InvalidInputError(f"a size cannot be {size} bytes")
    value = float(size)
    for unit in _UNITS[:-1]:
        if float(f"{value:.4g}") < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    shown = f"{value:.4g}"
    return f"{shown if 'e' not in shown else round(value)} {_UNITS[-1]}"


def parse_image_names(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """``(tags, digests)``: the names in full form, each once, by what they end in.

    A name with a digest (and perhaps a tag) is one of the latter; a name with neither gets the tag
    ``latest``.  What is not an image name is left out.
    """
    tags: dict[str, None] = {}
    digests: dict[str, None] = {}
    for name in names:
        try:
            named = Named.parse(name).with_default_tag()
        except InvalidReferenceError:
            continue
        (tags if named.digest is None else digests)[str(named)] = None
    return list(tags), list(digests)
