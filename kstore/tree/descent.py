"""Walking a directory tree by descriptors, so that no link in it can lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kstore.errors import InvalidInputError
from kstore.formats.layer_tar import TarLimits
from kstore.formats.spool import file_errors
from kstore.streams import Closing
from kstore.values import dataclass

__all__ = ["MAX_DEPTH", "MAX_ENTRIES", "Child", "Descent"]

#: Most files, directories and links of one tree: an extended header may come with each of them.
MAX_ENTRIES: Final = TarLimits().max_entries // 2
#: Most directories inside each other; a layer with more is refused when it is read again.
MAX_DEPTH: Final = 400

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Child:
    """Something in a directory, as ``lstat`` saw it."""

    name: str
    info: os.stat_result


class Descent(Closing):
    """The tree below ``path``; names in it are relative, with ``/`` between their parts, and "" is
    the top.

    Errors name the place: NotFoundError, StorageError (also for a link where a directory was),
    InvalidInputError for a tree of more than MAX_ENTRIES entries or MAX_DEPTH levels.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._shown = str(path)
        with file_errors(f"read {path}"):
            self._top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            #: When the top was modified, in seconds since 1970.
            self.mtime = int(os.fstat(self._top).st_mtime)
        self._name, self._current = "", self._top
        self._entries = 0

    def place(self, name: str) -> str:
        """Where something stands, for messages."""
        return f"{self._shown}/{name}" if name else self._shown  # a Path is slow for every file

    def directory(self, name: str) -> int:
        """The descriptor of a directory, open until the next call."""
        if name != self._name:
            if name.count("/") >= MAX_DEPTH:
                raise InvalidInputError(f"{self.path} is deeper than {MAX_DEPTH} directories")
            start, below = self._top, name
            if self._name and name.startswith(f"{self._name}/"):
                start, below = self._current, name[len(self._name) + 1 :]
            with file_errors(f"read {self.place(name)}"):
                found = _open_below(start, below.split("/") if below else ())
            self._leave()
            self._name, self._current = name, found
        return self._current

    def children(self, name: str) -> list[Child]:
        """What is in a directory, sorted by the bytes of the names."""
        found: list[Child] = []
        descriptor = self.directory(name)
        with file_errors(f"read {self.place(name)}"), os.scandir(descriptor) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > MAX_ENTRIES:
                    raise InvalidInputError(f"{self.path} has more than {MAX_ENTRIES} entries")
                found.append(Child(entry.name, entry.stat(follow_symlinks=False)))
        found.sort(key=lambda child: os.fsencode(child.name))
        return found

    def parent_of(self, name: str) -> tuple[int, str]:
        """The descriptor of the directory that ``name`` is in, and its last part."""
        above, _, last = name.rpartition("/")
        return self.directory(above), last

    def open_file(self, name: str) -> int:
        """A descriptor of what is no directory, for reading; links are not followed, and nothing
        is waited for."""
        parent, last = self.parent_of(name)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with file_errors(f"read {self.place(name)}"):
            return os.open(last, flags, dir_fd=parent)

    def read_link(self, name: str) -> str:
        """The target of a symbolic link."""
        parent, last = self.parent_of(name)
        with file_errors(f"read {self.place(name)}"):
            return os.readlink(last, dir_fd=parent)

    def close(self) -> None:
        self._leave()
        if self._top >= 0:
            os.close(self._top)
        self._top = self._current = -1

    def _leave(self) -> None:
        if self._current != self._top:
            os.close(self._current)
        self._name, self._current = "", self._top


def _open_below(start: int, parts: Iterable[str]) -> int:
    """A new descriptor of the directory ``parts`` below ``start``.  Raises OSError."""
    step = os.dup(start)
    try:
        for part in parts:
            below = os.open(part, _DIRECTORY, dir_fd=step)
            os.close(step)
            step = below
    except BaseException:
        os.close(step)
        raise
    return step
