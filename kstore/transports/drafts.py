"""Directories that take shape beside their place.

A draft of ``DIR`` stands beside it as ``.DIR.<16 hex digits>``, locked (flock) by its writer.  What
a writer that was killed left behind has no lock, so that the next writer of ``DIR`` can tell.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["abandoned_drafts", "make_draft", "name_beside"]

#: From file systems that cannot lock a directory; NFS wants a file open for writing (EBADF).
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
_TRIES = 20


def make_draft(target: Path) -> tuple[Path, int | None]:
    """A new directory beside ``target`` and its lock, None where nothing can be locked.  OSError.

    The lock is a descriptor, which its owner closes when the draft has got its place, or is gone.
    """
    for _ in range(_TRIES):  # who sweeps up may remove it in the moment before it is locked
        path = name_beside(target)
        path.mkdir()
        try:
            lock = _try_lock(path)
        except OSError as exc:
            if exc.errno in _NO_LOCKS:
                return path, None
            path.rmdir()
            raise
        if lock is not None:
            return path, lock
    raise OSError(errno.EBUSY, "what is made there is removed again and again", str(target.parent))


def abandoned_drafts(target: Path) -> Iterator[Path]:
    """Drafts of ``target`` without a writer, each locked until the next is asked for.  OSError."""
    for path in _drafts(target):
        try:
            lock = _try_lock(path)
        except OSError:
            continue  # it cannot be told from a draft at work: another user's, or not lockable
        if lock is None:
            continue
        try:
            yield path
        finally:
            os.close(lock)


def name_beside(target: Path) -> Path:
    """A new name for what belongs to ``target``, in its directory."""
    return target.with_name(f"{_prefix(target)}{secrets.token_hex(8)}")


def _try_lock(path: Path) -> int | None:
    """Lock a directory; its descriptor, None if somebody has it, or it is gone.  OSError."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.lstat()):
            return lock
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _drafts(target: Path) -> list[Path]:
    name = re.compile(rf"{re.escape(_prefix(target))}[0-9a-f]{{16}}\Z")
    with os.scandir(target.parent) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if name.match(entry.name) and entry.is_dir(follow_symlinks=False)
        ]


def _prefix(target: Path) -> str:
    return f".{target.name[:200]}."
