"""Configuration files read fast.

Generated registries.conf files reach thousands of entries, which the standard library's reader
takes tens of milliseconds for.  They hardly ever use more of TOML than tables, texts, booleans and
lists of texts on one line each; that much is read here, and whatever else a file may hold makes the
standard reader read all of it.

Source: TOML 1.0.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kstore.errors import InvalidInputError, StorageError

__all__ = ["MAX_FILE", "read_toml"]

#: Bytes of the largest configuration file that is read.
MAX_FILE = 8 * 1024 * 1024

_TEXT = r'"[^"\\\x00-\x08\x0a-\x1f\x7f]*"'
_END = r"[ \t]*(?:#[^\x00-\x08\x0a-\x1f\x7f]*)?"
_LINE = re.compile(
    rf"[ \t]*(?:"
    rf'(?P<key>[A-Za-z0-9_-]+|"[^"\\\x00-\x1f\x7f]*")[ \t]*=[ \t]*'
    rf"(?:(?P<text>{_TEXT})|(?P<flag>true|false)"
    rf"|\[[ \t]*(?P<list>(?:{_TEXT}[ \t]*,[ \t]*)*(?:{_TEXT}[ \t]*)?)\])"
    rf"|\[\[(?P<entry>[A-Za-z0-9_-]+)(?:\.(?P<inner>[A-Za-z0-9_-]+))?\]\]"
    rf"|\[(?P<table>[A-Za-z0-9_-]+)\]"
    rf")?{_END}\Z",
)
_TEXTS = re.compile(_TEXT)


def read_toml(file: Path) -> dict[str, Any] | None:
    """The document in ``file``; None if there is no file.

    Raises InvalidInputError naming file, line and column for one that is not TOML, StorageError for
    one that cannot be read.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"{file} cannot be read: {exc.strerror}") from exc
    if len(data) > MAX_FILE:
        raise InvalidInputError(f"{file} is larger than the limit of {MAX_FILE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise InvalidInputError(f"{file} is not UTF-8 text (line {line})") from exc
    document = read_simple(text)
    return document if document is not None else _read_any(text, file)


def _read_any(text: str, file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise InvalidInputError(f"{file} is not valid TOML: {exc}") from exc


def read_simple(text: str) -> dict[str, Any] | None:
    """What the standard reader makes of ``text``; None where it uses more than the simple part of
    the format, or uses it wrongly."""
    document: dict[str, Any] = {}
    here = document
    known: dict[str, _Line | None] = {"": ("", "", None)}  # most lines of a large file recur
    for line in text.split("\n"):
        if line not in known:
            known[line] = _read_line(line)
        read = known[line]
        if read is None:
            return None
        kind, key, value = read
        if kind == "value":
            if key in here:
                return None
            here[key] = value if isinstance(value, (str, bool)) else list(value)
        elif kind:
            opened = _open(document, kind, key, value)
            if opened is None:
                return None
            here = opened
    return document


#: What a line does, with which key, and a value (of ``inner``: the table inside the last of key).
_Line = tuple[str, str, Any]


def _read_line(line: str) -> _Line | None:
    key, equals, rest = line.partition(" = ")
    # How most lines look, told apart faster than by the pattern, which decides about the others.
    if equals and key.isascii() and key.isidentifier() and rest.isprintable():
        text = rest[1:-1]
        if rest == f'"{text}"' and '"' not in text and "\\" not in text:
            return ("value", key, text)
    match = _LINE.match(line)
    if match is None:
        return None
    kind = match.lastgroup
    if kind is None:
        return ("", "", None)
    if kind in ("entry", "table"):
        return (kind, match[kind], None)
    if kind == "inner":
        return (kind, match["entry"], match["inner"])
    value: Any = match[kind]
    if kind == "text":
        value = value[1:-1]
    elif kind == "flag":
        value = value == "true"
    else:
        value = [text[1:-1] for text in _TEXTS.findall(value)]
    return ("value", match["key"].strip('"'), value)


def _open(document: dict[str, Any], kind: str, key: str, inner: Any) -> dict[str, Any] | None:
    """The table a header begins; None where that is not simple."""
    if kind == "table":
        if key in document:
            return None
        table: dict[str, Any] = {}
        document[key] = table
        return table
    if kind == "inner":
        outer = document.get(key)
        if not isinstance(outer, list) or not _is_tables(outer):
            return None
        document, key = outer[-1], inner
    entry: dict[str, Any] = {}
    if key not in document:
        document[key] = [entry]
    elif _is_tables(document[key]):
        document[key].append(entry)
    else:
        return None
    return entry


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
