"""The functions a ``--format`` template can call, and how values become text.

Every function takes plain values (text, integers, booleans, None, lists, mappings) and raises
ValueError with a half sentence when they do not fit.

Sources: the documentation of Go's text/template package; the formatting functions of docker.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kstore.cli.output import json_line
from kstore.cli.text import rfc3339

__all__ = ["FUNCTIONS", "MAX_TEXT", "call", "shown"]

#: Characters of the longest text a function makes.
MAX_TEXT = 1 << 20
_MAX_WIDTH = 1000
_VERB = re.compile(r"%([-+ 0]*)(\d{0,4})(?:\.(\d{0,4}))?(.)", re.DOTALL)


def call(name: str, arguments: Sequence[Any]) -> Any:
    """Call function ``name``; ValueError for a wrong number or kind of arguments."""
    least, most, function = FUNCTIONS[name]
    if len(arguments) < least or (most is not None and len(arguments) > most):
        raise ValueError(f"{name} got {len(arguments)} arguments")
    return function(*arguments)


def shown(value: Any) -> str:
    """``value`` as a template prints it; an unknown value (None) prints nothing."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{shown(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(shown, value)) + "]"
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{_kind(value)} where text is needed")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{_kind(value)} where a number is needed")
    return value


def _kind(value: Any) -> str:
    for kinds, word in _KINDS:
        if isinstance(value, kinds):
            return word
    return "nothing"


_KINDS: tuple[tuple[tuple[type[Any], ...], str], ...] = (
    ((bool,), "true or false"),
    ((int,), "a number"),
    ((str,), "text"),
    ((list, tuple), "a list"),
    ((Mapping,), "a map"),
    ((dt.datetime,), "a date"),
)


def _join(items: Any, separator: Any) -> str:
    if isinstance(items, str) and isinstance(separator, (list, tuple)):
        items, separator = separator, items  # {{.Names | join ", "}}: the piped value comes last
    if items is None:
        return ""
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"join needs a list, not {_kind(items)}")
    glue = _text(separator)
    texts = [shown(item) for item in items]
    _bounded(sum(map(len, texts)) + len(glue) * len(texts))
    return glue.join(texts)


def _split(text: Any, separator: Any) -> list[str]:
    return _text(text).split(separator) if _text(separator) else list(_text(text))


def _pad(text: Any, before: Any, after: Any) -> str:
    left, right = _number(before), _number(after)
    if not (0 <= left <= _MAX_WIDTH and 0 <= right <= _MAX_WIDTH):
        raise ValueError(f"pad takes 0 to {_MAX_WIDTH} spaces")
    return " " * left + _text(text) + " " * right if text else ""


def _truncate(text: Any, limit: Any) -> str:
    if isinstance(text, int) and isinstance(limit, str):
        text, limit = limit, text  # {{.ID | truncate 5}}: the piped value comes last
    return _text(text)[: max(_number(limit), 0)]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            return None
        if isinstance(value, Mapping):
            value = value.get(_text(key))
        elif isinstance(value, (list, tuple, str)):
            if not 0 <= _number(key) < len(value):
                raise ValueError(f"index {key} of {_kind(value)} with {len(value)} items")
            value = value[key]
        else:
            raise ValueError(f"index of {_kind(value)}")
    return value


def _length(value: Any) -> int:
    if value is None:
        return 0
    if not isinstance(value, (str, list, tuple, Mapping)):
        raise ValueError(f"len of {_kind(value)}")
    return len(value)


def _printf(template: Any, *arguments: Any) -> str:
    rest = list(arguments)
    _bounded(len(_text(template)) + sum(len(shown(value)) for value in rest))

    def verb(match: re.Match[str]) -> str:
        flags, wide, precision, letter = match.groups()
        if letter == "%":
            return "%"
        if not rest:
            raise ValueError(f"printf has no argument for {match.group()!r}")
        if int(wide or 0) > _MAX_WIDTH or int(precision or 0) > _MAX_WIDTH:
            raise ValueError(f"printf pads to at most {_MAX_WIDTH} characters")
        return _verb(letter, flags, wide, precision, rest.pop(0))

    text = _VERB.sub(verb, template)
    if rest:
        raise ValueError(f"printf has {len(rest)} arguments too many")
    return text


def _print(*values: Any) -> str:
    """Values one after the other, with a blank between two of which neither is text."""
    text = ""
    for number, value in enumerate(values):
        apart = number and not isinstance(value, str) and not isinstance(values[number - 1], str)
        text += f"{' ' if apart else ''}{shown(value)}"
    return text


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (str, list, tuple)):
        raise ValueError(f"slice of {_kind(value)}")
    start, end = [*map(_number, bounds), *(0, len(value))[len(bounds) :]]
    if not 0 <= start <= end <= len(value):
        raise ValueError(f"slice {start} to {end} of {_kind(value)} with {len(value)} items")
    return value[start:end]


def _verb(letter: str, flags: str, wide: str, precision: str | None, value: Any) -> str:
    head = f"%{flags}{wide}"
    cut = "" if precision is None else f".{precision or 0}"
    if letter in "sv":
        return f"{head}{cut}s" % shown(value)
    if letter == "q":
        return f"{head}s" % json_line(shown(value))
    if letter in "dxX":
        return f"{head}{letter}" % _number(value)
    if letter == "t" and isinstance(value, bool):
        return f"{head}s" % shown(value)
    raise ValueError(f"printf cannot print {_kind(value)} with %{letter}")


def _bounded(length: int) -> None:
    if length > MAX_TEXT:
        raise ValueError(f"a text of more than {MAX_TEXT} characters")


def _compared(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(first: Any, second: Any) -> bool:
        try:
            return test(first, second)
        except TypeError:
            raise ValueError(f"{_kind(first)} compared with {_kind(second)}") from None

    return compare


def _and(*values: Any) -> Any:
    return next((value for value in values if not value), values[-1])


def _or(*values: Any) -> Any:
    return next((value for value in values if value), values[-1])


def _title(text: Any) -> str:
    # str.title would also turn "it's" into "It'S".
    return re.sub(r"(^|\s)(\S)", lambda match: match.group(1) + match.group(2).upper(), _text(text))


#: Name -> least and most arguments (None: any number), and what it does.
FUNCTIONS: Mapping[str, tuple[int, int | None, Callable[..., Any]]] = {
    "and": (1, None, _and),
    "eq": (2, None, lambda first, *others: any(first == other for other in others)),
    "ge": (2, 2, _compared(lambda a, b: bool(a >= b))),
    "gt": (2, 2, _compared(lambda a, b: bool(a > b))),
    "index": (1, None, _index),
    "join": (2, 2, _join),
    "json": (1, 1, json_line),
    "le": (2, 2, _compared(lambda a, b: bool(a <= b))),
    "len": (1, 1, _length),
    "lower": (1, 1, lambda text: _text(text).lower()),
    "lt": (2, 2, _compared(lambda a, b: bool(a < b))),
    "ne": (2, 2, lambda a, b: a != b),
    "not": (1, 1, lambda value: not value),
    "or": (1, None, _or),
    "pad": (3, 3, _pad),
    "print": (0, None, _print),
    "printf": (1, None, _printf),
    "println": (0, None, lambda *values: " ".join(map(shown, values)) + "\n"),
    "slice": (1, 3, _slice),
    "split": (2, 2, _split),
    "title": (1, 1, _title),
    "truncate": (2, 2, _truncate),
    "upper": (1, 1, lambda text: _text(text).upper()),
}
