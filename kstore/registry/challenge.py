"""The WWW-Authenticate header, read by its grammar.

Source: RFC 9110 sections 11.2, 11.3 and 11.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field

from kstore.values import dataclass

__all__ = ["Challenge", "parse_challenges"]

_MAX_HEADER = 8 * 1024
_MAX_CHALLENGES = 16
_MAX_PARAMETERS = 32

_SPACE = re.compile(r"[ \t,]*")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_TOKEN68 = re.compile(r"[ \t]+[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z)", re.ASCII)
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate: a lower-case scheme and its parameters (names in lower case)."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """All challenges of all WWW-Authenticate headers, in order; what is malformed is left out.

    Of a parameter that appears twice the first counts.
    """
    found: list[Challenge] = []
    for header in headers:
        if len(header) <= _MAX_HEADER:
            found += _parse(header)
    return tuple(found[:_MAX_CHALLENGES])


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    scheme: str | None = None
    parameters: dict[str, str] = {}
    position = _skip(text, 0)
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            return found  # from here on nothing can be trusted, the challenge at hand included
        equals = _EQUALS.match(text, token.end())
        if equals is None:
            if scheme is not None:
                found.append(Challenge(scheme, parameters))
            scheme, parameters = token.group().lower(), {}
            token68 = _TOKEN68.match(text, token.end())
            position = _skip(text, token68.end() if token68 else token.end())
            continue
        value = _QUOTED.match(text, equals.end()) or _TOKEN.match(text, equals.end())
        if value is None or len(parameters) >= _MAX_PARAMETERS:
            return found
        content = value.group()
        if content.startswith('"'):
            content = _ESCAPE.sub(r"\1", value.group(1))
        parameters.setdefault(token.group().lower(), content)
        position = _skip(text, value.end())
    if scheme is not None:
        found.append(Challenge(scheme, parameters))
    return found


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position
