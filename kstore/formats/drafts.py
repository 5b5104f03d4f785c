"""Files and directories that take shape beside their place.

A draft of ``NAME`` stands beside it as ``.NAME.<16 hex digits>``, locked (flock) by its writer.
What a writer that was killed left behind has no lock, so that the next writer of ``NAME`` can tell.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = [
    "abandoned_drafts",
    "lock_unnamed",
    "make_draft",
    "make_draft_file",
    "name_beside",
    "sweep_files",
]

#: From file systems that cannot lock; NFS wants a file open for writing (EBADF).
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF}
_TRIES = 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# For writing, because NFS locks nothing else; a pipe of that name must not hold anybody up.
_FILE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
    raise _busy(target)


def make_draft_file(target: Path) -> tuple[Path, int]:
    """A new file beside ``target`` and its descriptor, which is its lock as well.  OSError."""
    for _ in range(_TRIES):
        path = name_beside(target)
        descriptor = os.open(path, _FILE | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            if not lock_unnamed(descriptor) or _is_at(descriptor, path):
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)
    raise _busy(target)


def lock_unnamed(descriptor: int) -> bool:
    """Lock a file that only those who sweep up could have locked; whether it can be.  OSError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as exc:
        if exc.errno not in _NO_LOCKS:
            raise
        return False
    return True


def sweep_files(target: Path) -> None:
    """Remove files that writers of ``target`` began and did not live to finish.  OSError."""
    with contextlib.suppress(PermissionError):  # one may write there, but not look around
        for path in abandoned_drafts(target, _FILE):
            path.unlink(missing_ok=True)


def abandoned_drafts(target: Path, how: int = _DIRECTORY) -> Iterator[Path]:
    """Drafts of ``target`` without a writer, each locked until the next is asked for.  OSError.

    ``how`` they are opened to be locked, which says whether they are directories or files.
    """
    for path in _drafts(target, directories=how == _DIRECTORY):
        try:
            lock = _try_lock(path, how)
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


def _try_lock(path: Path, how: int = _DIRECTORY) -> int | None:
    """Lock a draft; its descriptor, None if somebody has it, or it is gone.  OSError."""
    try:
        lock = os.open(path, how)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, path):
            return lock
    except BlockingIOError:
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file still is the one called ``path``.  OSError."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _busy(target: Path) -> OSError:
    return OSError(errno.EBUSY, "what is made there is removed again and again", str(target.parent))


def _drafts(target: Path, *, directories: bool) -> list[Path]:
    name = re.compile(rf"{re.escape(_prefix(target))}[0-9a-f]{{16}}\Z")
    with os.scandir(target.parent) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if name.match(entry.name) and _is_kind(entry, directories=directories)
        ]


def _is_kind(entry: os.DirEntry[str], *, directories: bool) -> bool:
    kind = entry.is_dir if directories else entry.is_file
    return kind(follow_symlinks=False)


def _prefix(target: Path) -> str:
    return f".{target.name[:200]}."
