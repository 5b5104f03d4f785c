"""``--change``: edits of an image config, as Dockerfile instructions write them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from kstore.errors import InvalidInputError

__all__ = ["apply_changes", "require_text", "require_utf8"]

_Edit = Callable[[dict[str, Any], str, str], None]


def apply_changes(run: dict[str, Any], changes: Sequence[str]) -> None:
    """Apply ``KEY=VALUE`` or ``KEY VALUE`` texts to the ``config`` object of an image config.

    CMD and ENTRYPOINT take a JSON array or a shell command; given again, the last one wins.  ENV
    and LABEL take ``NAME=VALUE`` and keep what other names are set to.  InvalidInputError names
    the text that is wrong; ``run`` is unchanged then.
    """
    edited = json.loads(json.dumps(run))
    for change in changes:
        key, value = _split(change)
        edit = _EDITS.get(key.upper())
        if edit is None:
            known = ", ".join(_EDITS)
            raise InvalidInputError(f"unknown change {key[:100]!r} (known: {known})")
        edit(edited, value, change)
    run.clear()
    run.update(edited)


def _split(change: str) -> tuple[str, str]:
    require_text(change, f"change {change[:200]!r}")
    text = change.strip()
    for position, char in enumerate(text):
        if char == "=" or char.isspace():
            return text[:position], text[position + 1 :].strip()
    raise InvalidInputError(f"change {change[:200]!r} is not KEY=VALUE")


def require_utf8(text: str, what: str) -> None:
    """Raise InvalidInputError if ``text`` came from bytes that are no UTF-8, which JSON is."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"{what} is not UTF-8") from None


def require_text(text: str, what: str) -> None:
    """Raise InvalidInputError naming ``what`` for a text that no config can hold."""
    require_utf8(text, what)
    if "\0" in text:
        raise InvalidInputError(f"{what} contains a zero byte")


def _command(key: str) -> _Edit:
    def edit(run: dict[str, Any], value: str, change: str) -> None:
        is_array = value.startswith("[")
        run[key] = _json_texts(value, change) if is_array else ["/bin/sh", "-c", value]

    return edit


def _json_texts(value: str, change: str) -> list[str]:
    try:
        words = json.loads(value)
    except ValueError as exc:
        raise InvalidInputError(f"change {change[:200]!r} is not a JSON array: {exc}") from exc
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidInputError(f"change {change[:200]!r} is not a JSON array of texts")
    for word in words:
        require_text(word, f"change {change[:200]!r}")  # an escape can spell anything
    return words


def _env(run: dict[str, Any], value: str, change: str) -> None:
    for name, text in _pairs(value, change):
        entries = [e for e in run.get("Env") or [] if e.partition("=")[0] != name]
        run["Env"] = [*entries, f"{name}={text}"]


def _label(run: dict[str, Any], value: str, change: str) -> None:
    run["Labels"] = {**(run.get("Labels") or {}), **dict(_pairs(value, change))}


def _pairs(value: str, change: str) -> list[tuple[str, str]]:
    """``A=1 B="two words"``; one unquoted value with blanks; or the older ``NAME value``."""
    name, equals, text = value.partition("=")
    if not equals or any(char.isspace() for char in name):
        name, _, text = value.partition(" ")
        text = text.strip()
        if not text:
            raise InvalidInputError(f"change {change[:200]!r} is not NAME=VALUE")
    if not name:
        raise InvalidInputError(f"change {change[:200]!r} has no name")
    try:
        words = [word.partition("=") for word in shlex.split(value)]
    except ValueError as exc:
        raise InvalidInputError(f"change {change[:200]!r} has unbalanced quotes") from exc
    if all(key and equals for key, equals, _ in words):
        return [(key, text) for key, _, text in words]
    return [(name, text)]


def _expose(run: dict[str, Any], value: str, change: str) -> None:
    for word in value.split():
        port, _, protocol = word.partition("/")
        low, dash, high = port.partition("-")
        numbers = (low, high) if dash else (low,)
        if not all(n.isascii() and n.isdigit() and 1 <= int(n[:6]) <= 65535 for n in numbers) or (
            protocol not in ("", "tcp", "udp", "sctp")
        ):
            raise InvalidInputError(f"change {change[:200]!r} is not PORT[/tcp|udp|sctp]")
        run.setdefault("ExposedPorts", {})[f"{port}/{protocol or 'tcp'}"] = {}


def _volume(run: dict[str, Any], value: str, change: str) -> None:
    paths = _json_texts(value, change) if value.startswith("[") else value.split()
    for path in paths:
        if not path.startswith("/") or ".." in path.split("/"):
            raise InvalidInputError(f"change {change[:200]!r} is not an absolute path")
        run.setdefault("Volumes", {})[path] = {}


def _text(key: str) -> _Edit:
    def edit(run: dict[str, Any], value: str, change: str) -> None:
        run[key] = value

    return edit


_EDITS: dict[str, _Edit] = {
    "CMD": _command("Cmd"),
    "ENTRYPOINT": _command("Entrypoint"),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "STOPSIGNAL": _text("StopSignal"),
    "USER": _text("User"),
    "VOLUME": _volume,
    "WORKDIR": _text("WorkingDir"),
}
