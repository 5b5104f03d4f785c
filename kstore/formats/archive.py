"""The files inside a tar archive, by name and without unpacking it.

Docker and OCI archives are read through this.  Nothing of the archive ever becomes a path on disk;
names and links are still refused where another tool would follow them out of it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection
from pathlib import Path

from kstore.errors import IntegrityError, NotFoundError
from kstore.formats.layer_tar import BLOCK, TarEntry, TarLimits, TarReader, looks_like_tar
from kstore.formats.spool import ArchiveInput, PlainFile, file_errors, open_plain
from kstore.streams import Cancel, Closing, read_limited
from kstore.values import dataclass

__all__ = ["Archive", "ArchiveMember", "open_archive"]

#: Most entries of an archive of images (one image has some 130 blobs, of 3 entries at most).
MAX_ENTRIES = 200_000
#: Links followed from one name to a file.
MAX_LINKS = 8
_MAX_NAME = 4096
_SHOWN = 200


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a file's content stands in the archive, in bytes; or the name a link leads to."""

    offset: int
    size: int
    link: str | None = None


class ArchiveMember(Closing):
    """The content of one file, from ``offset`` on; ``size`` is that of the whole file."""

    validator: str | None = None
    spliced: bool = False

    def __init__(self, file: PlainFile, place: _Place, offset: int) -> None:
        self._file = file
        self._at = place.offset + offset
        self._end = place.offset + place.size
        self.size = place.size
        self.offset = offset

    def readinto(self, buffer: memoryview, /) -> int:
        buffer = buffer[: max(0, self._end - self._at)]
        if not buffer:
            return 0
        count = self._file.read_at(self._at, buffer)
        if count == 0:
            raise IntegrityError(f"{self._file.what} became shorter while it was read")
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()


class Archive(Closing):
    """An open archive; names are relative and clean (``./a//b`` is ``a/b``).

    May be used by several threads; what :meth:`open` gives stays good after :meth:`close`.
    """

    def __init__(self, file: PlainFile) -> None:
        """Scan ``file``; on an error it is the caller's to close."""
        self._file = file
        self.what = file.what
        self._places = _scan(file)

    @property
    def names(self) -> Collection[str]:
        """The names of all files and links, in the order of the archive."""
        return self._places.keys()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def resolve(self, name: str) -> str:
        """The name of the file that ``name`` is, after following links inside the archive.

        Raises NotFoundError if there is no such file, IntegrityError for links that lead in a
        circle, out of the archive or nowhere.
        """
        first = name
        for _ in range(MAX_LINKS + 1):
            place = self._places.get(name)
            if place is None and name == first:
                raise NotFoundError(f"{self.what} has no file {name[:_SHOWN]!r}")
            if place is None:
                raise IntegrityError(
                    f"{self.what}: link {first[:_SHOWN]!r} leads to {name[:_SHOWN]!r}, which is not"
                    " in it"
                )
            if place.link is None:
                return name
            name = place.link
        raise IntegrityError(f"{self.what}: link {first[:_SHOWN]!r} leads in a circle")

    def size(self, name: str) -> int:
        """The size of a file in bytes; links are followed.  Raises as :meth:`resolve` does."""
        return self._places[self.resolve(name)].size

    def open(self, name: str, offset: int = 0) -> ArchiveMember:
        """Open a file for reading from ``offset`` on; links are followed."""
        place = self._places[self.resolve(name)]
        return ArchiveMember(self._file.duplicate(), place, min(offset, place.size))

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file; IntegrityError if it has more than ``limit`` bytes."""
        with self.open(name) as member:
            return read_limited(member, limit, f"{name[:_SHOWN]!r} in {self.what}")

    def close(self) -> None:
        self._file.close()


def open_archive(
    source: ArchiveInput,
    *,
    spool_dir: Path,
    what: str | None = None,
    cancel: Cancel | None = None,
) -> Archive:
    """Open a tar, plain or compressed (gzip, zstd, xz, bzip2), at a path or from a stream.

    A plain file is read where it is; anything else is first unpacked into a nameless file in
    ``spool_dir``.  ``what`` names the archive in messages; a stream stays open.

    Raises NotFoundError if there is no file, InvalidInputError for a directory, IntegrityError for
    an archive that is damaged, cut short, followed by something, or that holds two entries of one
    name or names that lead out of it, and StorageError.
    """
    if what is None:
        what = f"archive {source}" if isinstance(source, Path) else "standard input"
    file = open_plain(source, spool_dir=spool_dir, what=what, cancel=cancel)
    try:
        return Archive(file)
    except BaseException:
        file.close()
        raise


def _scan(file: PlainFile) -> dict[str, _Place]:
    """Every file and link by name; directories and special files are left out."""
    start = bytearray(BLOCK)
    count = file.read_at(0, memoryview(start))
    if not looks_like_tar(bytes(start[:count])):
        raise IntegrityError(f"{file.what} is not a tar archive")
    places: dict[str, _Place] = {}
    limits = TarLimits(max_entries=MAX_ENTRIES, max_name=_MAX_NAME)
    with file_errors(f"read {file.what}"):
        for entry in TarReader(file.from_start(), limits=limits, what=file.what):
            if entry.kind in ("file", "symlink", "hardlink"):
                _add(places, entry, file.what)
    return places


def _add(places: dict[str, _Place], entry: TarEntry, what: str) -> None:
    name = _name(entry, what)
    if name in places:
        raise IntegrityError(f"{what} has two entries called {name[:_SHOWN]!r}")
    link = None if entry.kind == "file" else _target(entry, name, what)
    places[name] = _Place(entry.offset, entry.size, link)


def _name(entry: TarEntry, what: str) -> str:
    name = posixpath.normpath(entry.name)
    if name == "." or name.startswith("/") or ".." in entry.name.split("/"):
        raise IntegrityError(
            f"{what} has an entry called {entry.name[:_SHOWN]!r}, which is not a place inside it"
        )
    return name


def _target(entry: TarEntry, name: str, what: str) -> str:
    # A symbolic link starts in its own directory, a hard link at the top of the archive.
    base = posixpath.dirname(name) if entry.kind == "symlink" else ""
    target = posixpath.normpath(posixpath.join(base, entry.link))
    if target == "." or target.startswith("/") or target.split("/")[0] == "..":
        raise IntegrityError(
            f"{what}: {name[:_SHOWN]!r} links to {entry.link[:_SHOWN]!r}, which is not a file"
            " inside the archive"
        )
    return target
