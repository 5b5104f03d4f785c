"""PAX records: ``"<length> <key>=<value>\\n"``, over and over.

Source: POSIX.1-2017 pax, "pax Extended Header".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from kstore.formats.tar_headers import MAX_NUMBER, HeaderError

__all__ = [
    "decode_records",
    "decode_text",
    "encode_records",
    "encode_text",
    "from_nanoseconds",
    "seconds",
    "whole",
]

_LENGTH = 20  # digits of the longest length looked at
_SECOND = 1_000_000_000
_TIME = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]*))?")
_WHOLE = re.compile(r"[0-9]{1,19}")


def decode_text(data: bytes) -> str:
    """Text of an archive; bytes that are not UTF-8 become lone surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def encode_text(text: str) -> bytes:
    """The opposite of :func:`decode_text`.  Raises UnicodeEncodeError for other surrogates."""
    return text.encode("utf-8", "surrogateescape")


def decode_records(data: bytes) -> dict[str, str]:
    """The records in the content of an extended header; of two with one key the last counts.

    Raises HeaderError.
    """
    records: dict[str, str] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + _LENGTH)
        digits = data[at : max(space, at)]
        if not digits.isdigit():
            raise HeaderError("an extended header has a record without a length")
        end = at + int(digits)
        equals = data.find(b"=", space, end)
        if equals <= space + 1 or data[end - 1 : end] != b"\n":
            raise HeaderError("an extended header has a record that is cut off or malformed")
        key = data[space + 1 : equals]
        if b"\0" in key:
            raise HeaderError("an extended header has a key with a zero byte")
        records[decode_text(key)] = decode_text(data[equals + 1 : end - 1])
        at = end
    return records


def encode_records(records: Mapping[str, str]) -> bytes:
    """``records`` as the content of an extended header, in their order."""
    return b"".join(_record(encode_text(key), encode_text(text)) for key, text in records.items())


def _record(key: bytes, value: bytes) -> bytes:
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))  # the length counts its own digits
    return b"%d %s=%s\n" % (length, key, value)


def whole(key: str, text: str) -> int:
    """A number of bytes, or an ID.  Raises HeaderError."""
    value = int(text) if _WHOLE.fullmatch(text) else -1
    if not 0 <= value <= MAX_NUMBER:
        raise HeaderError(f"the extended header {key} is not a valid number: {text[:40]!r}")
    return value


def seconds(text: str) -> int:
    """A time in seconds, with a fraction or without, in nanoseconds.  Raises HeaderError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise HeaderError(f"the extended header mtime is not a time: {text[:40]!r}")
    sign, units, fraction = match.groups()
    value = int(units) * _SECOND + int((fraction or "")[:9].ljust(9, "0"))
    return -value if sign else value


def from_nanoseconds(time_ns: int) -> str:
    """The text that :func:`seconds` reads as ``time_ns``, without needless zeros."""
    units, rest = divmod(abs(time_ns), _SECOND)
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{'-' if time_ns < 0 else ''}{units}{fraction}"
