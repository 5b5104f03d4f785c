"""``kstore:`` (alias ``storage:``): images in the local store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import field, replace
from types import TracebackType

from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import (
    REPAIR,
    BlobNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    ManifestNotFoundError,
    StoreDamagedError,
    UnsupportedError,
)
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
from kstore.signature import SIGNATURE_KINDS
from kstore.store import Found, ImageRecord, Ingest, Publication, StagedBlob, Store
from kstore.store.lookup import elsewhere
from kstore.streams import Cancel, pump
from kstore.transports.base import FileBlob, name_scopes
from kstore.values import dataclass

__all__ = ["ALIASES", "NAME", "StorageReference", "StorageTransport"]

NAME = "kstore"
ALIASES = ("storage",)


class StorageTransport(ImageTransport):
    """Reaches the images of one store, through the calling thread's connection to it."""

    def __init__(self, store: Store, cancel: Cancel | None = None) -> None:
        self.store = store
        self.cancel = cancel or Cancel()

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> StorageReference:
        """Parse an image name or ID as ``find_image`` takes it."""
        if not text:
            raise InvalidReferenceError("the image name is empty")
        try:
            named = Named.parse(text).with_default_tag()
        except InvalidReferenceError:
            if not _looks_like_id(text):
                raise
            named = None
        return StorageReference(text, () if named is None else (named,), self)

    def reference(self, *names: Named) -> StorageReference:
        """The reference of an image under ``names``, which it gets all at once; without any, of a
        new image that will be known by its ID alone."""
        return StorageReference(str(names[0]) if names else "", names, self)

    def validate_policy_scope(self, scope: str) -> None:
        require_store_scope(scope)


def require_store_scope(scope: str) -> None:
    """Raise InvalidInputError if ``scope`` can never match an image of a store."""
    if not scope.startswith("["):
        raise InvalidInputError(f"policy scope {scope!r} does not start with [ROOT]")


def _looks_like_id(text: str) -> bool:
    """Whether this may be an ID, or ``NAME@ID``, which both must agree on."""
    name, _, digits = text.rpartition("@")
    digits = digits.removeprefix("sha256:")
    if name:
        Named.parse(name)
    return 3 <= len(digits) <= 64 and all(char in "0123456789abcdef" for char in digits)


@dataclass(frozen=True, slots=True)
class StorageReference(ImageReference):
    """An image in the store: ``text`` as a user gave it, ``names`` where it can be a name.

    An empty text is that of an image without a name, which can only be written.
    """

    text: str
    names: tuple[Named, ...]
    home: StorageTransport = field(repr=False, compare=False)

    @property
    def named(self) -> Named | None:
        return self.names[0] if self.names else None

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return self.text

    @property
    def docker_reference(self) -> Named | None:
        return self.named

    @property
    def policy_identity(self) -> str:
        return f"[{self.home.store.root}]{self.named or self.text}"

    @property
    def policy_namespaces(self) -> Sequence[str]:
        root = f"[{self.home.store.root}]"
        scopes: tuple[str, ...] = ()
        if self.named is not None:
            scopes = name_scopes(self.named)
        elif name := self.text.rpartition("@")[0]:  # of NAME@ID, whose identity is all of it
            named = Named.parse(name).with_default_tag()
            scopes = (str(named), *name_scopes(named))
        return (*(root + scope for scope in scopes if not scope.startswith("*")), root)

    def found_as(self, name: Named | None) -> StorageReference:
        """This reference once it was looked up: a short name means what the store has under it,
        and without ``name`` the text is an ID, though it may look like a name."""
        if self.named is None:
            return self
        if name is None:
            return replace(self, names=())
        found = Named(name.domain, name.path, self.named.tag, self.named.digest)
        return replace(self, names=(found,))

    def open_source(self) -> StorageSource:
        return StorageSource(self)

    def open_destination(self) -> StorageDestination:
        return StorageDestination(self)

    def delete(self) -> None:
        """Remove the name, of whatever, that reading finds, and an image with its last name."""
        store = self.home.store
        if self.named is not None and (record := store.find_name(self.text)) is not None:
            store.remove_name(record.name)
            return
        found = store.find_image(self.text, pullable=False)
        if found.image.location is not None:
            raise elsewhere(found)
        if self.named is None or found.name is None:
            raise InvalidReferenceError(
                f"{self.text!r} is not an image name", hint=f"kstore rmi {self.text}"
            )
        store.remove_name(found.name)


class StorageSource(ImageSource):
    """Reads one stored image, and keeps it from being collected meanwhile."""

    remedy: str | None = REPAIR

    def __init__(self, reference: StorageReference) -> None:
        self._store = reference.home.store
        self.found: Found = self._store.find_image(reference.text)
        self._reference = reference.found_as(self.found.name)
        self._lease = self._store.lease(f"read {reference.text}")
        self._lease.__enter__()
        try:
            self._lease.hold_image(self.found)
        except BaseException:
            self.close()
            raise

    @property
    def reference(self) -> StorageReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    @property
    def named_digest(self) -> Digest:
        # The digest in a name may be that of the index the image was chosen from.
        return self.top

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        try:
            return self._store.read_manifest(instance or self.top)
        except BlobNotFoundError as exc:
            raise ManifestNotFoundError(exc.message) from exc

    @property
    def top(self) -> Digest:
        """What the name stands for: an index if all its members are here, else the image."""
        record = self._store.name(self.found.name) if self.found.name else None
        if record is not None and record.manifest == self.found.manifest:
            target = self._store.manifest(record.target)
            if target is not None and target.is_index and target.complete:
                return record.target
        return self.found.manifest

    def blob_size(self, digest: Digest) -> int | None:
        return self._store.blob(digest)

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
                f"image {self.found.image.short_id} is not complete: blob {descriptor.digest} is"
                f" missing in {self._store.root}",
                hint=REPAIR,
            ) from exc

    def origins(self, digest: Digest) -> tuple[str, ...]:
        return tuple(f"{host}/{path}" for host, path in self._store.origins(digest))

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        return self._store.signatures(instance or self.top)

    def close(self) -> None:
        self._lease.__exit__(None, None, None)


