"""Where an archive is written to: a new file, a pipe, standard output.

A file appears under its name when it is complete and durable, or not at all.  Until then it has no
name, so that even a killed writer leaves nothing (open(2), O_TMPFILE); where the file system knows
no such files, it is a draft (see ``formats.drafts``), which the next writer of the file removes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from kstore.blobs import fsync_directory
from kstore.errors import ConflictError, InvalidInputError
from kstore.formats.drafts import lock_unnamed, make_draft_file, name_beside, sweep_files
from kstore.formats.spool import file_errors
from kstore.streams import Closing

__all__ = ["ArchiveOutput"]

_NAMELESS = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
_NO_NAMELESS = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS}
_OPEN_FILES = Path("/proc/self/fd")
_BUFFER = 256 * 1024


class ArchiveOutput(Closing):
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
        sweep_files(self._target)
        descriptor = _open_nameless(self._target.parent)
        if descriptor is None:
            self._temporary, descriptor = make_draft_file(self._target)
        try:
            self._file = os.fdopen(descriptor, "wb", buffering=_BUFFER)
            if facts is not None:
                os.fchmod(descriptor, stat.S_IMODE(facts.st_mode))
        except BaseException:
            self.close()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append all of ``data``.  Raises StorageFullError, StorageError."""
        assert self._file is not None, "the archive is finished"
        view = memoryview(data)
        with file_errors(f"write {self.what}", "free some space, or write to another place"):
            while view:
                view = view[self._file.write(view) or 0 :]

    def cut(self, position: int) -> bool:
        """Take back all but the first ``position`` bytes; False if they are gone, down a pipe.

        Raises StorageError.
        """
        if self._target is None:
            return False
        assert self._file is not None, "the archive is finished"
        with file_errors(f"write {self.what}"):
            self._file.seek(position)
            self._file.truncate()
        return True

    def commit(self) -> None:
        """Make the archive durable and visible.

        Raises ConflictError if somebody else made a file of that name meanwhile.
        """
        assert self._file is not None, "the archive is finished"
        with file_errors(f"write {self.what}", "free some space, or write to another place"):
            self._file.flush()
            if self._target is None:
                self._close_file()
                return
            os.fsync(self._file.fileno())
            if self._temporary is None:
                lock_unnamed(self._file.fileno())
                self._temporary = name_beside(self._target)  # known first: Ctrl-C may come any time
                _give_name(self._file.fileno(), self._temporary)
            self._refuse_content(self._target.stat() if self._target.exists() else None)
            self._temporary.replace(self._target)
            self._temporary = None
            self._close_file()  # and with it the lock
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


def _open_nameless(directory: Path) -> int | None:
    """A new file without a name; None where there are no such files.  OSError."""
    if not _OPEN_FILES.is_dir():
        return None  # it could never be given a name
    try:
        return os.open(directory, _NAMELESS, 0o666)
    except OSError as exc:
        if exc.errno in _NO_NAMELESS:
            return None
        raise


def _give_name(descriptor: int, path: Path) -> None:
    """Link a file without a name to ``path``, which must not exist.  OSError."""
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Only with a directory given does Python follow the link, as linkat(2) can.
        os.link(_OPEN_FILES / str(descriptor), path.name, dst_dir_fd=directory)
    finally:
        os.close(directory)


def _refuse_terminal(stream: BinaryIO, what: str) -> None:
    if stream.isatty():
        raise InvalidInputError(
            f"{what} is a terminal, which an archive would only clutter",
            hint="write to a file, or into a pipe",
        )
