"""An artifact of the store, by its digest: what refers to an image has no name of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    REPAIR,
    BlobNotFoundError,
    ManifestNotFoundError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.interfaces import (
    BlobSource,
    ImageDestination,
    ImageReference,
    ImageSource,
    RetrySink,
    SourceTraits,
)
from kstore.manifest import Index, RawManifest, parse
from kstore.transports.base import FileBlob
from kstore.transports.storage import NAME, StorageTransport
from kstore.values import dataclass

__all__ = ["StoredArtifact"]


@dataclass(frozen=True, slots=True)
class StoredArtifact(ImageReference):
    """A manifest of the store that no name needs to stand for; it can only be read."""

    digest: Digest
    home: StorageTransport = field(repr=False, compare=False)

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return f"@{self.digest}"

    @property
    def docker_reference(self) -> None:
        return None

    @property
    def policy_identity(self) -> str:
        return f"[{self.home.store.root}]@{self.digest}"

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return (f"[{self.home.store.root}]",)

    def open_source(self) -> StoredArtifactSource:
        return StoredArtifactSource(self)

    def open_destination(self) -> ImageDestination:
        raise UnsupportedError(f"manifest {self.digest} of the store can only be read this way")

    def delete(self) -> None:
        """Remove the manifest and what only it needed."""
        self.home.store.remove_manifest(self.digest)


class StoredArtifactSource(ImageSource):
    """Reads a stored manifest, and keeps it from being collected meanwhile."""

    remedy: str | None = REPAIR

    def __init__(self, reference: StoredArtifact) -> None:
        self._reference = reference
        self._store = reference.home.store
        self._top = self.read_manifest(reference.digest)
        self._lease = self._store.lease(f"read {reference.digest}")
        self._lease.__enter__()
        try:
            if not self._store.read_only:
                self._lease.adopt((blob.digest, blob.size) for blob in self._needed(self._top))
        except BaseException:
            self.close()
            raise

    def _needed(self, raw: RawManifest) -> Iterator[Descriptor]:
        yield raw.descriptor
        view = parse(raw)
        if not isinstance(view, Index):
            yield from view.blobs
            return
        for member in view.manifests:
            if self._store.manifest(member.digest) is not None:
                yield from self._needed(self.read_manifest(member.digest))

    @property
    def reference(self) -> StoredArtifact:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    @property
    def named_digest(self) -> Digest:
        return self._reference.digest

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        if instance is None:
            return self._top
        try:
            return self._store.read_manifest(instance)
        except BlobNotFoundError as exc:
            raise ManifestNotFoundError(exc.message) from exc

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        try:
            return FileBlob(self._store.open_blob(descriptor.digest), offset)
        except BlobNotFoundError as exc:
            raise StoreDamagedError(
                f"manifest {self._reference.digest} is not complete: blob {descriptor.digest} is"
                f" missing in {self._store.root}",
                hint=REPAIR,
            ) from exc

    def origins(self, digest: Digest) -> tuple[str, ...]:
        return tuple(f"{host}/{path}" for host, path in self._store.origins(digest))

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        return ()

    def close(self) -> None:
        self._lease.__exit__(None, None, None)
