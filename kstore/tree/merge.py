"""Moving a gathered tree into a writable layer."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kstore.blobs import storage_errors
from kstore.errors import ConflictError
from kstore.tree.whiteouts import OPAQUE, WHITEOUT

__all__ = ["merge"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def merge(staging: Path, upper: Path) -> None:
    """Move everything in ``staging`` to the same paths in ``upper``, by renames.

    Files take the place of files; directories that are there stay as they are, and take in what
    is new.  What comes back under a name that was removed hides what the layers below have there.
    Raises ConflictError where a file would replace a directory, or the reverse; StorageError.
    """
    with (
        storage_errors(f"move files into {upper}"),
        _opened(staging) as source,
        _opened(upper) as target,
    ):
        _merge(source, target, upper)


def _merge(source: int, target: int, place: Path) -> None:
    for name in sorted(os.listdir(source)):
        new = os.stat(name, dir_fd=source, follow_symlinks=False)
        is_directory = stat.S_ISDIR(new.st_mode)
        there = _facts(target, name)
        if there is not None and _is_overlay_removal(there):
            os.unlink(name, dir_fd=target)
            there, removed = None, True
        else:
            removed = _facts(target, WHITEOUT + name) is not None
        if there is not None and stat.S_ISDIR(there.st_mode) != is_directory:
            raise ConflictError(f"{place / name} stands where something of another kind would go")
        if there is not None and is_directory:
            _merge_directory(source, target, name, there, place / name)
            continue
        if removed and is_directory:
            _hide_below(source, name)
        os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        if removed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(WHITEOUT + name, dir_fd=target)


def _merge_directory(
    source: int, target: int, name: str, there: os.stat_result, place: Path
) -> None:
    with _opened(name, source) as inner, _opened(name, target) as into:
        _merge(inner, into, place)
        os.utime(into, ns=(there.st_atime_ns, there.st_mtime_ns))


def _hide_below(source: int, name: str) -> None:
    with _opened(name, source) as directory:
        before = os.fstat(directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(OPAQUE, flags, 0o600, dir_fd=directory))
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def _opened(path: str | Path, parent: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, _DIRECTORY, dir_fd=parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _facts(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _is_overlay_removal(info: os.stat_result) -> bool:
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0
