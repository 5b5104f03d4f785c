"""JSON from outside, read so that two readers can never see two different things.

The standard reader keeps the last of two equal keys, and other ecosystems match keys without
regard to case, so a document could mean one thing to whoever signed it and another to us.  Here
equal and near-equal keys, non-finite numbers, deep nesting, over-long integers and halves of
surrogate pairs are errors.

Source: RFC 8259 section 4 ("names within an object SHOULD be unique"); CVE-2021-41190 for why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from kstore.errors import InvalidManifestError

__all__ = ["MAX_DEPTH", "as_object", "as_texts", "check_spelling", "loads", "text_in"]

#: Nesting allowed in any document; real manifests and configs stay below ten.
MAX_DEPTH = 64

# Brackets in strings do not count.  Possessive, hence linear.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_MAX_INT_DIGITS = 20  # beyond 64 bits no size or count is honest
_SHOWN = 100

# Maps whose keys are data, which every reader keeps apart: "Maintainer" next to "maintainer" is two
# labels, not one field spelled twice.
_FREE_MAPS = frozenset({"annotations", "labels", "volumes", "exposedports", "auths", "credhelpers"})


def loads(data: bytes, what: str, *, cap: int, exact_keys: bool = False) -> Any:
    """Parse ``data`` (UTF-8 JSON, at most ``cap`` bytes); ``what`` names it in errors.

    ``exact_keys``: every reader of this format tells keys apart that differ only in case.

    Raises InvalidManifestError when it is too large, not JSON, too deep, or ambiguous.
    """
    if len(data) > cap:
        raise InvalidManifestError(f"{what} is {len(data)} bytes, more than the limit of {cap}")
    try:
        text = data.decode("utf-8")
        _check_depth(text, what)
        objects = _Objects(what, exact=exact_keys)
        value = json.loads(
            text,
            object_pairs_hook=objects.build,
            parse_constant=lambda name: _refuse_number(name, what),
            parse_float=lambda digits: _finite_float(digits, what),
            parse_int=lambda digits: _bounded_int(digits, what),
        )
    except UnicodeDecodeError as exc:
        raise InvalidManifestError(f"{what} is not UTF-8 text (byte {exc.start})") from exc
    except (ValueError, RecursionError) as exc:
        raise InvalidManifestError(f"{what} is not valid JSON: {exc}") from exc
    objects.check()
    if _SURROGATE.search(text):
        _check_surrogates(value, what)
    return value


def as_object(value: Any, what: str) -> dict[str, Any]:
    """``value`` if it is a JSON object, else InvalidManifestError naming ``what``."""
    if not isinstance(value, dict):
        raise InvalidManifestError(f"{what} is not a JSON object")
    return value


def as_texts(value: Any, what: str) -> tuple[str, ...]:
    """``value`` if it is a list of texts, empty for None; else InvalidManifestError."""
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidManifestError(f"{what} is not a list of texts")
    return tuple(value)


def text_in(document: Mapping[str, Any], key: str, what: str) -> str | None:
    """The text under ``key``, None where there is none or an empty one; InvalidManifestError."""
    text = document.get(key)
    if text is not None and not isinstance(text, str):
        raise InvalidManifestError(f"{key} of {what} is not text")
    return text or None


def check_spelling(value: Mapping[str, Any], fields: Mapping[str, str], what: str) -> None:
    """Refuse a key that a reader without regard to case would take for a known field.

    ``fields`` maps the case-folded names to the right ones; InvalidManifestError names ``what``.
    """
    for key in value:
        right = fields.get(key.casefold(), key)
        if key != right:
            raise InvalidManifestError(f"{what} is ambiguous: it spells {right!r} as {key!r}")


def _check_depth(text: str, what: str) -> None:
    """Refuse deep nesting before the parser recurses into it."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    plain = "".join(text.split('"')[::2]) if "\\" not in text else _STRING.sub("", text)
    left = plain.encode().translate(_AS_BRACES, _NO_BRACKETS)
    for _ in range(MAX_DEPTH):  # each round takes the innermost level away
        left = left.replace(b"{}", b"")
        if b"{}" not in left:
            break
    # What is left of shallow documents is nothing; others that are too short are for the parser.
    if b"{}" in left or left.count(b"{") > MAX_DEPTH:
        raise InvalidManifestError(f"{what} is nested deeper than {MAX_DEPTH} levels")


class _Objects:
    """Builds JSON objects, innermost first, and refuses those that two readers could read apart.

    Near-equal keys are only remembered at first: whether they are data shows when the enclosing
    object, and so the key above them, is complete.  ``exact``: near-equal keys are allowed.
    """

    def __init__(self, what: str, *, exact: bool) -> None:
        self._what = what
        self._exact = exact
        self._near: dict[int, tuple[str, str]] = {}

    def build(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            key, _ = _first_clash([key for key, _ in pairs], fold=False)
            raise InvalidManifestError(
                f"{self._what} is ambiguous: key {key[:_SHOWN]!r} appears twice"
            )
        if self._exact:
            return result
        if len({key.casefold() for key in result}) != len(result):
            self._near[id(result)] = _first_clash(list(result), fold=True)
        if self._near:
            for key, child in pairs:
                if key.casefold() in _FREE_MAPS:
                    self._near.pop(id(child), None)
        return result

    def check(self) -> None:
        for one, other in self._near.values():
            raise InvalidManifestError(
                f"{self._what} is ambiguous: keys {one[:_SHOWN]!r} and {other[:_SHOWN]!r}"
                " differ only in case"
            )


def _first_clash(keys: list[str], *, fold: bool) -> tuple[str, str]:
    seen: dict[str, str] = {}
    for key in keys:
        folded = key.casefold() if fold else key
        if folded in seen:
            return seen[folded], key
        seen[folded] = key
    raise AssertionError("called only where two keys clash")


def _check_surrogates(value: Any, what: str) -> None:
    """Refuse texts that no file, terminal or database could take."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidManifestError(f"{what} contains half of a surrogate pair") from exc


def _refuse_number(text: str, what: str) -> NoReturn:
    raise InvalidManifestError(f"{what} contains the number {text[:_SHOWN]}, which is not finite")


def _finite_float(digits: str, what: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        _refuse_number(digits, what)
    return number


def _bounded_int(digits: str, what: str) -> int:
    if len(digits) > _MAX_INT_DIGITS:
        raise InvalidManifestError(f"{what} contains an integer of {len(digits)} digits")
    return int(digits)
