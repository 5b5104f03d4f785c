"""Change the settings of a working container."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence

from kstore.errors import InvalidInputError
from kstore.operations.draft import Draft, DraftData
from kstore.store import Store
from kstore.values import dataclass

__all__ = ["ConfigEdits", "configure_container"]

_ALL = "-"


@dataclass(frozen=True, slots=True)
class ConfigEdits:
    """What to change; None (or nothing) leaves a setting as it is, "" takes it away.

    ``cmd``: words as a shell splits them, or a JSON array.  ``entrypoint``: a JSON array, or a
    command for ``/bin/sh -c``; a new one takes ``cmd`` away unless that is given, too.
    ``env``, ``labels`` and ``annotations``: ``NAME=VALUE``, or ``NAME-`` to take NAME away.
    ``ports`` (``PORT[/PROTOCOL]``) and ``volumes`` (absolute paths): with ``-`` at the end to take
    one away.  A lone ``-`` takes all away.  ``created_by`` and ``comment`` are for the history.
    """

    author: str | None = None
    cmd: str | None = None
    entrypoint: str | None = None
    env: Sequence[str] = ()
    labels: Sequence[str] = ()
    annotations: Sequence[str] = ()
    ports: Sequence[str] = ()
    volumes: Sequence[str] = ()
    user: str | None = None
    work_dir: str | None = None
    os: str | None = None
    arch: str | None = None
    stop_signal: str | None = None
    created_by: str | None = None
    comment: str | None = None


def configure_container(store: Store, container: str, edits: ConfigEdits) -> DraftData:
    """Change the settings of a container, all of them or none; what they are now.

    Raises NotFoundError, InvalidInputError for a setting that makes no sense, StorageError.
    """
    record = store.containers.find(container)
    with store.containers.hold(record):
        draft = Draft.of_container(record)
        _apply(draft, edits)
        draft.save()
        return draft.data


def _apply(draft: Draft, edits: ConfigEdits) -> None:
    _set_commands(draft, edits)
    for texts, change in (
        (edits.env, draft.set_env),
        (edits.labels, draft.set_label),
        (edits.annotations, draft.set_annotation),
    ):
        for text in texts:
            _set_pair(draft, text, change)
    for text in edits.ports:
        _set_member(draft, "ExposedPorts", text, f"EXPOSE {text}")
    for text in edits.volumes:
        _set_member(draft, "Volumes", text, f"VOLUME {json.dumps([text])}")
    for key, value in (("User", edits.user), ("StopSignal", edits.stop_signal)):
        if value is not None:
            draft.set_text(key, value)
    if edits.os is not None:
        draft.os = _required(edits.os, "operating system")
    if edits.arch is not None:
        draft.architecture = _required(edits.arch, "architecture")
    if edits.author is not None:
        draft.author = edits.author
    if edits.work_dir is not None:
        draft.work_dir = edits.work_dir
    if edits.created_by is not None:
        draft.created_by = edits.created_by
    if edits.comment is not None:
        draft.comment = edits.comment


def _set_commands(draft: Draft, edits: ConfigEdits) -> None:
    if edits.entrypoint is not None:
        text = edits.entrypoint
        words = _array(text) if text.startswith("[") else ["/bin/sh", "-c", text] if text else []
        draft.set_words("Entrypoint", words)
        draft.set_words("Cmd", None)  # the old one was written for the old entrypoint
    if edits.cmd is not None:
        draft.set_words(
            "Cmd", _array(edits.cmd) if edits.cmd.startswith("[") else _split(edits.cmd)
        )


def _array(text: str) -> list[str]:
    try:
        words = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"{text[:200]!r} is not a JSON array: {exc}") from exc
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InvalidInputError(f"{text[:200]!r} is not a JSON array of texts")
    return words


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as exc:
        raise InvalidInputError(f"{text[:200]!r} has unbalanced quotes") from exc


def _set_pair(draft: Draft, text: str, change: Callable[[str, str | None], None]) -> None:
    if text == _ALL:
        _clear(draft, change)
        return
    name, equals, value = text.partition("=")
    if equals:
        change(name, value)
    elif name.endswith("-") and name[:-1]:
        change(name[:-1], None)
    else:
        raise InvalidInputError(f"{text[:200]!r} is neither NAME=VALUE nor NAME-")


def _clear(draft: Draft, change: Callable[[str, str | None], None]) -> None:
    if change == draft.set_annotation:
        for name in draft.annotations:
            draft.set_annotation(name, None)
    else:
        draft.drop("Env" if change == draft.set_env else "Labels")


def _set_member(draft: Draft, key: str, text: str, instruction: str) -> None:
    if text == _ALL:
        draft.drop(key)
    elif not text.endswith("-"):
        draft.change(instruction)
    else:
        name = text[:-1]
        draft.drop(key, name)
        if key == "ExposedPorts" and "/" not in name:
            draft.drop(key, f"{name}/tcp")


def _required(value: str, what: str) -> str:
    if not value:
        raise InvalidInputError(f"an image has an {what}: it cannot be taken away")
    return value
