"""The files of a ``dir:`` image: what they are called, and which are no image's."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from kstore.blobs import storage_errors
from kstore.digest import Digest
from kstore.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    UnsupportedError,
)
from kstore.transports.base import read_small_file

__all__ = [
    "MANIFEST_FILE",
    "VERSION_FILE",
    "check_version",
    "file_name",
    "holds_only_own_files",
    "remove_image",
    "require_image_or_empty",
]

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
    """Remove the directory of a ``dir:`` image, but no file that is not its own.  OSError.

    The version goes first: what is left by a crash is no image any more.  Somebody who sweeps up
    may be doing the same.
    """
    with contextlib.suppress(FileNotFoundError):
        for name in (VERSION_FILE, *os.listdir(path)):  # noqa: PTH208 - names, not paths
            if _OWN.match(name):
                (path / name).unlink(missing_ok=True)
        path.rmdir()


def holds_only_own_files(path: Path) -> bool:
    """Whether every name in a directory may be that of a file of an image.  OSError."""
    return all(_OWN.match(name) for name in os.listdir(path))  # noqa: PTH208
