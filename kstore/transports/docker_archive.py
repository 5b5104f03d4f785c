"""``docker-archive:``: images in a file as ``docker save`` and ``podman save`` write it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
    ManifestNotFoundError,
    UnsupportedError,
)
from kstore.formats.archive import Archive, open_archive
from kstore.formats.archive_output import ArchiveOutput
from kstore.formats.docker_image import ArchivedImage, open_image
from kstore.formats.docker_tar import choose_image, list_images
from kstore.interfaces import (
    BlobSource,
    ImageDestination,
    ImageReference,
    ImageSource,
    ImageTransport,
    RetrySink,
    SourceTraits,
)
from kstore.manifest import RawManifest
from kstore.reference import Named
from kstore.streams import Cancel, Closing
from kstore.transports.base import BytesBlob, path_identity, path_scopes, require_path_scope
from kstore.transports.docker_archive_writer import DockerArchiveWriter
from kstore.values import dataclass

__all__ = [
    "NAME",
    "DockerArchiveReader",
    "DockerArchiveReference",
    "DockerArchiveSource",
    "DockerArchiveTransport",
    "DockerArchiveWriter",
]

NAME = "docker-archive"
#: The path that means standard input or output.
STDIO = "-"

_POSITION = re.compile(r"@(0|[1-9][0-9]{0,8})\Z", re.ASCII)


class DockerArchiveTransport(ImageTransport):
    """Reads and writes archives.

    ``spool_dir`` is where compressed and piped archives are unpacked to; ``stdin`` and ``stdout``
    are what the path ``-`` means.
    """

    def __init__(
        self,
        spool_dir: Path,
        *,
        stdin: BinaryIO | None = None,
        stdout: BinaryIO | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.spool_dir = spool_dir
        self.cancel = cancel or Cancel()
        self._stdin = stdin
        self._stdout = stdout

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> DockerArchiveReference:
        """Parse ``path``, ``path:name[:tag]`` or ``path:@index`` (from 0); the path ends at the
        first colon."""
        path, colon, rest = text.partition(":")
        if not path:
            raise InvalidReferenceError(f"{NAME} reference {text[:200]!r} has no path")
        if not colon:
            return DockerArchiveReference(path, None, None, self)
        if rest.startswith("@"):
            match = _POSITION.match(rest)
            if match is None:
                raise InvalidReferenceError(f"{rest[:200]!r} is not a place in an archive (@0, @1)")
            return DockerArchiveReference(path, None, int(match[1]), self)
        named = Named.parse(rest).with_default_tag()
        if named.digest is not None:
            raise InvalidReferenceError(
                f"{rest[:200]!r} has a digest, and images in a docker archive have only tags"
            )
        return DockerArchiveReference(path, named, None, self)

    def validate_policy_scope(self, scope: str) -> None:
        require_path_scope(scope)

    def open_reader(self, path: str) -> DockerArchiveReader:
        """Open the archive at ``path`` (``-`` is standard input); see :meth:`references`.

        Raises what ``formats.archive.open_archive`` and ``formats.docker_tar.list_images`` raise.
        """
        source: Path | BinaryIO | None = self._stdin if path == STDIO else Path(path)
        if source is None:
            raise InvalidInputError("there is no standard input to read an archive from")
        archive = open_archive(source, spool_dir=self.spool_dir, cancel=self.cancel)
        return DockerArchiveReader(archive, self.cancel)

    def references(
        self, path: str, reader: DockerArchiveReader
    ) -> tuple[DockerArchiveReference, ...]:
        """A reference for each image of the archive that was opened at ``path``; they read it
        through ``reader``, which must stay open."""
        return tuple(
            DockerArchiveReference(path, None, image.position, self, reader)
            for image in reader.images
        )

    def open_writer(self, path: str) -> DockerArchiveWriter:
        """Begin an archive at ``path`` (``-`` is standard output), for several images.

        Raises what ``formats.archive_output.ArchiveOutput`` raises.
        """
        if path != STDIO:
            return DockerArchiveWriter(ArchiveOutput(Path(path)), NAME, path)
        if self._stdout is None:
            raise InvalidInputError("there is no standard output to write an archive to")
        return DockerArchiveWriter(ArchiveOutput(self._stdout), NAME, path)


class DockerArchiveReader(Closing):
    """The ``images`` of an open archive, in order; the archive is closed with it."""

    def __init__(self, archive: Archive, cancel: Cancel | None = None) -> None:
        self.cancel = cancel
        self.archive = archive
        try:
            self.images = list_images(self.archive)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self.archive.close()


@dataclass(frozen=True, slots=True)
class DockerArchiveReference(ImageReference):
    """An image in the archive at ``path``: by name, by position (from 0), or the only one."""

    path: str
    named: Named | None
    position: int | None
    home: DockerArchiveTransport = field(repr=False, compare=False)
    reader: DockerArchiveReader | None = field(default=None, repr=False, compare=False)

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        if self.position is not None:
            return f"{self.path}:@{self.position}"
        return self.path if self.named is None else f"{self.path}:{self.named}"

    @property
    def docker_reference(self) -> Named | None:
        return self.named

    @property
    def policy_identity(self) -> str:
        return self.path if self.path == STDIO else path_identity(Path(self.path))

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return () if self.path == STDIO else path_scopes(Path(self.path))

    def open_source(self) -> DockerArchiveSource:
        reader = self.reader or self.home.open_reader(self.path)
        try:
            image = choose_image(reader.images, reader.archive.what, self.named, self.position)
            return DockerArchiveSource(self, reader, image, owned=self.reader is None)
        except BaseException:
            if self.reader is None:
                reader.close()
            raise

    def open_destination(self) -> ImageDestination:
        if self.position is not None:
            raise InvalidReferenceError(
                f"{self.within_transport} cannot be written to: give a name instead of a place"
            )
        names = () if self.named is None else (self.named,)
        return self.home.open_writer(self.path).only_image(self, names)

    def delete(self) -> None:
        raise UnsupportedError(
            f"an image cannot be deleted out of archive {self.path}", hint="remove the whole file"
        )


class DockerArchiveSource(ImageSource):
    """Reads one image of an open archive; ``owned`` means the archive is closed with it.

    ``reference`` is whoever the image is asked for by, which need not be of this transport.
    """

    def __init__(
        self,
        reference: ImageReference,
        reader: DockerArchiveReader,
        image: ArchivedImage,
        *,
        owned: bool,
    ) -> None:
        self._reference = reference
        self._reader = reader
        self._archive = reader.archive
        self._owned = owned
        self._image = open_image(self._archive, image, reader.cancel)

    @property
    def reference(self) -> ImageReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        raw = self._image.raw
        if instance is not None and instance != raw.digest:
            raise ManifestNotFoundError(f"{self._archive.what} has no manifest {instance}")
        return raw

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        content = self._image.contents.get(descriptor.digest)
        if content is None:
            raise BlobNotFoundError(f"{self._archive.what} has no blob {descriptor.digest}")
        if isinstance(content, str):
            return self._archive.open(content, offset)
        return BytesBlob(content)

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        return ()

    def close(self) -> None:
        if self._owned:
            self._reader.close()
