"""What a trace of the kernel must show: durable before visible, visible before recorded.

The order of one blob: its file is synced and not written any more, it gets its name, the directory
of names is synced, the database's log is synced, and only then standard output says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kstore.store.locks import LockClass

__all__ = ["LOCKING", "Event", "events_of", "order_violations"]

_CALL = re.compile(r"\d+ +(?P<call>[a-z_0-9]+)\((?P<rest>.*)")
_DESCRIPTOR = re.compile(r"\d+<(?P<path>[^>]*)>")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_WRITES = {"write", "pwrite64", "writev", "pwritev", "sendfile", "ftruncate", "fallocate"}
_SYNCS = {"fsync", "fdatasync"}
_DATABASE = "db/kstore.db"
_ON_DESCRIPTOR = re.compile(r"\d+ +(\w+)\((\d+)<([^>]*)>(.*)")
#: Where the lock begins that only one has who writes: the writer's of the store, and the one with
#: which SQLite merges the log when nobody else has the database open.
_ALONE = {"locks": LockClass.WRITER << 56, "db/kstore.db": (1 << 30) + 2}
_DATABASE_FILES = ("db/kstore.db", "db/kstore.db-wal")
#: The calls that show who holds which lock.
LOCKING = "fcntl,close"
_WRITING = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC")


@dataclass(frozen=True, slots=True)
class Event:
    """``kind``: open (for writing), write, sync, rename (``path`` to ``target``), unlink, say."""

    kind: str
    path: str
    target: str = ""


def events_of(trace: Sequence[str], root: Path) -> list[Event]:
    """The calls that matter, their paths relative to ``root`` where they are below it."""
    return [event for line in trace for event in _events_of(line, f"{root}/")]


def _events_of(line: str, root: str) -> Iterator[Event]:
    match = _CALL.match(line)
    if match is None or re.search(r"= -1 E", line):
        return
    call, rest = match["call"], match["rest"]
    descriptor = _DESCRIPTOR.match(rest)
    names = [name.removeprefix(root) for name in _QUOTED.findall(rest)]
    place = "" if descriptor is None else descriptor["path"].removeprefix(root)
    if call in _SYNCS:
        yield Event("sync", place)
    elif call in _WRITES:
        yield Event("say" if place.startswith("/memfd:out") else "write", place)
    elif call.startswith("rename"):
        yield Event("rename", names[0], names[1])
    elif call.startswith("unlink"):
        yield Event("unlink", names[0])
    elif call == "openat" and _WRITING.search(rest):
        yield Event("open", names[0])


def order_violations(
    trace: Sequence[str], root: Path, outside: Sequence[Path] = ()
) -> Iterator[str]:
    """What is in the wrong order in the trace of a whole command that succeeded.

    The trace holds ``LOCKING``, too.  Files are written nowhere but in the store and below
    ``outside``.
    """
    events = events_of(trace, root)
    for position, event in enumerate(events):
        before, later = events[:position], events[position + 1 :]
        if event.kind == "rename" and event.target.startswith("blobs/"):
            yield from _blob_violations(event, before, later)
        elif event.kind == "rename" and event.target == "index.json":
            yield from _unsynced(event, before)
            if not _synced(later, "") and not _synced(later, str(root)):
                yield "the name index.json is not made durable"
        elif event.kind == "rename" and event.target == _DATABASE:
            yield from _unsynced(event, before)
            if any(other.kind == "write" and other.path == _DATABASE for other in before):
                yield f"{_DATABASE} is written in place"
            if not _synced(_until_said(later), "db"):
                yield f"the name {_DATABASE} is not made durable before standard output speaks"
        elif event.kind == "unlink" and event.path.startswith("blobs/"):
            if not _synced(before, "db/kstore.db-wal"):
                yield f"{event.path} is removed before the rows are, durably"
        elif event.kind == "open":
            yield from _opened(event, outside)
    said = [n for n, event in enumerate(events) if event.kind == "say"]
    rows = [n for n, event in enumerate(events) if _is_sync(event, "db/kstore.db-wal")]
    if said and rows and rows[0] > said[0]:
        yield "standard output speaks before the rows are durable"
    yield from _unlocked_writes(trace, root)


def _unlocked_writes(trace: Sequence[str], root: Path) -> Iterator[str]:
    """Who writes to the database holds the writer's lock, or is the last one to close it."""
    held: dict[str, str] = {}  # descriptors of locks, to the file
    for line in trace:
        match = _ON_DESCRIPTOR.match(line)
        if match is None or "= -1 E" in line:
            continue
        call, descriptor, path, rest = match.groups()
        path = path.removeprefix(f"{root}/")
        if call == "close":
            held.pop(descriptor, None)
        elif call == "fcntl":
            if "F_WRLCK" in rest and f"l_start={_ALONE.get(path)}," in rest:
                held[descriptor] = path
        elif call in _WRITES and path in _DATABASE_FILES and not held:
            yield f"{path} is written without the writer's lock"


def _blob_violations(
    event: Event, before: Sequence[Event], later: Sequence[Event]
) -> Iterator[str]:
    yield from _unsynced(event, before)
    directory = event.target.rpartition("/")[0]
    names = [n for n, other in enumerate(later) if _is_sync(other, directory)]
    rows = [n for n, other in enumerate(later) if _is_sync(other, "db/kstore.db-wal")]
    said = [n for n, other in enumerate(later) if other.kind == "say"]
    if not names:
        yield f"the name {event.target} is not made durable"
    if names and rows and rows[0] < names[0]:
        yield f"the rows of {event.target} may be durable before its name is"
    if not rows or (said and said[0] < rows[0]):
        yield f"{event.target} is announced before its rows are durable"


def _unsynced(event: Event, before: Sequence[Event]) -> Iterator[str]:
    """The bytes of a file that is renamed are durable, and stay as they are."""
    touched = [other.kind for other in before if other.path == event.path]
    if "sync" not in touched:
        yield f"{event.target} gets its name without a sync"
    elif "write" in touched[len(touched) - touched[::-1].index("sync") :]:
        yield f"{event.target} is written after its sync"


def _opened(event: Event, outside: Sequence[Path]) -> Iterator[str]:
    if event.path.startswith("blobs/") or event.path == "index.json":
        yield f"{event.path} is written in place"
    if event.path.startswith("/") and not any(
        Path(event.path).is_relative_to(directory) for directory in outside
    ):
        yield f"{event.path} is written, outside of the store"


def _until_said(events: Sequence[Event]) -> Sequence[Event]:
    kinds = [event.kind for event in events]
    return events[: kinds.index("say")] if "say" in kinds else events


def _synced(events: Sequence[Event], path: str) -> bool:
    return any(_is_sync(event, path) for event in events)


def _is_sync(event: Event, path: str) -> bool:
    return event.kind == "sync" and event.path == path
