"""What goes to standard output: lines, tables, JSON.

Nothing here decides what to show; everything here makes sure that it arrives whole, aligned, and
without a byte of image data steering the terminal.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, TextIO

import click

from kstore.cli.text import printable, rfc3339, width
from kstore.errors import StorageError

__all__ = [
    "is_terminal",
    "json_line",
    "json_text",
    "render_table",
    "write",
    "write_digest_file",
    "write_json",
    "write_table",
]

_GAP = "   "
_NOT_PLAIN = re.compile(r"[^\n -~]")


def write(text: str) -> None:
    """Write ``text`` to standard output as it is; a missing final newline is added."""
    if text:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")


def write_digest_file(file: Path, digest: object, done: str) -> None:
    """Write ``digest`` to ``file``; StorageError saying that what was asked for is ``done``."""
    try:
        file.write_text(str(digest))
    except OSError as exc:
        raise StorageError(
            f"{done}, but its digest {digest} cannot be written to {file}: {exc.strerror}"
        ) from exc


def write_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, heading: bool = True
) -> None:
    """Write aligned columns; the header is bold on a terminal and left out without ``heading``."""
    lines = render_table([*([header] if heading else []), *rows])
    if heading and lines and is_terminal(sys.stdout) and not os.environ.get("NO_COLOR"):
        lines[0] = click.style(lines[0], bold=True)
    write("\n".join(lines))


def render_table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Rows as lines with aligned columns, three spaces apart, nothing trailing.

    Characters that could steer a terminal (or break the columns) are escaped.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    columns = max(map(len, cells), default=0)
    widths = [
        max((width(row[n]) for row in cells if n < len(row)), default=0) for n in range(columns)
    ]
    return [
        _GAP.join(cell + " " * (widths[n] - width(cell)) for n, cell in enumerate(row)).rstrip()
        for row in cells
    ]


def write_json(value: Any) -> None:
    """Write ``value`` as indented JSON; see :func:`json_text`."""
    write(json_text(value))


def json_text(value: Any) -> str:
    """JSON with two spaces of indent, RFC 3339 dates, and readable but harmless text.

    Letters of all scripts stay readable; characters that could steer a terminal become ``\\u``
    escapes, which JSON readers turn back.
    """
    return _harmless(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def json_line(value: Any) -> str:
    """JSON on one line, without spaces."""
    return _harmless(json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain))


def is_terminal(stream: TextIO) -> bool:
    """Whether ``stream`` is a terminal that understands escape sequences."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _harmless(text: str) -> str:
    return _NOT_PLAIN.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4))


def _plain(value: Any) -> Any:
    for kind, convert in _CONVERSIONS.items():
        if isinstance(value, kind):
            return convert(value)
    return str(value)  # Digest, Named, Platform: values whose text is their meaning


_CONVERSIONS: Mapping[type[Any], Callable[[Any], Any]] = {
    dt.datetime: rfc3339,
    Mapping: dict,
    PurePath: str,
    frozenset: sorted,
    set: sorted,
}
