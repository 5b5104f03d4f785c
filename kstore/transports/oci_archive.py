"""``oci-archive:FILE[:REF | :@INDEX]``: images in a tar of an OCI layout; ``-`` is a pipe.

An archive is read where it is, and written once, from its first byte to its last.  Blobs come in
the order they arrive in; index.json, which tells what they are, comes last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import BinaryIO

from kstore.descriptor import BlobHint
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    ConflictError,
    InvalidInputError,
    ManifestNotFoundError,
    NotFoundError,
    UnsupportedError,
)
from kstore.formats.archive import Archive, open_archive
from kstore.formats.archive_output import ArchiveOutput
from kstore.formats.layout_tar import LayoutTar
from kstore.formats.oci_layout import (
    INDEX_FILE,
    LAYOUT_FILE,
    LAYOUT_MARK,
    MAX_LAYOUT_MARK,
    LayoutIndex,
    Selector,
    blob_name,
    check_layout_mark,
)
from kstore.interfaces import (
    BlobFeed,
    BlobSource,
    DestinationTraits,
    ImageDestination,
    ImageTransport,
    WrittenBlob,
)
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.streams import Cancel, Closing
from kstore.transports.archive_session import ArchiveSession
from kstore.transports.base import PathReference, require_path_scope
from kstore.transports.oci import MANIFEST_TYPES, LayoutSource, destination_ref
from kstore.transports.oci_directory import LayoutFiles
from kstore.values import dataclass

__all__ = [
    "NAME",
    "OciArchiveReader",
    "OciArchiveReference",
    "OciArchiveTransport",
    "OciArchiveWriter",
]

NAME = "oci-archive"
PIPE = "-"


class OciArchiveTransport(ImageTransport):
    """Reaches images in archives of OCI layouts.

    ``spool_dir`` is where archives that are compressed or piped are unpacked to; ``stdin`` and
    ``stdout`` are what ``-`` means.
    """

    def __init__(
        self,
        spool_dir: Path,
        *,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self._spool_dir = spool_dir
        self._stdin = stdin
        self._stdout = stdout
        self._cancel = cancel or Cancel()

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> OciArchiveReference:
        """Parse ``FILE[:REF | :@INDEX]``; FILE ends at the first colon and may be ``-``.

        Without REF it is the only image.
        """
        path, selector = Selector.split(text, NAME)
        return OciArchiveReference(path, selector, self)

    def validate_policy_scope(self, scope: str) -> None:
        require_path_scope(scope)

    def reader(self, path: str) -> OciArchiveReader:
        """Open an archive for reading several of its images."""
        return self.reader_of(path, self._open(path))

    def reader_of(self, path: str, archive: Archive) -> OciArchiveReader:
        """The same for an archive that is open already; it is closed with the reader."""
        return OciArchiveReader(path, self, ArchiveFiles(archive))

    def writer(self, path: str) -> OciArchiveWriter:
        """Begin an archive for several images."""
        return OciArchiveWriter(path, self)

    def open_files(self, path: str) -> ArchiveFiles:
        """The layout in an archive; NotFoundError if there is no such file."""
        return ArchiveFiles(self._open(path))

    def _open(self, path: str) -> Archive:
        source: Path | BinaryIO | None = self._stdin if path == PIPE else Path(path)
        if source is None:
            raise InvalidInputError("there is no standard input to read an archive from")
        return open_archive(source, spool_dir=self._spool_dir, cancel=self._cancel)

    def open_output(self, path: str) -> ArchiveOutput:
        """Where an archive is written; ConflictError if there is a file already."""
        target: Path | BinaryIO | None = self._stdout if path == PIPE else Path(path)
        if target is None:
            raise InvalidInputError("there is no standard output to write an archive to")
        return ArchiveOutput(target)


@dataclass(frozen=True, slots=True)
class OciArchiveReference(PathReference):
    """An image in the archive at ``path``; ``session`` is the archive if it is open already."""

    path: str
    selector: Selector
    home: OciArchiveTransport = field(repr=False, compare=False)
    session: OciArchiveReader | OciArchiveWriter | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return self.selector.within(self.path)

    @contextlib.contextmanager
    def reading(self) -> Iterator[OciArchiveReference]:
        """This reference in an archive that is opened once, to read more of it than this image."""
        with self.home.reader(self.path) as session:
            yield replace(self, session=session)

    @contextlib.contextmanager
    def writing(self) -> Iterator[OciArchiveReference]:
        """This reference in a new archive that is to hold more than this image; it is finished at
        the end, or removed after an exception."""
        destination_ref(self, self.selector)  # before anything is made
        with self.home.writer(self.path) as session:
            yield replace(self, session=session)

    def open_source(self) -> LayoutSource:
        if isinstance(self.session, OciArchiveReader):
            return LayoutSource(self, self.session.files, self.selector)
        return _OwnSource(self, self.home.open_files(self.path))

    def open_destination(self) -> OciArchiveDestination:
        if isinstance(self.session, OciArchiveWriter):
            return OciArchiveDestination(self, self.session, owned=False)
        destination_ref(self, self.selector)  # before anything is made
        return OciArchiveDestination(self, self.home.writer(self.path), owned=True)

    def delete(self) -> None:
        """Refused: nothing can be taken out of an archive."""
        raise UnsupportedError(
            f"cannot delete an image inside archive {self.path}", hint=f"rm {self.path}"
        )


class ArchiveFiles(LayoutFiles, Closing):
    """The files of a layout inside an open archive."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self.where = archive.what

    def read_index(self) -> LayoutIndex:
        if INDEX_FILE not in self._archive:
            raise ManifestNotFoundError(
                f"{self.where} is not an OCI archive: it has no {INDEX_FILE}"
            )
        if LAYOUT_FILE in self._archive:
            check_layout_mark(self._archive.read(LAYOUT_FILE, MAX_LAYOUT_MARK), self.where)
        return LayoutIndex.parse(self._archive.read(INDEX_FILE, MAX_MANIFEST_SIZE), self.where)

    def open_blob(self, digest: Digest, offset: int = 0) -> BlobSource:
        try:
            return self._archive.open(blob_name(digest), offset)
        except NotFoundError as exc:
            raise BlobNotFoundError(f"no blob {digest} in {self.where}") from exc

    def close(self) -> None:
        self._archive.close()


