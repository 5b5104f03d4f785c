"""Where the tar of a new layer comes from."""

from __future__ import annotations

import datetime as dt
import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, BinaryIO

from kstore.errors import InvalidInputError, NotFoundError, StorageError
from kstore.formats.spool import file_errors
from kstore.streams import Closing

__all__ = ["FileInput", "LayerInput", "StdinInput", "now"]


class LayerInput(Closing):
    """The bytes of a tar, perhaps compressed.

    ``name`` is what messages call it, ``origin`` what the image's history does.
    """

    def __init__(self, name: str, origin: str | None = None) -> None:
        self.name = name
        self.origin = name if origin is None else origin

    @abstractmethod
    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer``; return the number of bytes, 0 at the end."""

    @property
    @abstractmethod
    def created(self) -> dt.datetime:
        """When the contents were made; known for sure at the end only."""


class FileInput(LayerInput):
    """A tar file.  NotFoundError if there is none, InvalidInputError, StorageError."""

    def __init__(self, path: str) -> None:
        if not path:
            raise InvalidInputError("the name of the file is empty")
        # What is no UTF-8 in a file's name is replaced in texts that are kept.
        super().__init__(path, os.fsencode(Path(path).name).decode(errors="replace"))
        try:
            self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 - closed by close
            modified = int(os.fstat(self._file.fileno()).st_mtime)
        except FileNotFoundError as exc:
            raise NotFoundError(f"there is no file {path}") from exc
        except OSError as exc:
            raise StorageError(f"cannot read {path}: {exc.strerror}") from exc
        self._modified = dt.datetime.fromtimestamp(modified, dt.UTC)

    @property
    def created(self) -> dt.datetime:
        return self._modified

    def readinto(self, buffer: memoryview, /) -> int:
        with file_errors(f"read {self.name}"):
            return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()


class StdinInput(LayerInput):
    """A stream somebody else opened, and closes."""

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__("standard input")
        self._stream: Any = stream
        self._begun = now()

    @property
    def created(self) -> dt.datetime:
        return self._begun

    def readinto(self, buffer: memoryview, /) -> int:
        with file_errors(f"read {self.name}"):
            count: int = self._stream.readinto(buffer) or 0
        return count

    def close(self) -> None:
        """The opener closes the stream."""


def now() -> dt.datetime:
    """This moment, in whole seconds."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)
