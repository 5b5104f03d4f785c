"""What transports share."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kstore.blobs import new_file, open_plain_file, storage_errors, write_all
from kstore.descriptor import BlobHint, Descriptor
from kstore.errors import IntegrityError, InvalidInputError, KstoreError, UnsupportedError
from kstore.interfaces import BlobFeed, BlobSource, ImageReference
from kstore.reference import Named
from kstore.streams import BytesStream, ByteStream, pump, read_limited

__all__ = [
    "BytesBlob",
    "FileBlob",
    "OpenedBlob",
    "PathReference",
    "again_if_wrong",
    "end_session",
    "name_scopes",
    "open_image_file",
    "path_identity",
    "path_scopes",
    "read_small_file",
    "require_path_scope",
    "stated_blob",
    "write_feed",
]


def name_scopes(named: Named) -> tuple[str, ...]:
    """Policy scopes broader than a docker name: repository, its parents, the host and
    ``*.domain`` wildcards, most specific first."""
    scopes = [named.repository]
    path = named.repository
    while "/" in path:
        path = path.rpartition("/")[0]
        scopes.append(path)
    host = named.domain.partition(":")[0]
    while "." in host:
        host = host.partition(".")[2]
        scopes.append(f"*.{host}")
    return tuple(scopes)


def path_identity(path: Path) -> str:
    """What trust policy looks a path up by: absolute, without links."""
    return os.path.realpath(path)


def path_scopes(path: Path) -> tuple[str, ...]:
    """Policy scopes broader than a path: its parents below ``/``, nearest first."""
    return tuple(str(parent) for parent in Path(path_identity(path)).parents)[:-1]


def require_path_scope(scope: str) -> None:
    """Raise InvalidInputError unless ``scope`` is a path that :func:`path_scopes` can give."""
    if not scope.startswith("/") or scope == "/" or os.path.normpath(scope) != scope:
        raise InvalidInputError(f"policy scope {scope!r:.200} is not an absolute, clean path")


class PathReference(ImageReference):
    """A reference to something at ``path``.  Policy knows it by the path alone: what else the
    reference says may or may not be said of the same image."""

    path: str

    @property
    def docker_reference(self) -> None:
        return None

    @property
    def policy_identity(self) -> str:
        return path_identity(Path(self.path))

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return path_scopes(Path(self.path))


class FileBlob(BlobSource):
    """A file without a buffer, from ``offset`` on."""

    validator: str | None = None
    offset: int = 0

    def __init__(self, file: io.FileIO, offset: int = 0) -> None:
        self._file = file
        if offset:
            file.seek(offset)
        self.offset = offset

    def readinto(self, buffer: memoryview, /) -> int:
        with storage_errors(f"read {self._file.name}"):
            return self._file.readinto(buffer) or 0

    def close(self) -> None:
        self._file.close()


class BytesBlob(BytesStream, BlobSource):
    """A blob that was made, or is a manifest: at hand, from its start."""

    offset = 0
    validator = None


class OpenedBlob(BlobSource):
    """A stream that knows where it starts."""

    validator: str | None = None
    offset: int = 0

    def __init__(self, stream: ByteStream, offset: int) -> None:
        self._stream = stream
        self.offset = offset

    def readinto(self, buffer: memoryview, /) -> int:
        return self._stream.readinto(buffer) or 0

    def close(self) -> None:
        self._stream.close()


def stated_blob(hint: BlobHint, what: str) -> Descriptor:
    """The blob a hint announces; UnsupportedError if its digest or size is not known."""
    if hint.digest is None or hint.size is None:
        raise UnsupportedError(f"{what} needs to know a blob's digest and size in advance")
    return Descriptor(hint.media_type, hint.digest, hint.size)


def write_feed(feed: BlobFeed, path: Path, what: str, *, mode: int) -> None:
    """Write a blob to the new file ``path``, durably; without its verified end nothing stays.

    ``what`` names the blob and its place in messages.
    """
    with storage_errors(f"write {what}"), new_file(path, mode=mode) as file:

        def write() -> None:
            file.seek(0)
            file.truncate()
            feed.start()
            pump(feed, lambda view: write_all(file, view))

        again_if_wrong(feed, write)


def again_if_wrong(feed: BlobFeed, attempt: Callable[[], None]) -> None:
    """Read all of ``feed``, which ``attempt`` starts; again while its source may have better bytes
    than the wrong ones it gave."""
    while True:
        try:
            attempt()
        except IntegrityError:
            if not feed.refute():
                raise
        else:
            return


def end_session(close: Callable[[], None], failure: BaseException | None) -> None:
    """Close a destination; after a ``failure`` a second one is only a note to the first."""
    try:
        close()
    except KstoreError as second:
        if failure is None:
            raise
        failure.add_note(f"the unfinished image could not be removed: {second}")


def open_image_file(path: Path, what: str) -> io.FileIO | None:
    """A plain file for reading, None if there is none; StorageError.

    Links are not followed: what is called a file of an image must be one (IntegrityError).
    """
    with storage_errors(f"read {what}"):
        try:
            return open_plain_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                raise IntegrityError(f"{what} is not a plain file") from exc
            raise


def read_small_file(path: Path, cap: int, what: str) -> bytes | None:
    """The bytes of :func:`open_image_file`; IntegrityError beyond ``cap`` bytes."""
    file = open_image_file(path, what)
    if file is None:
        return None
    with contextlib.closing(FileBlob(file)) as stream:
        return read_limited(stream, cap, what)