class _OwnSource(LayoutSource):
    """Reads an image of an archive that was opened for it."""

    def __init__(self, reference: OciArchiveReference, files: ArchiveFiles) -> None:
        self._own = files
        try:
            super().__init__(reference, files, reference.selector)
        except BaseException:
            files.close()
            raise

    def close(self) -> None:
        self._own.close()


class OciArchiveReader(Closing):
    """An open archive, of which several images are read."""

    def __init__(self, path: str, home: OciArchiveTransport, files: ArchiveFiles) -> None:
        self._path = path
        self._home = home
        self.files = files

    def images(self) -> tuple[tuple[OciArchiveReference, str | None], ...]:
        """Every image of the archive, each with its REF where it has one."""
        return tuple(
            (OciArchiveReference(self._path, Selector(position=n), self._home, self), ref)
            for n, ref in enumerate(self.files.read_index().refs)
        )

    def close(self) -> None:
        self.files.close()


class OciArchiveWriter(ArchiveSession):
    """An archive that takes one image after the other."""

    def __init__(self, path: str, home: OciArchiveTransport) -> None:
        self._path = path
        self._home = home
        self._output = home.open_output(path)
        self._tar = LayoutTar(self._output.write)
        super().__init__(self._output.what, self._tar, self._output.cut)
        self._index = LayoutIndex.new(self.what)

    def reference(self, ref: str | None) -> OciArchiveReference:
        """The reference by which an image is put into this archive, as ``ref``."""
        return OciArchiveReference(self._path, Selector.parse(ref), self._home, self)

    @property
    def index(self) -> LayoutIndex:
        """The images that are in it by now."""
        return self._index

    def add_manifest(self, raw: RawManifest) -> None:
        """Append a manifest."""
        self.require_whole()
        self._tar.add_manifest(raw.digest, raw.data)

    def add_image(self, raw: RawManifest, ref: str | None) -> None:
        """List a manifest that is in the archive as an image of it.

        Raises ConflictError if another image has the name.
        """
        held = dict(zip(self._index.refs, self._index.entries, strict=True))
        if ref is not None and ref in held and held[ref].digest != raw.digest:
            raise ConflictError(f"two images for {self.what} are both called {ref!r}")
        self._index = self._index.with_image(raw, ref)

    def finish(self) -> None:
        """Write what tells readers of the images, and make the archive durable and visible."""
        self.require_whole()
        self._tar.add_file(INDEX_FILE, self._index.render())
        self._tar.add_file(LAYOUT_FILE, LAYOUT_MARK)
        self._tar.finish()
        self._output.commit()

    def close(self) -> None:
        """Remove what was not finished."""
        self._output.close()


class OciArchiveDestination(ImageDestination):
    """Puts one image into an archive; with ``owned``, that archive is for this image alone."""

    def __init__(
        self, reference: OciArchiveReference, writer: OciArchiveWriter, *, owned: bool
    ) -> None:
        self._reference = reference
        self._writer = writer
        self._owned = owned
        self._manifest: RawManifest | None = None

    @property
    def reference(self) -> OciArchiveReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return DestinationTraits(ordered=True, foreign_urls=True, manifest_types=MANIFEST_TYPES)

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        return [self._writer.has(hint) for hint in hints]

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        return self._writer.write_blob(feed, hint)

    def settle(self) -> None:
        """An archive is durable as a whole or not at all."""

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        self._writer.add_manifest(raw)
        if instance is None:
            self._manifest = raw

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        raise UnsupportedError(f"{self._writer.what} cannot keep signatures")

    def commit(self) -> None:
        assert self._manifest is not None, "write_manifest comes first"
        ref = destination_ref(self._reference, self._reference.selector)
        self._writer.add_image(self._manifest, ref)
        if self._owned:
            self._writer.finish()

    def close(self) -> None:
        if self._owned:
            self._writer.close()
