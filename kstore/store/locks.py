"""Byte-range locks in one file, ``ROOT/locks``.

===== ======= ======================= ==== ====================================================
class what    key                     mode held by
===== ======= ======================= ==== ====================================================
0     store   0                       S/X  every session: S; creating and migrating: X
1     gc      0                       X    garbage collection (never waited for)
2     ingest  56 bits of the digest   X    who downloads that blob, until its file is renamed; the
              exclusive-or 1, 2, 3         last bits changed: who does so because that one is stuck
3     object  56 bits of the digest   X    committer, rename to COMMIT; sweeper, check to unlink
4     writer  0                       X    each write transaction and checkpoint
5     lease   the lease's id          X    the owner of an operation, for all of it; only tested
6     layout  0                       X    who rewrites index.json
7     contai- 56 bits of its id       X    who makes, changes, reads or removes a working container
      ner
===== ======= ======================= ==== ====================================================

Taken in the order 0 < 7 < 1 < 2 < 3 < 4.  They are *open file description* locks (Linux 3.15): each
held lock has a descriptor of its own, so threads exclude each other as processes do, a dead owner
frees its locks at once, and liveness never depends on a clock or a process number.  Two digests
with equal first 56 bits merely wait for each other.

Source: fcntl_locking(2), "Open file description locks (non-POSIX)".
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import struct
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kstore.blobs import storage_errors
from kstore.digest import Digest
from kstore.errors import StorageError

if TYPE_CHECKING:
    from kstore.streams import Cancel

__all__ = ["HeldLock", "LockClass", "LockFile", "digest_key"]

_FLOCK = struct.Struct("hhqqi4x")  # type, whence, start, length, pid (0 for these locks)
_F_OFD_GETLK, _F_OFD_SETLK = 36, 37
_KEY_BITS = 56
_FIRST_NAP, _LONGEST_NAP = 0.0005, 0.02  # seconds


class LockClass(enum.IntEnum):
    """What is locked; see the table above."""

    STORE = 0
    GC = 1
    INGEST = 2
    OBJECT = 3
    WRITER = 4
    LEASE = 5
    LAYOUT = 6
    CONTAINER = 7


def digest_key(digest: Digest) -> int:
    """The key of a digest's ingest and object locks: its first 56 bits."""
    return int(digest.hex[: _KEY_BITS // 4], 16)


class HeldLock:
    """A lock that is held until :meth:`release`, or until the process ends.

    ``descriptor`` is the open file that carries it; None makes an empty promise, for a store that
    nobody can change.
    """

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock up; again is harmless."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class LockFile:
    """Locks in the file at ``path``, which is made when absent and never removed.

    With ``read_only`` the file is not made, and only shared locks can be had.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._flags = os.O_CLOEXEC | os.O_NOFOLLOW
        self._flags |= os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT

    def try_lock(self, kind: LockClass, key: int = 0, *, shared: bool = False) -> HeldLock | None:
        """Take the lock if nobody holds it, else return None."""
        with storage_errors(f"take a {kind.name.lower()} lock"):
            while True:
                descriptor = os.open(self.path, self._flags, 0o600)
                try:
                    taken = _set(descriptor, kind, key, shared)
                    current = taken and self._is_current(descriptor)
                except BaseException:
                    os.close(descriptor)
                    raise
                if current:
                    return HeldLock(descriptor)
                os.close(descriptor)
                if not taken:
                    return None

    def lock(
        self,
        kind: LockClass,
        key: int = 0,
        *,
        shared: bool = False,
        wait_seconds: float,
        what: str,
        cancel: Cancel | None = None,
    ) -> HeldLock:
        """Take the lock, waiting ``wait_seconds`` at most.

        Raises StorageError saying that ``what`` is busy; CancelledError.
        """
        deadline = time.monotonic() + wait_seconds
        nap = _FIRST_NAP
        while True:
            held = self.try_lock(kind, key, shared=shared)
            if held is not None:
                return held
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{what} has been in use by another kstore for {wait_seconds:g} s",
                    hint="try again when it is done",
                )
            if cancel is None:
                time.sleep(nap)
            else:
                cancel.wait(nap)
            nap = min(nap * 2, _LONGEST_NAP)

    def is_held(self, kind: LockClass, key: int = 0) -> bool:
        """Whether anybody, this process included, holds the lock exclusively."""
        with storage_errors(f"look at a {kind.name.lower()} lock"):
            descriptor = os.open(self.path, self._flags, 0o600)
            try:
                ask = _pack(fcntl.F_RDLCK, kind, key)
                answer = fcntl.fcntl(descriptor, _F_OFD_GETLK, ask)
            finally:
                os.close(descriptor)
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)

    def _is_current(self, descriptor: int) -> bool:
        """Whether the locked file is still the one others will open (a user may delete it)."""
        try:
            named = self.path.lstat()
        except FileNotFoundError:
            return False
        held = os.fstat(descriptor)
        return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _pack(mode: int, kind: LockClass, key: int) -> bytes:
    return _FLOCK.pack(mode, os.SEEK_SET, (kind << _KEY_BITS) | key, 1, 0)


def _set(descriptor: int, kind: LockClass, key: int, shared: bool) -> bool:
    mode = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(descriptor, _F_OFD_SETLK, _pack(mode, kind, key))
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True
