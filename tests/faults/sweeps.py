"""Trying a fault at each call with which a command changes something, and judging what is left."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from kstore.errors import StoreDamagedError
from tests.faults.scenes import Operation, Place, State
from tests.support.forkserver import Run

__all__ = ["CALLS", "FAULTS", "Point", "Sweep", "faults_of", "points_of", "sweep"]

_NAMES = ("mkdir", "mkdirat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir")
_PATHS = (*_NAMES, "link", "linkat", "symlink", "symlinkat", "chmod", "fchmodat", "openat")
_CONTENT = (
    *("write", "pwrite64", "writev", "pwritev", "fsync", "fdatasync", "sync_file_range"),
    *("ftruncate", "truncate", "fallocate", "fchmod", "fsetxattr", "setxattr", "utimensat"),
    *("sendfile", "copy_file_range", "syncfs"),
)
_READS = frozenset({"read", "pread64", "preadv", "readv", "sendfile", "copy_file_range"})
_WRITES = frozenset({"write", "pwrite64", "writev", "pwritev"})
#: The calls that can change a file system, those that read, and the one that ends the process.
CALLS = ",".join(dict.fromkeys((*_PATHS, *_CONTENT, *sorted(_READS), "exit_group")))

_ERROR, _DAMAGED = 10, 5  # exit status of StorageError and of IntegrityError
_INTERRUPTED = 130
_KILLED = -9


@dataclass(frozen=True, slots=True)
class _Fault:
    """``expression`` of strace; ``calls`` at which it can happen; ``codes`` a command may end with
    then, beside 0 where it could do without."""

    expression: str
    calls: frozenset[str]
    codes: frozenset[int]


_ALL = frozenset((*_PATHS, *_CONTENT))
_GROWING = _ALL - {"unlink", "unlinkat", "rmdir", "fchmod", "chmod", "fchmodat", "utimensat"}
FAULTS = {
    "SIGKILL": _Fault("signal=SIGKILL", _ALL | {"exit_group"}, frozenset({_KILLED})),
    "SIGINT": _Fault("signal=SIGINT", _ALL, frozenset({_INTERRUPTED})),
    "EIO": _Fault("error=EIO", _ALL, frozenset({_ERROR})),
    "ENOSPC": _Fault("error=ENOSPC", _GROWING, frozenset({_ERROR})),
    "EROFS": _Fault("error=EROFS", frozenset(_PATHS), frozenset({_ERROR})),
    "EIO on reading": _Fault("error=EIO", _READS, frozenset({_DAMAGED, _ERROR})),
    "EACCES": _Fault("error=EACCES", frozenset(_PATHS), frozenset({_ERROR})),
}


def faults_of(operation: Operation) -> tuple[str, ...]:
    """The names of the faults that are tried with ``operation``."""
    return operation.faults or tuple(FAULTS)


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The ``ordinal``-th call of that name, counted from where the command begins."""

    call: str
    ordinal: int


@dataclass(slots=True)
class Sweep:
    """How many faults were planned, how many happened, and what was wrong afterwards."""

    planned: int = 0
    happened: int = 0
    violations: list[str] = field(default_factory=list)


