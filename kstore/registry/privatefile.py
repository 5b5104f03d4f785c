"""A small file of one user's: changed by one process at a time, replaced at once, mode 0600."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from kstore.errors import ConflictError, StorageError

__all__ = ["changing", "replace_private"]

_PATIENCE = 10.0  # seconds
_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS})


@contextlib.contextmanager
def changing(file: Path, what: str) -> Iterator[Path]:
    """Keep others from changing ``file`` (``what`` in errors); gives the file behind a symlink.

    The lock is on the directory, which is made if need be, so that no lock file is left behind.
    Raises ConflictError if another process holds it for long, StorageError.
    """
    target = file.resolve()
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _unwritable(what, exc) from exc
    try:
        _lock(descriptor, what)
        yield target
    finally:
        os.close(descriptor)


def _lock(descriptor: int, what: str) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise ConflictError(f"{what} is being changed by another process") from None
            time.sleep(0.01)
        except OSError as exc:
            if exc.errno not in _NO_LOCKS:
                raise _unwritable(what, exc) from exc
            return  # NFS locks no directories; the replacement is still all or nothing


def replace_private(target: Path, text: str, what: str) -> None:
    """Replace ``target`` at once; readable by its owner only, from its first byte on."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as exc:
        raise _unwritable(what, exc) from exc


def _unwritable(what: str, exc: OSError) -> StorageError:
    return StorageError(f"{what} cannot be written: {exc.strerror}")
