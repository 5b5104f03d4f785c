"""Values as a human reads them: sizes, ages, dates, and text that is safe on a terminal."""

from __future__ import annotations

import datetime as dt
import math
import unicodedata

__all__ = [
    "NONE",
    "UNKNOWN",
    "human_age",
    "human_duration",
    "human_size",
    "plural",
    "printable",
    "rfc3339",
    "rough_size",
    "short_id",
    "shorten",
    "width",
]

#: What a table shows where there is no name.
NONE = "<none>"
#: What a table shows where a value is not known.
UNKNOWN = "unknown"

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SHORT = 12


def printable(text: str, keep: str = "") -> str:
    """``text`` with every character that could steer a terminal written as an escape.

    Control, format (such as right-to-left overrides), separator and surrogate characters become
    ``\\x1b``, ``\\u202e`` and so on, except those in ``keep``.
    """
    if text.isprintable():
        return text
    return "".join(
        char
        if char.isprintable() or char in keep
        else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def width(text: str) -> int:
    """The number of terminal cells ``text`` takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF")
        for char in text
    )


def shorten(text: str, limit: int) -> str:
    """``text``, cut to ``limit`` characters with ``...`` at the end if it is longer."""
    return text if len(text) <= limit else text[: max(limit - 3, 0)] + "..."


def short_id(image_id: str, *, full: bool = False) -> str:
    """An image ID as a table shows it: 12 hex digits, or all of them."""
    return image_id if full else image_id[:_SHORT]


def human_size(size: int | None) -> str:
    """Bytes in decimal units with four significant digits: ``0 B``, ``45.14 MB``, ``1 GB``."""
    if size is None:
        return UNKNOWN
    value = float(size)
    for unit in _UNITS:
        shown = f"{value:.4g}"
        # 999,999 bytes round to 1000 kB, which is 1 MB: ask the rounded value, not the exact one.
        if float(shown) < 1000 or unit == _UNITS[-1]:
            return f"{shown} {unit}"
        value /= 1000
    raise AssertionError("unreachable: the last unit always returns")


def rough_size(size: float) -> str:
    """Bytes that change while one looks: one decimal, so that the number keeps its width."""
    value = float(size)
    for unit in _UNITS:
        if value < 999.95 or unit == _UNITS[-1]:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable: the last unit always returns")


def human_age(moment: dt.datetime | None, now: dt.datetime) -> str:
    """How long ago ``moment`` was, in one rough unit: ``2 weeks ago``.

    A moment in the future (a clock that is wrong) counts as just now.
    """
    if moment is None:
        return UNKNOWN
    return f"{_span(int((now - moment).total_seconds()))} ago"


def _span(seconds: int) -> str:
    if seconds < 1:
        return "Less than a second"
    if seconds < _MINUTE:
        return plural(seconds, "second")
    if seconds < 2 * _MINUTE:
        return "About a minute"
    if seconds < _HOUR:
        return plural(seconds // _MINUTE, "minute")
    if seconds < 2 * _HOUR:
        return "About an hour"
    if seconds < 48 * _HOUR:
        return plural(seconds // _HOUR, "hour")
    days = seconds // _DAY
    if days < 14:
        return plural(days, "day")
    if days < 90:
        return plural(days // 7, "week")
    if days < 730:
        return plural(days // 30, "month")
    return plural(days // 365, "year")


def human_duration(seconds: float) -> str:
    """How long something takes: ``12 ms``, ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``.

    Whole numbers stay whole.
    """
    seconds = max(seconds, 0)
    if 0 < seconds < 0.0995:
        return f"{math.ceil(seconds * 1000)} ms"
    if seconds < 9.95 and not isinstance(seconds, int):
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"


def plural(count: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def rfc3339(moment: dt.datetime) -> str:
    """A date as JSON carries it: RFC 3339, in UTC, with ``Z``."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")
