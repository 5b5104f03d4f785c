"""Points in time, as users write them."""

from __future__ import annotations

import datetime as dt
import re

from kstore.errors import InvalidInputError

__all__ = ["parse_moment"]

_AGE = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|[smhdw]))+", re.ASCII)
_AGE_PART = re.compile(r"([\d.]+)(ms|[smhdw])", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_UNIX = re.compile(r"\d{9,11}(?:\.\d{1,9})?", re.ASCII)  # 8 digits are a date


def parse_moment(text: str, now: dt.datetime) -> dt.datetime:
    """The moment ``text`` means, aware of its zone.

    An age before ``now`` (``10m``, ``1h30m``, ``7d``; units ms, s, m, h, d, w), a date or time of
    ISO 8601 / RFC 3339 (in the zone of this machine if it states none), or seconds since 1970.
    Raises InvalidInputError.
    """
    try:
        if _AGE.fullmatch(text):
            seconds = sum(float(n) * _SECONDS[unit] for n, unit in _AGE_PART.findall(text))
            return now - dt.timedelta(seconds=seconds)
        if _UNIX.fullmatch(text):
            return dt.datetime.fromtimestamp(float(text), dt.UTC)
        moment = dt.datetime.fromisoformat(text)
        # At the edges of the calendar, the zone leads out of it.
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise InvalidInputError(
            f"{text[:100]!r} is neither an age (24h, 7d) nor a time (2024-01-31,"
            " 2024-01-31T12:00:00Z)"
        ) from exc
