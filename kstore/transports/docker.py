"""``docker://``: images in a registry that speaks the OCI distribution protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import cached_property
from typing import TYPE_CHECKING

from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidInputError, InvalidReferenceError, UnsupportedError
from kstore.interfaces import (
    BlobFeed,
    BlobSource,
    DestinationTraits,
    ImageDestination,
    ImageReference,
    ImageSource,
    ImageTransport,
    RetrySink,
    SourceTraits,
    WrittenBlob,
)
from kstore.manifest import RawManifest
from kstore.reference import Named
from kstore.registry import RegistryClient
from kstore.registry.registriesconf import Peer, RegistriesConf
from kstore.registry.shortnames import ShortNames
from kstore.signature import SignatureKind, SimpleSignature, parse_signature
from kstore.streams import ByteStream
from kstore.transports.base import again_if_wrong, name_scopes
from kstore.transports.docker_places import Outages, Places
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry.lookaside import Lookaside

__all__ = ["NAME", "DockerReference", "DockerTransport"]

NAME = "docker"


class DockerTransport(ImageTransport):
    """Reaches registries through one client for each.

    ``connect`` makes the client of a server; clients are kept, so that connections and tokens are
    shared by everything one command does.  ``short_names`` gives the registry configuration and the
    meaning of short names; it is called when the first name is looked up.  ``attachments`` says of
    which images sigstore signatures are read from, and written to, the registry itself;
    ``lookaside`` finds the place beside the registry where the others of an image are kept, None
    where there is none.
    """

    def __init__(
        self,
        connect: Callable[[Peer], RegistryClient],
        short_names: Callable[[], ShortNames] | None = None,
        *,
        attachments: Callable[[Named], bool] = lambda named: False,
        lookaside: Callable[[Named], Lookaside] | None = None,
    ) -> None:
        self._connect = connect
        self._make_short_names = short_names or (lambda: ShortNames(RegistriesConf()))
        self.uses_attachments = attachments
        self._lookaside = lookaside
        self._lock = threading.Lock()
        self._clients: dict[Peer, RegistryClient] = {}
        self._outages = Outages()

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> DockerReference:
        """Parse ``//name[:tag][@digest]``; without tag and digest, ``:latest``.

        With both, the digest decides and the tag is only remembered.
        """
        if not text.startswith("//"):
            raise InvalidReferenceError(f"docker reference {text[:100]!r} does not start with //")
        return self.reference(Named.parse(text[2:]))

    def reference(self, named: Named) -> DockerReference:
        """The reference of an image name."""
        return DockerReference(named.with_default_tag(), self)

    @cached_property
    def short_names(self) -> ShortNames:
        """What short names mean."""
        return self._make_short_names()

    def client(self, host: str, path: str = "") -> RegistryClient:
        """The client of the registry ``host`` itself, for the repository ``path``.

        Raises PolicyRejectedError where the configuration blocks it.
        """
        found = self.short_names.conf.check_allowed(f"{host}/{path}" if path else host)
        return self._client(Peer(host, insecure=found is not None and found.insecure))

    def places(self, named: Named) -> Places:
        """The servers ``named`` may be pulled from; PolicyRejectedError where it is blocked."""
        return Places(self.short_names.conf.places(named), self._client, self._outages)

    def _client(self, peer: Peer) -> RegistryClient:
        with self._lock:  # workers come here when a server fails them
            if peer not in self._clients:
                self._clients[peer] = self._connect(peer)
            return self._clients[peer]

    def lookaside(self, named: Named) -> Lookaside | None:
        """Where signatures of an image are beside its registry; InvalidInputError, StorageError."""
        return self._lookaside(named) if self._lookaside is not None else None

    def validate_policy_scope(self, scope: str) -> None:
        if scope.startswith("*."):
            return
        if not scope or scope.startswith("/") or "://" in scope:
            raise InvalidInputError(f"policy scope {scope!r} cannot match a registry name")

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()


@dataclass(frozen=True, slots=True)
class DockerReference(ImageReference):
    """An image in a registry."""

    named: Named
    home: DockerTransport = field(repr=False, compare=False)

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return f"//{self.named}"

    @property
    def docker_reference(self) -> Named:
        return self.named

    @property
    def policy_identity(self) -> str:
        return str(self.named)

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return name_scopes(self.named)

    @property
    def version(self) -> str | Digest:
        """What to ask the registry for: the digest if there is one, else the tag."""
        version = self.named.digest or self.named.tag
        assert version is not None, "references always have a tag or a digest"
        return version

    @property
    def client(self) -> RegistryClient:
        return self.home.client(self.named.domain, self.named.path)

    @property
    def has_attachments(self) -> bool:
        """Whether sigstore signatures of this image stand in the registry itself."""
        return self.home.uses_attachments(self.named)

    def open_source(self) -> DockerSource:
        return DockerSource(self)

    def open_destination(self) -> DockerDestination:
        return DockerDestination(self)

    def delete(self) -> None:
        """Delete the manifest, and with it every tag that points to it, and its signatures."""
        digest = self.named.digest
        if digest is None:
            digest = self.client.get_manifest(self.named.path, self.version).digest
        self.client.delete_manifest(self.named.path, digest)
        if (lookaside := self.home.lookaside(self.named)) is not None:
            lookaside.remove(self.named.path, digest)


class DockerSource(ImageSource):
    """Reads one image of a registry."""

    def __init__(self, reference: DockerReference) -> None:
        self._reference = reference
        self._places = reference.home.places(reference.named)
        # Fetched now, so that a missing image shows before a destination is opened.
        self._top = self._places.top_manifest()

    @property
    def reference(self) -> DockerReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        if instance is None:
            return self._top
        return self._places.manifest(instance)

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        return self._places.open_blob(descriptor, offset, validator, on_retry)

    def blob_size(self, digest: Digest) -> int | None:
        return self._places.blob_size(digest)

    def refute(self, digest: Digest) -> str | None:
        return self._places.refute(digest)

    def origins(self, digest: Digest) -> tuple[str, ...]:
        return (self._reference.named.repository,)

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        home = self._reference.home
        return self._places.signatures(
            instance or self._top.digest, home.lookaside, home.uses_attachments
        )

    def close(self) -> None:
        """Connections belong to the transport and stay open for the next image."""


class DockerDestination(ImageDestination):
    """Writes one image to a registry; the manifest goes last."""

    def __init__(self, reference: DockerReference) -> None:
        self._reference = reference
        self._client = reference.client
        self._path = reference.named.path
        self._manifest: RawManifest | None = None
        self._signatures: dict[Digest | None, Sequence[bytes]] = {}

    @property
    def reference(self) -> DockerReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return DestinationTraits(
            concurrent=True,
            foreign_urls=True,
            signatures=self._kept_signatures,
        )

    @cached_property
    def _kept_signatures(self) -> frozenset[SignatureKind]:
        kept: set[SignatureKind] = set()
        if self._reference.has_attachments:
            kept.add("sigstore")
        if self._keeps_signatures:
            kept.add("simple")
        return frozenset(kept)

    @cached_property
    def _keeps_signatures(self) -> bool:
        lookaside = self._reference.home.lookaside(self._reference.named)
        if lookaside is not None and lookaside.writable:
            return True
        if lookaside is not None and not self._client.keeps_signatures:
            self._client.ping()  # its answer says whether the registry keeps them itself
        return self._client.keeps_signatures

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        """Nothing is asked here: ``write_blob`` asks, in parallel."""
        return [False] * len(hints)

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        if hint.digest is None or hint.size is None:
            raise UnsupportedError("a registry needs to know a blob's digest and size in advance")
        blob = Descriptor(hint.media_type, hint.digest, hint.size)
        if self._client.has_blob(self._path, blob.digest) is not None:
            return WrittenBlob(blob, "present")
        for origin in self._mountable(hint):
            if self._client.mount_blob(self._path, blob.digest, origin):
                return WrittenBlob(blob, "mounted")
        again_if_wrong(feed, lambda: self._upload(feed, blob))
        return WrittenBlob(blob, "copied")

    def _upload(self, feed: BlobFeed, blob: Descriptor) -> None:
        self._client.upload_blob(
            self._path,
            blob,
            lambda at: _FromOffset(feed, at, blob.size),
            on_retry=feed.retrying,
        )

    def _mountable(self, hint: BlobHint) -> Sequence[str]:
        """Paths of other repositories of the same registry that hold the blob."""
        prefix = f"{self._reference.named.domain}/"
        paths = [o.removeprefix(prefix) for o in hint.origins if o.startswith(prefix)]
        return [path for path in paths if path != self._path][:_MOUNT_TRIES]

    def settle(self) -> None:
        """A registry keeps finished blobs by itself."""

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        wanted = self._reference.named.digest
        if instance is not None:
            self._client.put_manifest(self._path, instance, raw)
        elif wanted is not None and Digest.of(raw.data, wanted.algorithm) != wanted:
            raise InvalidInputError(
                f"cannot push manifest {raw.digest} as {self._reference.named}: another digest"
            )
        else:
            self._manifest = raw
            self._signatures.clear()  # those of a manifest that was refused

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        self._signatures[instance] = signatures

    def commit(self) -> None:
        raw = self._manifest
        assert raw is not None, "write_manifest comes first"
        if self._signatures:
            # By its digest first: under its name nobody shall find it before it is signed.
            self._client.put_manifest(self._path, raw.digest, raw)
            for instance, signatures in self._signatures.items():
                self._keep(instance or raw.digest, signatures)
            if self._reference.version == raw.digest:
                return
        self._client.put_manifest(self._path, self._reference.version, raw)

    def _keep(self, digest: Digest, signatures: Sequence[bytes]) -> None:
        named = self._reference.named
        what = f"a signature of {named}"
        simple = [
            data for data in signatures if isinstance(parse_signature(data, what), SimpleSignature)
        ]
        if len(simple) < len(signatures):
            from kstore.transports.attachments import attach_signatures

            attached = [data for data in signatures if data not in simple]
            attach_signatures(self._client, self._path, digest, attached)
        if not simple:
            return
        if self._client.keeps_signatures:
            self._client.add_signatures(self._path, digest, simple)
            return
        lookaside = self._reference.home.lookaside(named)
        assert lookaside is not None, "the traits say which signatures can be kept"
        lookaside.add(self._path, digest, simple)

    def close(self) -> None:
        """Connections belong to the transport and stay open for the next image."""


#: Mounts tried for one blob; each costs a round trip.
_MOUNT_TRIES = 2


class _FromOffset(ByteStream):
    """A feed of ``size`` bytes from ``offset`` on.

    The bytes before are read again, so that all of it is verified although an interrupted upload
    continues in the middle.  The last bytes are handed out after the verified end was seen: an
    upload stops reading at ``size``, and must not be completed with wrong bytes.
    """

    def __init__(self, feed: BlobFeed, offset: int, size: int) -> None:
        self._feed = feed
        self._skip = offset
        self._left = size
        feed.start()

    def readinto(self, buffer: memoryview, /) -> int:
        while self._skip:
            count = self._read(buffer[: min(len(buffer), self._skip)])
            if count == 0:
                return 0
            self._skip -= count
        return self._read(buffer)

    def _read(self, buffer: memoryview) -> int:
        count = self._feed.readinto(buffer)
        self._left -= count
        if count and self._left <= 0:
            self._feed.readinto(memoryview(bytearray(1)))
        return count

    def close(self) -> None:
        """The copier closes the feed."""
