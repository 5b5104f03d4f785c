"""A directory of blobs, ``ROOT/blobs/<algorithm>/<hex>``, written all or nothing.

Source: OCI image layout specification 1.1, section "Blobs".  A name in this directory is only ever
made by a rename of a finished, synced file; nothing is written in place.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kstore.digest import ALGORITHMS, Digest
from kstore.errors import (
    BlobNotFoundError,
    InvalidDigestError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StoreDamagedError,
)

__all__ = [
    "BlobDirectory",
    "fsync_directory",
    "new_file",
    "open_plain_file",
    "read_file",
    "remove_leftovers",
    "replace_file",
    "storage_errors",
    "write_all",
]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: Mode of a finished blob: nobody has a reason to write to it.
BLOB_MODE = 0o444


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Translate OSError raised inside into StorageError; ``what`` says what was being done.

    A full disk or quota becomes StorageFullError.
    """
    try:
        yield
    except OSError as exc:
        raise _translated(exc, what) from exc


def _translated(exc: OSError, what: str) -> StorageError:
    said = f" {exc.filename} " in f" {what} "
    place = f" ({exc.filename})" if exc.filename and not said else ""
    cause = exc.strerror or type(exc).__name__
    if exc.errno in _FULL:
        return StorageFullError(
            f"cannot {what}{place}: {cause}", hint="free some space, then run: kstore prune"
        )
    if exc.errno in _FORBIDDEN:
        return StorageError(
            f"cannot {what}{place}: {cause}", hint="choose another directory with --root"
        )
    return StorageError(f"cannot {what}{place}: {cause}")


def fsync_directory(path: Path) -> None:
    """Make the names in ``path`` durable; OSError where that fails."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Replace ``path`` by ``data`` atomically: readers see the old bytes or the new ones.

    With ``durable`` the new bytes survive a power cut.  Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        write_new_file(temporary, data, mode=mode, durable=durable)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        fsync_directory(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what calls of :func:`replace_file` for ``path`` that were killed have left; none may
    be running.  Raises OSError."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        leftover.unlink(missing_ok=True)


def read_file(path: Path, cap: int, what: str) -> bytes:
    """The content of a file that a user named, called ``what`` in messages.

    Raises NotFoundError if there is none, InvalidInputError for a directory or more than ``cap``
    bytes, StorageError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(cap + 1)
    except FileNotFoundError as exc:
        raise NotFoundError(f"{what} does not exist") from exc
    except (IsADirectoryError, ValueError) as exc:  # ValueError: a name with a null byte
        raise InvalidInputError(f"{what} is not a file") from exc
    except OSError as exc:
        raise StorageError(f"cannot read {what}: {exc.strerror}") from exc
    if len(data) > cap:
        raise InvalidInputError(f"{what} has more than {cap} bytes")
    return data


def open_plain_file(path: Path) -> io.FileIO:
    """Open a file for reading, without a buffer.

    Raises OSError; with ELOOP for a link and anything else that is not a plain file.
    """
    descriptor = os.open(path, _READ)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ELOOP, "not a plain file", str(path))
    return io.FileIO(path, "rb", opener=lambda *_: descriptor)


@contextlib.contextmanager
def new_file(path: Path, *, mode: int, durable: bool = True) -> Iterator[BinaryIO]:
    """Create ``path``, which must not exist, and give it for writing, without a buffer.

    At the end it gets its ``mode`` and, with ``durable``, is synced; after an exception it is
    removed.  Raises OSError.
    """
    try:
        descriptor = os.open(path, _CREATE, 0o600)
    except KeyboardInterrupt:  # as soon as the file was there
        path.unlink(missing_ok=True)
        raise
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            yield file
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def write_new_file(path: Path, data: bytes, *, mode: int, durable: bool = True) -> None:
    """Create ``path``, which must not exist, holding ``data``; nothing stays on OSError."""
    with new_file(path, mode=mode, durable=durable) as file:
        write_all(file, data)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write every byte to a file without a buffer, which may take fewer at once."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


