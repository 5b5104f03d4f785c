"""The files of a ``dir:`` image, and how one directory of them takes the place of another."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import stat
from pathlib import Path

from kstore.blobs import fsync_directory, storage_errors
from kstore.digest import Digest
from kstore.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from kstore.transports.base import read_small_file

__all__ = ["MANIFEST_FILE", "VERSION_FILE", "DirectoryDraft", "check_version", "file_name"]

MANIFEST_FILE = "manifest.json"
VERSION_FILE = "version"
_VERSION = re.compile(rb"Directory Transport Version: (\d{1,4})\.(\d{1,4})\n?\Z")
_NEWEST = (1, 2)
_MAX_VERSION = 100

_DIGEST = r"(?:[a-z0-9]+-)?[0-9a-f]{64,128}"
_OWN = re.compile(
    rf"(?:version|manifest\.json|{_DIGEST}(?:\.manifest\.json)?|(?:{_DIGEST}\.)?signature-\d+)\Z",
    re.ASCII,
)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_NO_EXCHANGE = {errno.ENOSYS, errno.EINVAL}


def file_name(digest: Digest) -> str:
    """The name of a blob's file, and the start of the names of what belongs to a member."""
    return digest.hex if digest.algorithm == "sha256" else f"{digest.algorithm}-{digest.hex}"


def check_version(path: Path) -> bool:
    """Whether the directory says that it is a ``dir:`` image.

    Raises UnsupportedError for a newer version than 1.2, IntegrityError for another text.
    """
    data = read_small_file(path / VERSION_FILE, _MAX_VERSION, f"file {VERSION_FILE!r} of {path}")
    if data is None:
        return False
    match = _VERSION.match(data)
    if match is None:
        raise IntegrityError(f"file {VERSION_FILE!r} of {path} is not that of a dir: image")
    if (int(match.group(1)), int(match.group(2))) > _NEWEST:
        raise UnsupportedError(f"{path} is a dir: image of a newer version than 1.2")
    return True


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
            path = _sibling(self.target)
            with storage_errors(f"write {self.target}"):
                path.mkdir()
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

    def close(self) -> None:
        """Remove a draft that was not committed."""
        path, self._path = self._path, None
        if path is not None:
            with storage_errors(f"remove {path}"):
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()


def require_image_or_empty(path: Path) -> None:
    """Refuse a directory that holds anything but a ``dir:`` image.

    Raises ConflictError, InvalidInputError for a file.
    """
    with storage_errors(f"look at {path}"):
        if not path.is_dir():
            raise InvalidInputError(f"{path} is a file, not a directory")
        names = sorted(entry.name for entry in path.iterdir())
    strange = [name for name in names if _OWN.match(name) is None]
    if names and (strange or not check_version(path)):
        cause = f"it holds {strange[0]!r:.100}" if strange else f"it has no file {VERSION_FILE!r}"
        raise ConflictError(
            f"{path} is not empty and not a dir: image: {cause}",
            hint="choose a new or an empty directory",
        )


def remove_image(path: Path) -> None:
    """Remove the directory of a ``dir:`` image, but no file that is not its own.  OSError."""
    for file in path.iterdir():
        if _OWN.match(file.name):
            file.unlink()
    path.rmdir()


def take_away(target: Path) -> None:
    """Remove an image: in one step from under its name, then for good.  OSError."""
    aside = _sibling(target)
    target.rename(aside)
    fsync_directory(target.parent)
    remove_image(aside)


def _sibling(target: Path) -> Path:
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}")


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
    aside = _sibling(target)
    target.rename(aside)
    try:
        draft.rename(target)
    except OSError:
        aside.rename(target)
        raise
    return aside
