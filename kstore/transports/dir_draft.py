"""How a new ``dir:`` image takes shape beside its directory, and then takes the directory's place.

What a writer that was killed left behind, the next writer of the directory removes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from pathlib import Path

from kstore.blobs import fsync_directory, storage_errors
from kstore.errors import NotFoundError, StorageError
from kstore.formats.drafts import abandoned_drafts, make_draft, name_beside
from kstore.transports.dir_files import (
    VERSION_FILE,
    holds_only_own_files,
    remove_image,
    require_image_or_empty,
)

__all__ = ["DirectoryDraft", "take_away"]

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL}


class DirectoryDraft:
    """A new image that takes shape beside the directory ``target``, and then becomes it.

    The old image is removed when the new one is complete; before that nothing of it changes.
    """

    def __init__(self, target: Path) -> None:
        """Nothing is made yet.

        Raises ConflictError for a directory that holds anything else than such an image,
        InvalidInputError, NotFoundError, StorageError.
        """
        self.target = Path(os.path.realpath(target))
        self._check_target()
        self._path: Path | None = None
        self._lock: int | None = None

    def _check_target(self) -> None:
        with storage_errors(f"look at {self.target}"):
            self._check_place()
            with contextlib.suppress(FileNotFoundError):
                self.target.lstat()
                require_image_or_empty(self.target)

    def _check_place(self) -> None:
        parent = self.target.parent
        if not parent.is_dir():
            raise NotFoundError(f"cannot make {self.target}: there is no directory {parent}")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise StorageError(f"cannot write {self.target}: no permission to change {parent}")

    def path(self) -> Path:
        """Where the new image's files go; made at the first call."""
        if self._path is None:
            with storage_errors(f"write {self.target}"):
                _sweep(self.target)
                path, self._lock = make_draft(self.target)
                self._path = path
                if self.target.exists():  # whoever may read the old one may read the new one
                    path.chmod(stat.S_IMODE(self.target.stat().st_mode))
        return self._path

    def commit(self) -> None:
        """Put the draft in the target's place, durably; its files are synced already."""
        draft = self.path()
        with storage_errors(f"write {self.target}"):
            fsync_directory(draft)
            self._check_target()
            old = _replace(self.target, draft)
            self._path = None
            fsync_directory(self.target.parent)
            if old is not None:
                remove_image(old)
        self._unlock()

    def close(self) -> None:
        """Remove a draft that was not committed."""
        path, self._path = self._path, None
        try:
            if path is not None:
                with storage_errors(f"remove {path}"):
                    remove_image(path)
        finally:
            self._unlock()

    def _unlock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def take_away(target: Path) -> None:
    """Remove an image: in one step from under its name, then for good.  OSError."""
    aside = name_beside(target)
    target.rename(aside)
    fsync_directory(target.parent)
    remove_image(aside)


def _sweep(target: Path) -> None:
    """Remove what writers of ``target`` that died have left beside it."""
    for path in abandoned_drafts(target):
        if _is_waste(path, target):
            with contextlib.suppress(PermissionError):
                remove_image(path)


def _is_waste(path: Path, target: Path) -> bool:
    """Whether nobody needs what is in a draft without a writer.

    While there is no ``target``, a complete image may be the one that stood there: a crash between
    two renames left it aside.
    """
    with contextlib.suppress(PermissionError):
        complete = (path / VERSION_FILE).exists()
        return holds_only_own_files(path) and (target.exists() or not complete)
    return False


def _replace(target: Path, draft: Path) -> Path | None:
    """Give ``draft`` the name ``target``; where the old directory is now, if it held anything."""
    try:
        draft.rename(target)  # an empty directory makes room by itself
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return None
    try:
        _exchange(draft, target)
    except OSError as exc:
        if exc.errno not in _NO_EXCHANGE:
            raise
    else:
        return draft
    return _replace_in_two_steps(target, draft)


def _exchange(one: Path, other: Path) -> None:
    """Swap two names atomically.  Source: rename(2), RENAME_EXCHANGE (Linux 3.15)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    here = ctypes.c_int(_AT_FDCWD)
    names = (os.fsencode(one), os.fsencode(other))
    if rename(here, names[0], here, names[1], ctypes.c_uint(_RENAME_EXCHANGE)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))


def _replace_in_two_steps(target: Path, draft: Path) -> Path:
    """For file systems that cannot exchange: for a moment there is no ``target``."""
    aside = name_beside(target)
    target.rename(aside)
    try:
        draft.rename(target)
    except OSError:
        aside.rename(target)
        raise
    return aside