class BlobDirectory:
    """The blobs under ``root``; ``temporary`` is where unfinished files may stand.

    ``temporary`` must be on the same file system and defaults to ``root/blobs`` itself.
    """

    def __init__(self, root: Path, temporary: Path | None = None) -> None:
        self.root = root
        self.temporary = temporary or root / "blobs"

    def directory(self, algorithm: str = "sha256") -> Path:
        """Where blobs named by ``algorithm`` stand."""
        return self.root / "blobs" / algorithm

    def path(self, digest: Digest) -> Path:
        """Where the blob stands, or would stand."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def stat(self, digest: Digest) -> os.stat_result | None:
        """Facts of the blob's file, None if there is no such file.

        Raises StoreDamagedError if something else than a plain file stands there.
        """
        with storage_errors(f"look at blob {digest}"):
            try:
                facts = self.path(digest).lstat()
            except FileNotFoundError:
                return None
        if not stat.S_ISREG(facts.st_mode):
            raise StoreDamagedError(f"{self.path(digest)} is not a plain file")
        return facts

    def has(self, digest: Digest) -> int | None:
        """The size of the blob in bytes, None if it is not there."""
        facts = self.stat(digest)
        return None if facts is None else facts.st_size

    def open(self, digest: Digest) -> io.FileIO:
        """The blob's file for reading; links are not followed.

        Raises BlobNotFoundError, or StoreDamagedError for anything but a plain file.
        """
        try:
            return open_plain_file(self.path(digest))
        except FileNotFoundError as exc:
            raise BlobNotFoundError(f"no blob {digest} in {self.root}") from exc
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise StoreDamagedError(f"{self.path(digest)} is not a plain file") from exc
            raise _translated(exc, f"open blob {digest}") from exc

    def put(self, digest: Digest, data: bytes) -> None:
        """Store ``data``, of which the caller knows that it hashes to ``digest``.

        All or nothing, durable on return; a damaged file of that name is replaced.
        """
        with storage_errors(f"store blob {digest}"):
            self.temporary.mkdir(parents=True, exist_ok=True)
            temporary = self.temporary / f".{os.urandom(8).hex()}"
            self.write_temporary(data, temporary)
            try:
                self.adopt(temporary, digest)
            finally:
                temporary.unlink(missing_ok=True)
            self.sync(digest.algorithm)

    def write_temporary(self, data: bytes, temporary: Path) -> None:
        """Make a finished, synced file that is no blob yet; nothing on OSError."""
        write_new_file(temporary, data, mode=BLOB_MODE)

    def adopt(self, finished: Path, digest: Digest) -> None:
        """Rename a finished, synced file to its name as a blob.  Raises OSError."""
        target = self.path(digest)
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            fsync_directory(target.parent.parent)
        finished.replace(target)

    def sync(self, algorithm: str = "sha256") -> None:
        """Make all renames so far durable.  Raises OSError."""
        fsync_directory(self.directory(algorithm))

    def delete(self, digest: Digest) -> int:
        """Remove the blob; return the bytes freed (0 if it was not there)."""
        facts = self.stat(digest)
        if facts is None:
            return 0
        with storage_errors(f"remove blob {digest}"):
            self.path(digest).unlink(missing_ok=True)
        return facts.st_size

    def digests(self) -> Iterator[Digest]:
        """Every blob that has a file, in no order; other names are left out."""
        for algorithm in ALGORITHMS:
            for name in _names(self.directory(algorithm)):
                with contextlib.suppress(InvalidDigestError):  # not a blob's name: not ours
                    yield Digest(algorithm, name)

    def strangers(self) -> Iterator[Path]:
        """What is called as no blob can be, sorted."""
        for algorithm in sorted(_names(self.root / "blobs")):
            directory = self.root / "blobs" / algorithm
            if algorithm not in ALGORITHMS:
                yield directory
                continue
            for name in sorted(_names(directory)):
                try:
                    Digest(algorithm, name)
                except InvalidDigestError:
                    yield directory / name


def _names(directory: Path) -> list[str]:
    with storage_errors(f"list {directory}"):
        try:
            return os.listdir(directory)  # noqa: PTH208 - names, not paths
        except FileNotFoundError:
            return []
