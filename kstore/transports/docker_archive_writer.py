"""A session that writes several images into one docker archive, wherever its bytes go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Protocol

from kstore.descriptor import BlobHint
from kstore.digest import Digest
from kstore.errors import (
    InvalidReferenceError,
    ManifestRejectedError,
    UnsupportedError,
)
from kstore.formats.docker_tar_write import DockerTarWriter
from kstore.interfaces import (
    BlobFeed,
    DestinationTraits,
    ImageDestination,
    ImageReference,
    ImageSource,
    WrittenBlob,
)
from kstore.manifest import RawManifest, parse_image
from kstore.mediatypes import DOCKER_MANIFEST, OCI_MANIFEST
from kstore.reference import Named
from kstore.transports.archive_session import ArchiveSession
from kstore.values import dataclass

__all__ = ["DockerArchiveWriter", "Sink"]

_MANIFESTS = (DOCKER_MANIFEST, OCI_MANIFEST)


class Sink(Protocol):
    """Where the bytes of an archive go; without ``commit`` they shall have no effect."""

    def write(self, data: bytes | memoryview, /) -> None: ...

    def cut(self, position: int, /) -> bool:
        """Take back all but the first ``position`` bytes; False if they are gone already."""
        ...

    def commit(self) -> None: ...

    def close(self) -> None: ...


class DockerArchiveWriter(ArchiveSession):
    """Writes images one after the other; blobs they share go in once::

        with transport.open_writer("images.tar") as writer:
            copy_image(source, writer.reference([named, other]), policy)

    Leaving without an exception finishes the archive; otherwise, and if no image was written,
    nothing stays.
    """

    def __init__(self, sink: Sink, transport: str, place: str) -> None:
        """``transport`` and ``place`` are what its references are called."""
        self._tar = DockerTarWriter(sink.write)
        super().__init__(f"{transport}:{place}", self._tar, sink.cut)
        self.transport = transport
        self.place = place
        self._sink = sink
        self._images = 0

    def reference(self, names: Sequence[Named]) -> ImageReference:
        """A reference that writes one image under ``names``, each with a tag and no digest."""
        for named in names:
            if named.tag is None or named.digest is not None:
                raise InvalidReferenceError(
                    f"{named} cannot be a name in a docker archive, which knows only tags"
                )
        return _WriterReference(self, tuple(names))

    def only_image(self, reference: ImageReference, names: Sequence[Named]) -> ImageDestination:
        """A destination whose commit finishes the archive, and whose end ends it."""
        return _Destination(reference, self, tuple(names), alone=True)

    def add_image(self, raw: RawManifest, names: Sequence[Named]) -> None:
        """Complete an image whose blobs are written."""
        self.require_whole()
        self._tar.add_image(raw, names)
        self._images += 1

    def finish(self) -> None:
        """Write the end, and make all of it visible."""
        self.require_whole()
        if self._images:
            self._tar.finish()
            self._sink.commit()

    def close(self) -> None:
        self._sink.close()


@dataclass(frozen=True, slots=True)
class _WriterReference(ImageReference):
    """The next image of a writer."""

    writer: DockerArchiveWriter = field(repr=False)
    names: tuple[Named, ...]

    @property
    def transport(self) -> str:
        return self.writer.transport

    @property
    def within_transport(self) -> str:
        place = self.writer.place
        return f"{place}:{self.names[0]}" if self.names else place

    @property
    def docker_reference(self) -> Named | None:
        return self.names[0] if self.names else None

    @property
    def policy_identity(self) -> str:
        return self.writer.place

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return ()

    def open_source(self) -> ImageSource:
        raise UnsupportedError(f"{self.writer.place} is being written and cannot be read")

    def open_destination(self) -> ImageDestination:
        return _Destination(self, self.writer, self.names, alone=False)

    def delete(self) -> None:
        raise UnsupportedError(f"{self.writer.place} is being written")


class _Destination(ImageDestination):
    """Writes one image; ``alone`` means that the archive is finished with it."""

    def __init__(
        self,
        reference: ImageReference,
        writer: DockerArchiveWriter,
        names: tuple[Named, ...],
        *,
        alone: bool,
    ) -> None:
        self._reference = reference
        self._writer = writer
        self._names = names
        self._alone = alone
        self._manifest: RawManifest | None = None

    @property
    def reference(self) -> ImageReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return DestinationTraits(ordered=True, indexes=False, manifest_types=_MANIFESTS)

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        self._writer.require_whole()
        return [self._writer.has(hint) for hint in hints]

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        return self._writer.write_blob(feed, hint)

    def settle(self) -> None:
        """An archive is all or nothing."""

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        if instance is not None or raw.media_type not in _MANIFESTS:
            raise ManifestRejectedError(
                f"a docker archive holds images, and no manifests of type {raw.media_type}"
            )
        if not parse_image(raw).is_image:
            raise UnsupportedError(
                f"manifest {raw.digest} is an artifact, and a docker archive holds only images"
            )
        self._manifest = raw

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        raise UnsupportedError("a docker archive cannot keep signatures")

    def commit(self) -> None:
        assert self._manifest is not None, "write_manifest comes first"
        self._writer.add_image(self._manifest, self._names)
        if self._alone:
            self._writer.finish()

    def close(self) -> None:
        if self._alone:
            self._writer.close()