def _pour(feed: BlobFeed, ingest: Ingest) -> None:
    """Write the opened feed to its verified end; wrong bytes are dropped."""
    ingest.remember(feed.validator)
    try:
        pump(feed, ingest.write)
    except IntegrityError:
        ingest.restart()  # what is held is wrong, and must not be resumed by anybody
        raise


class StorageDestination(ImageDestination):
    """Writes one image into the store.

    Workers fill partial files; what they finish is queued, and :meth:`settle` makes all of it
    durable in one step of the calling thread.  ``image`` is the result after :meth:`commit`.
    """

    def __init__(self, reference: StorageReference) -> None:
        if reference.text and not reference.names:
            raise InvalidReferenceError(f"{reference.text!r} cannot be the name of an image")
        self._reference = reference
        self._store = reference.home.store
        self._cancel = reference.home.cancel
        self._lease = self._store.lease(f"write {reference.text or 'an image'}")
        self._lease.__enter__()
        self._lock = threading.Lock()
        self._staged: list[StagedBlob] = []
        self._fetched_elsewhere: list[tuple[BlobFeed, BlobHint]] = []
        self._manifest: RawManifest | None = None
        self._members: list[RawManifest] = []
        self._via: RawManifest | None = None
        self._signatures: dict[Digest | None, Sequence[bytes]] = {}
        self._origins: tuple[str, ...] = ()
        self.image: ImageRecord | None = None

    @property
    def reference(self) -> StorageReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return DestinationTraits(
            concurrent=True,
            foreign_urls=True,
            remembers_index=True,
            signatures=SIGNATURE_KINDS,
        )

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        wanted = [(hint.digest, hint.size) for hint in hints if hint.digest is not None]
        held = self._lease.adopt(wanted)
        self._lease.require_room((d, size) for d, size in wanted if d not in held)
        return [hint.digest in held for hint in hints]

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        if hint.digest is None or hint.size is None:
            raise UnsupportedError("the store needs to know a blob's digest and size in advance")
        blob = Descriptor(hint.media_type, hint.digest, hint.size)
        with self._lease.ingest(
            hint.digest,
            hint.size,
            origin=hint.origins[0] if hint.origins else None,
            waiting=feed.waiting,
            cancel=self._cancel,
        ) as ingest:
            if ingest.present:
                with self._lock:
                    self._fetched_elsewhere.append((feed, hint))
                return WrittenBlob(blob, "present")
            self._fill(ingest, feed, hint.size)
            staged = ingest.stage(hint.digest, hint.size)
        with self._lock:
            self._staged.append(staged)
            self._origins = self._origins or hint.origins
        return WrittenBlob(blob, "copied")

    def _fill(self, ingest: Ingest, feed: BlobFeed, size: int) -> None:
        """Bring the partial file to its verified end.

        A wrong one is begun anew while its source may have better bytes.
        """
        held = ingest.offset
        if held == size:
            return  # opening it has hashed every byte already
        start = feed.start(held, ingest.hasher, ingest.validator)
        if start != held:
            ingest.restart()
        while True:
            try:
                _pour(feed, ingest)
            except IntegrityError:
                if not feed.refute():
                    raise
                feed.start()
            else:
                return

    def settle(self) -> None:
        with self._lock:
            staged, self._staged = self._staged, []
            elsewhere, self._fetched_elsewhere = self._fetched_elsewhere, []
        if staged:
            self._lease.commit_blobs(staged, origin=self._origin())
        if elsewhere:
            held = self._lease.adopt((h.digest, h.size) for _, h in elsewhere if h.digest)
            for feed, hint in elsewhere:
                if hint.digest not in held:  # its owner died between file and record
                    self.write_blob(feed, hint)
                    self.settle()

    def _origin(self) -> tuple[str, str] | None:
        if not self._origins:
            return None
        host, _, path = self._origins[0].partition("/")
        return host, path

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        if instance is not None:
            self._members.append(raw)
        else:
            self._manifest, self._via = raw, via

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        self._signatures[instance] = signatures

    def commit(self) -> None:
        raw = self._manifest
        assert raw is not None, "write_manifest comes first"
        self.settle()
        self.image = self._lease.publish(
            Publication(
                raw=raw,
                names=self._reference.names,
                members=tuple(self._members),
                via=self._via,
                signatures={each or raw.digest: kept for each, kept in self._signatures.items()},
            ),
            last=True,
        )

    def close(self) -> None:
        """End the session; finished blobs of a failed one stay for the next attempt."""
        self._lease.__exit__(None, None, None)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lease.__exit__(kind, value, traceback)
