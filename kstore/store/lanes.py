"""Who downloads a blob: one at a time, unless that one stands still.

Who has lane 0 writes the part, which survives.  When its owner has not written anything for some
time, one of those who wait takes lane 1 and a private file, and the others wait for that one; and
so on.  So a stopped process costs one more download, however many were waiting for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kstore.digest import Digest
from kstore.store.locks import HeldLock, LockClass, LockFile, digest_key
from kstore.store.partials import Part
from kstore.streams import Cancel

__all__ = ["LANES", "STALL_SECONDS", "take_lane", "visible_name"]

#: Seconds without growth after which the owner of a lane counts as stuck.
STALL_SECONDS = 30.0
#: How many may download the same blob side by side while earlier ones stand still.
LANES = 4

_POLL_SECONDS = 0.05
_TELL_SECONDS = 1.0


def take_lane(
    locks: LockFile,
    part: Part,
    digest: Digest,
    waiting: Callable[[int | None], None] | None,
    cancel: Cancel | None,
) -> tuple[HeldLock | None, int]:
    """An ingest lock of the blob, and its lane; None and LANES if all owners seem stuck.

    Calls ``waiting`` with the process that has the lane, None if that is not known, about once a
    second.  Raises CancelledError, StorageError.
    """
    for lane in range(LANES):
        lock = _lane_lock(locks, part, digest, lane, waiting, cancel)
        if lock is not None:
            return lock, lane
    return None, LANES


def _lane_lock(
    locks: LockFile,
    part: Part,
    digest: Digest,
    lane: int,
    waiting: Callable[[int | None], None] | None,
    cancel: Cancel | None,
) -> HeldLock | None:
    """The lock of one lane, or None if its owner seems stuck."""
    key = digest_key(digest) ^ lane
    size, grown = _written(part, lane), time.monotonic()
    told = grown - _TELL_SECONDS + _POLL_SECONDS
    while True:
        lock = locks.try_lock(LockClass.INGEST, key)
        if lock is not None:
            return lock
        now = time.monotonic()
        if (size_now := _written(part, lane)) != size:
            size, grown = size_now, now
        elif now - grown >= STALL_SECONDS:
            return None
        if waiting is not None and now - told >= _TELL_SECONDS:
            told = now
            waiting(part.read_side().pid if lane == 0 else None)
        (cancel or Cancel()).wait(_POLL_SECONDS)


def _written(part: Part, lane: int) -> int | None:
    """The bytes that the owner of a lane has; of those above 0, all of theirs."""
    if lane == 0:
        return part.size()
    return sum(Part(path).size() or 0 for path in part.path.parent.glob(f"*-{part.path.stem}"))


def visible_name(private: Path, part: Part) -> Path:
    """The name of a private file (``LEASE-RANDOM``) by which others see whose bytes it holds."""
    return private.with_name(f"{private.name.partition('-')[0]}-{part.path.stem}")
