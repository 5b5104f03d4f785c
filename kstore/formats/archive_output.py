"""Where an archive is written to: a new file, a pipe, standard output.

A file appears under its name when it is complete and durable, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from kstore.blobs import fsync_directory
from kstore.errors import ConflictError, InvalidInputError
from kstore.formats.spool import file_errors

__all__ = ["ArchiveOutput"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER = 256 * 1024


class ArchiveOutput:
    """Takes the bytes of an archive from its first to its last::

        with ArchiveOutput(Path("image.tar")) as output:
            output.write(data)
            output.commit()

    Leaving without :meth:`commit` removes the unfinished file.  Pipes, character devices and
    streams get the bytes as they come; a stream stays open.
    """

    def __init__(self, target: Path | BinaryIO, *, what: str | None = None) -> None:
        """Begin writing; ``what`` names the target in messages.

        Raises ConflictError if there is a file already (an empty one is replaced),
        InvalidInputError for a directory or a terminal, NotFoundError if the directory is missing,
        StorageError.
        """
        self._temporary: Path | None = None
        self._target: Path | None = None
        self._file: BinaryIO | None = None
        self._owned = True
        if isinstance(target, Path):
            self.what = what or f"archive {target}"
            with file_errors(f"write {self.what}"):
                self._open_path(target)
        else:
            self.what = what or "standard output"
            _refuse_terminal(target, self.what)
            self._file, self._owned = target, False

    def _open_path(self, target: Path) -> None:
        try:
            facts = target.stat()
        except FileNotFoundError:
            facts = None
        if facts is None or stat.S_ISREG(facts.st_mode):
            self._refuse_content(facts)
            self._open_temporary(target, facts)
        elif stat.S_ISDIR(facts.st_mode):
            raise InvalidInputError(f"cannot write {self.what}: it is a directory")
        else:
            self._file = target.open("wb", buffering=0)
            try:
                _refuse_terminal(self._file, self.what)
            except InvalidInputError:
                self._file.close()
                raise

    def _refuse_content(self, facts: os.stat_result | None) -> None:
        if facts is not None and facts.st_size > 0:
            raise ConflictError(
                f"{self.what} exists already, and an image cannot be added to it",
                hint="choose another name, or remove the file first",
            )

    def _open_temporary(self, target: Path, facts: os.stat_result | None) -> None:
        self._target = Path(os.path.realpath(target))  # a link to a file keeps being one
        temporary = self._target.with_name(f".kstore-{secrets.token_hex(8)}.tmp")
        try:
            descriptor = os.open(temporary, _CREATE, 0o666)  # Ctrl-C may come when it is just made
            self._temporary = temporary
            self._file = os.fdopen(descriptor, "wb", buffering=_BUFFER)
            if facts is not None:
                os.fchmod(descriptor, stat.S_IMODE(facts.st_mode))
        except BaseException:
            with contextlib.suppress(OSError):
                self._close_file()
                temporary.unlink()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append all of ``data``.  Raises StorageFullError, StorageError."""
        assert self._file is not None, "the archive is finished"
        view = memoryview(data)
        with file_errors(f"write {self.what}", "free some space, or write to another place"):
            while view:
                view = view[self._file.write(view) or 0 :]

    def commit(self) -> None:
        """Make the archive durable and visible.

        Raises ConflictError if somebody else made a file of that name meanwhile.
        """
        assert self._file is not None, "the archive is finished"
        with file_errors(f"write {self.what}", "free some space, or write to another place"):
            self._file.flush()
            if self._temporary is None or self._target is None:
                self._close_file()
                return
            os.fsync(self._file.fileno())
            self._close_file()
            self._refuse_content(self._target.stat() if self._target.exists() else None)
            self._temporary.replace(self._target)
            self._temporary = None
            fsync_directory(self._target.parent)

    def close(self) -> None:
        """End; without :meth:`commit` before, nothing stays."""
        with contextlib.suppress(OSError):  # what could not be flushed is thrown away anyway
            self._close_file()
        if self._temporary is not None:
            temporary, self._temporary = self._temporary, None
            with file_errors(f"remove {temporary}"):
                temporary.unlink(missing_ok=True)

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None and self._owned:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _refuse_terminal(stream: BinaryIO, what: str) -> None:
    if stream.isatty():
        raise InvalidInputError(
            f"{what} is a terminal, which an archive would only clutter",
            hint="write to a file, or into a pipe",
        )