_CALL = re.compile(r"(\d+) +([a-z_0-9]+)\((.*)")
_WRITING = re.compile(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC")
_ELSEWHERE = re.compile(r"\d+<(socket|pipe|anon_inode|/memfd|/dev/null|TCP|UNIX)")


def points_of(trace: Iterable[str], *, every: bool = True) -> list[Point]:
    """The calls of a trace that can change files or read blobs, in their order.

    Of many on one file with nothing between them the first two and the last are taken, unless
    ``every`` one is wanted.
    """
    counts: Counter[tuple[str, str]] = Counter()
    runs: list[tuple[str, list[Point]]] = []  # by what is the same in a run
    for line in trace:
        match = _CALL.match(line)
        if match is None:
            continue
        task, call, arguments = match.groups()
        counts[task, call] += 1  # strace counts for each thread
        if call == "openat" and (not _WRITING.search(arguments) or '"/dev/null"' in arguments):
            continue
        if call not in _PATHS and _ELSEWHERE.match(arguments):
            continue
        if call in _READS - _ALL and "/blobs/" not in arguments:
            continue
        point, same = Point(call, counts[task, call]), f"{task} {call} {arguments.split(',')[0]}"
        if call in _WRITES | _READS and runs and runs[-1][0] == same:
            runs[-1][1].append(point)
        else:
            runs.append((same, [point]))
    taken = (run if every else [*run[:2], *run[2:][-1:]] for _, run in runs)
    return list(dict.fromkeys(point for run in taken for point in run))


class Places(Protocol):
    """Where tries can be made."""

    def place(self) -> AbstractContextManager[Place]: ...


def sweep(
    scene: Places,
    operation: Operation,
    fault: str,
    *,
    at_most: int | None = None,
    every: bool = True,
    calls: str = CALLS,
    prelude: str = "",
) -> Sweep:
    """Try ``fault`` at each call of ``operation``, or at ``at_most`` of them,
    chosen by chance but always the same.

    ``every``: see :func:`points_of`; ``calls`` leaves others out; ``prelude`` makes a build with a
    defect.
    """
    with scene.place() as place:
        before = place.state(volatile=operation.volatile)
        operation.prepare(place)
        run = operation.run(place, trace=CALLS, prelude=prelude)
        assert run.code == 0, run.err
        after, announcement = place.state(volatile=operation.volatile), run.out
    wanted = FAULTS[fault]
    tried = wanted.calls & set(calls.split(","))
    points = [point for point in points_of(run.trace, every=every) if point.call in tried]
    result = Sweep()
    chance = random.Random(f"{operation} {fault}")
    if at_most is not None and at_most < len(points):
        points = chance.sample(points, at_most)
    for point in points:
        with scene.place() as place:
            inject = f"{point.call}:{wanted.expression}:when={point.ordinal}"
            operation.prepare(place)
            run = operation.run(place, inject=inject, prelude=prelude)
            place.settle()
            result.planned += 1
            result.happened += run.injected
            found = [
                *_judged(run, wanted),
                *_left(place, operation, run, before, after, announcement),
                *_repeated(place, operation, after),
            ]
        result.violations += [
            f"{operation} {fault} {point.call} #{point.ordinal}: {words}" for words in found
        ]
    return result


def _judged(run: Run, fault: _Fault) -> Iterable[str]:
    """How the command ended, and what it said."""
    allowed = fault.codes | {0} if run.injected else {0}
    if run.code not in allowed:
        yield f"ended with {run.code}: {run.err[-500:]!r}"
    if "Traceback" in run.err or "internal error" in run.err:
        yield f"said {run.err[-500:]!r}"
    sentences = [line for line in run.err.splitlines() if line.startswith("kstore: ")]
    sentences = [line for line in sentences if not line.startswith("kstore: warning: ")]
    # Two threads may get a signal each: the second one ends the process at once, without a word.
    silent = run.code == _INTERRUPTED and not sentences
    found = run.code == _ERROR and run.out and not sentences  # a check tells what it finds
    if len(sentences) != (run.code > 0) and not silent and not found:
        yield f"ended with {run.code} and said {run.err!r}"


def _left(
    place: Place, operation: Operation, run: Run, before: State, after: State, announcement: str
) -> Iterable[str]:
    announced = announcement and run.out == announcement and not operation.volatile
    done = run.code == 0 or announced
    try:
        now = place.state(volatile=operation.volatile)
    except StoreDamagedError as exc:
        if operation.damage is None or done:
            yield f"left {exc}"
        return  # as the command found it
    if done and now != after:
        yield f"said it had succeeded, but left {_difference(now, after)}"
    # A killed save may leave its temporary file; nothing of it has the name that was asked for.
    if run.code == _KILLED:
        visible = [pair for pair in now.outside if pair[0].startswith(("saved", "pushed:"))]
        now = replace(now, outside=tuple(visible))
    if now not in (before, after):
        yield f"neither done nor undone: {_difference(now, before)}"
    if operation.damage is None or done:
        yield from place.violations()


def _repeated(place: Place, operation: Operation, after: State) -> Iterable[str]:
    """The same command again, without the fault."""
    run = operation.run(place)
    if run.code not in operation.again:
        yield f"could not be repeated: {run.code} {run.err!r}"
    now = place.state(volatile=operation.volatile)
    names_and_files = (now.names, [name for name, _ in now.outside if not name.startswith(".")])
    wanted = (after.names, [name for name, _ in after.outside])
    if names_and_files != wanted:
        yield f"repeated, it left {_difference(now, after)}"
    if operation.damage is not None:
        yield from place.violations()


def _difference(now: State, wanted: State) -> str:
    parts = []
    for name in ("names", "nameless", "containers", "outside", "untold"):
        have, want = set(getattr(now, name)), set(getattr(wanted, name))
        if have != want:
            parts.append(f"{name}: more {have - want!r:.300}, less {want - have!r:.300}")
    return "; ".join(parts)
