"""What names pointed to over time, and going back to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from kstore.digest import Digest
from kstore.errors import (
    REPAIR,
    ImageNotFoundError,
    InvalidInputError,
    NotFoundError,
    StoreDamagedError,
)
from kstore.operations.history import name_history
from kstore.operations.tag import parse_new_name
from kstore.reference import DEFAULT_TAG, LOCAL_DOMAIN, Named
from kstore.store import ManifestRecord, NameChange, Store
from kstore.values import dataclass

__all__ = ["LogEntry", "RestoreResult", "name_log", "restore_name"]

_PLACE = re.compile(r"(?P<name>[^@]+)@\{(?P<number>[0-9]{1,9})\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One change of a name.  ``number`` counts its changes from the newest, 0; ``manifest`` is
    what it pointed to from then on, None where that was removed from the store."""

    change: NameChange
    number: int
    manifest: ManifestRecord | None

    @property
    def place(self) -> str:
        """How ``kstore tag --restore`` calls it: ``NAME@{N}``."""
        return f"{self.change.name}@{{{self.number}}}"

    @property
    def restorable(self) -> bool:
        """Whether everything it pointed to is still in the store."""
        return self.manifest is not None and self.manifest.complete


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """The names that point to ``target`` again."""

    target: Digest
    names: tuple[Named, ...]


def name_log(store: Store, text: str | None, limit: int | None = None) -> tuple[LogEntry, ...]:
    """The changes of the name ``text``, newest first, at most ``limit``.

    Without a tag, those of every tag of the repository; None means all names.  Raises
    InvalidReferenceError, and NotFoundError for a name the store has never had.
    """
    seen = Counter[Named]()
    entries = []
    for change in name_history(store, text, limit):
        manifest = None if change.new is None else store.manifest(change.new)
        entries.append(LogEntry(change, seen[change.name], manifest))
        seen[change.name] += 1
    return tuple(entries)


def restore_name(store: Store, place: str, names: Sequence[str] = ()) -> RestoreResult:
    """Point a name to what it was at ``place`` (``NAME@{N}``, see :class:`LogEntry`), or give that
    to other ``names``.

    Raises InvalidInputError, NotFoundError for a place the log does not have or where there was no
    such name, ImageNotFoundError when the content is gone, StoreDamagedError when it is damaged.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        raise InvalidInputError(
            f"{place[:300]!r} is not NAME@{{N}}, a place in the log of a name", hint="kstore log"
        )
    text = match["name"]
    log = name_log(store, f"{text}:{DEFAULT_TAG}" if Named.parse(text).is_bare else text)
    number = int(match["number"])
    if number >= len(log):
        raise NotFoundError(
            f"the log of {log[0].change.name} goes back to @{{{len(log) - 1}}}, not to"
            f" @{{{number}}}",
            hint=f"kstore log {log[0].change.name}",
        )
    target = _target(log[number])
    wanted = tuple(dict.fromkeys(map(parse_new_name, names))) or (log[number].change.name,)
    store.tag(target, wanted)
    return RestoreResult(target, wanted)


def _target(entry: LogEntry) -> Digest:
    """What to point to again; see :func:`restore_name` for what speaks against it."""
    name, digest = entry.change.name, entry.change.new
    if digest is None:
        raise NotFoundError(
            f"{entry.place} is when the name was taken away: it pointed to nothing",
            hint=f"kstore log {name}",
        )
    if entry.manifest is None:
        local = name.domain == LOCAL_DOMAIN
        raise ImageNotFoundError(
            f"what {entry.place} was, {digest}, is no longer in the store",
            hint=None if local else f"kstore pull {name.repository}@{digest}",
        )
    if not entry.manifest.complete and not entry.manifest.is_index:
        raise StoreDamagedError(
            f"what {entry.place} was, {digest}, is in the store with blobs missing",
            hint=REPAIR,
        )
    return digest
