"""Choosing images: the NAME argument and ``--filter``.

===========================  ====================================================================
``dangling=true|false``      the image has no name / has one
``intermediate=true|false``  it has no name, and another image is built upon it / or not so
``containers=true|false``    working containers were made from it / none was
``label=KEY[=VALUE]``        its config has the label
``reference=PATTERN``        the name is one that the pattern means; given twice: either
``before=IMAGE``             created earlier than that image (a name or an ID)
``since=IMAGE``              created later; ``after=`` is the same
``until=TIME``               created earlier than a time (``2024-01-31``) or longer ago (``24h``)
``id=DIGITS``                the ID begins so
``digest=ALG:DIGITS``        the digest of its manifest, or of the index its name stands for, does
``platform=OS/ARCH``         made for that platform; ``/VARIANT`` may follow
===========================  ====================================================================

``KEY!=VALUE`` is the contrary, for the image as a whole.  An image that does not say when it was
made was not made before or after anything.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from kstore.digest import ALGORITHMS
from kstore.errors import InvalidInputError
from kstore.operations.moments import parse_moment
from kstore.operations.patterns import NamePattern
from kstore.platforms import Platform
from kstore.store import ImageRecord, NameRecord, Store, conditions
from kstore.values import dataclass

__all__ = ["ImageFilter", "parse_filters", "reference_filter"]

#: More filters than anyone writes; SQLite bounds how much can be asked at once.
_MOST = 100
_REFERENCE = "reference"
_Make = Callable[[Store, str], "ImageFilter"]
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})", re.ASCII)
_DIGEST = re.compile(rf"(?:{'|'.join(ALGORITHMS)}):[0-9a-f]{{1,128}}", re.ASCII)


def _every_row(_image: ImageRecord, _name: NameRecord | None) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """What a listing shows: of the images that meet ``condition``, the rows (an image under a
    name; None: it has none) that pass ``shows``."""

    condition: conditions.Condition
    shows: Callable[[ImageRecord, NameRecord | None], bool] = _every_row


def parse_filters(store: Store, expressions: Sequence[str]) -> tuple[ImageFilter, ...]:
    """Filters, all of which must hold, for ``key=value`` texts; see above for the keys.

    One text may hold several: a comma followed by a key and ``=`` begins the next (``\\,`` does
    not).  Raises InvalidInputError naming what is wrong, or for more than 100 filters;
    ImageNotFoundError and AmbiguousNameError for the image of ``before`` and ``since``.
    """
    parts = [part for expression in expressions for part in _split(expression)]
    if len(parts) > _MOST:
        raise InvalidInputError(f"{len(parts)} filters are more than {_MOST}")
    filters: list[ImageFilter] = []
    wanted: list[NamePattern] = []
    unwanted: list[NamePattern] = []
    for key, negated, value in parts:
        if key == _REFERENCE:
            (unwanted if negated else wanted).append(NamePattern(value))
        else:
            found = _FILTERS[key](store, value)
            filters.append(ImageFilter(~found.condition) if negated else found)
    if wanted:
        filters.append(_one_of(wanted))
    if unwanted:
        filters.append(_none_of(unwanted))
    return tuple(filters)


def reference_filter(value: str) -> ImageFilter:
    """Keeps the names that ``value`` means; see :class:`NamePattern`.

    Raises InvalidInputError for a pattern that can mean none.
    """
    return _one_of([NamePattern(value)])


def _split(expression: str) -> Iterable[tuple[str, bool, str]]:
    """The (key, negated, value) of each filter in a text."""
    keys = "|".join(_KEYS)
    next_filter = rf"(?=\s*(?:{keys})\s*!?=)"
    for text in re.split(rf"(?<!\\),{next_filter}", expression):
        key, equals, value = text.partition("=")
        negated = key.endswith("!")
        key = key.removesuffix("!").strip()
        if not equals:
            raise InvalidInputError(f"filter {text[:200]!r} is not KEY=VALUE")
        if key not in _KEYS:
            raise _unknown(key)
        yield key, negated, re.sub(rf"\\,{next_filter}", ",", value)


def _unknown(key: str) -> InvalidInputError:
    import difflib

    near = difflib.get_close_matches(key, _KEYS, n=1)
    return InvalidInputError(
        f"unknown filter {key[:100]!r} (known: {', '.join(_KEYS)})",
        hint=f"did you mean {near[0]}?" if near else None,
    )


# ---- by what an image is


def _yes_or_no(key: str, condition: conditions.Condition) -> _Make:
    def make(_store: Store, value: str) -> ImageFilter:
        if value not in ("true", "false"):
            raise InvalidInputError(f"filter {key}= takes true or false, not {value[:100]!r}")
        return ImageFilter(condition if value == "true" else ~condition)

    return make


def _label(_store: Store, value: str) -> ImageFilter:
    key, equals, wanted = value.partition("=")
    if not key:
        raise InvalidInputError("filter label= takes KEY or KEY=VALUE")
    try:
        value.encode()
    except UnicodeEncodeError as exc:  # bytes of the command line that are no text
        raise InvalidInputError(f"filter label={value[:200]!a} is not UTF-8") from exc
    return ImageFilter(conditions.labelled(key, wanted if equals else None))


def _id(_store: Store, value: str) -> ImageFilter:
    match = _ID.fullmatch(value)
    if match is None:
        raise InvalidInputError(
            f"filter id= takes the first hex digits of an image ID, not {value[:100]!r}"
        )
    return ImageFilter(conditions.id_begins(match[1]))


def _platform(_store: Store, value: str) -> ImageFilter:
    return ImageFilter(conditions.on_platform(Platform.parse(value)))


# ---- by what its names are and lead to


def _digest(_store: Store, value: str) -> ImageFilter:
    if _DIGEST.fullmatch(value) is None:
        raise InvalidInputError(
            f"filter digest= takes ALGORITHM:HEX or the start of it, not {value[:100]!r}"
        )

    def shows(image: ImageRecord, name: NameRecord | None) -> bool:
        has = image.manifests if name is None else (name.manifest, name.target, name.via)
        return any(str(digest).startswith(value) for digest in has)

    return ImageFilter(conditions.digest_begins(value), shows)


def _one_of(patterns: Sequence[NamePattern]) -> ImageFilter:
    return ImageFilter(
        conditions.any_of(pattern.condition for pattern in patterns),
        lambda _image, name: name is not None and any(p.matches(name) for p in patterns),
    )


def _none_of(patterns: Sequence[NamePattern]) -> ImageFilter:
    return ImageFilter(
        conditions.ANY,  # the condition of a pattern is approximate, so it cannot be turned around
        lambda image, _name: not any(p.matches(name) for p in patterns for name in image.names),
    )


# ---- by when it was made


def _before(store: Store, value: str) -> ImageFilter:
    return ImageFilter(conditions.created_before(_date_of(store, "before", value)))


def _since(store: Store, value: str) -> ImageFilter:
    return ImageFilter(conditions.created_after(_date_of(store, "since", value)))


def _until(_store: Store, value: str) -> ImageFilter:
    return ImageFilter(conditions.created_before(parse_moment(value, dt.datetime.now(dt.UTC))))


def _date_of(store: Store, key: str, value: str) -> dt.datetime:
    if not value:
        raise InvalidInputError(f"filter {key}= takes the name or ID of an image")
    image = store.find_image(value).image
    if image.created is None:
        raise InvalidInputError(
            f"filter {key}={value[:200]} has no meaning: that image does not say when it was made"
        )
    return image.created


_FILTERS: Mapping[str, _Make] = {
    "after": _since,
    "before": _before,
    "containers": _yes_or_no("containers", conditions.begun_with()),
    "dangling": _yes_or_no("dangling", ~conditions.named()),
    "digest": _digest,
    "id": _id,
    "intermediate": _yes_or_no("intermediate", conditions.intermediate()),
    "label": _label,
    "platform": _platform,
    "since": _since,
    "until": _until,
}
_KEYS = sorted([*_FILTERS, _REFERENCE])
