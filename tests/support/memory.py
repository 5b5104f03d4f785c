"""A transport whose images live in a dict: the copier's other side in unit tests.

::

    memory = Memory({"app": image})               # a TestImage, or an index with its members
    memory.log                                    # every call, in order: ("open_source", "app") ...
    memory.reference("app").open_source()
    copy_image(memory.reference("app"), memory.reference("copy"), policy)
    memory.committed["copy"].raw                  # what arrived

Failures are planned with ``memory.fail[digest] = SomeError(...)`` (raised when the blob is opened)
and ``memory.lies[digest] = b"other bytes"`` (delivered instead).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, ManifestNotFoundError, ManifestRejectedError
from kstore.interfaces import (
    BlobFeed,
    DestinationTraits,
    ImageDestination,
    ImageReference,
    ImageSource,
    RetrySink,
    SourceTraits,
    WrittenBlob,
)
from kstore.manifest import RawManifest
from kstore.reference import Named
from kstore.streams import BytesStream
from tests.support.images import TestImage


@dataclass
class Arrived:
    """What a destination got."""

    raw: RawManifest | None = None
    via: RawManifest | None = None
    members: dict[Digest, RawManifest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)


class Memory:
    """All images, everything that was asked, and what shall go wrong."""

    def __init__(self, images: dict[str, TestImage | tuple[RawManifest, Sequence[TestImage]]]):
        self.images = images
        self.log: list[tuple[Any, ...]] = []
        self.fail: dict[Digest, Exception] = {}
        self.lies: dict[Digest, bytes] = {}
        self.manifest_lies: dict[str, RawManifest] = {}
        self.signatures: dict[str, Sequence[bytes]] = {}  # by name, or by name@digest of a member
        self.rejects: set[str] = set()  # manifest types, as a registry does: when it sees them
        self.present: set[Digest] = set()
        self.committed: dict[str, Arrived] = {}
        self.kept: dict[Digest, bytes] = {}
        self.connection_losses: dict[Digest, str] = {}
        self.splices: dict[Digest, str] = {}  # once: lost in the middle, and wrong bytes after it
        self.before_blob: Callable[[Digest], None] = lambda digest: None
        self.lock = threading.Lock()

    def note(self, *entry: Any) -> None:
        with self.lock:
            self.log.append(entry)

    def asked(self, name: str) -> list[tuple[Any, ...]]:
        return [entry for entry in self.log if entry[0] == name]

    def reference(self, name: str, **kwargs: Any) -> MemoryReference:
        return MemoryReference(self, name, **kwargs)


class MemoryReference(ImageReference):
    def __init__(
        self,
        memory: Memory,
        name: str,
        digest: Digest | None = None,
        traits: DestinationTraits | None = None,
    ):
        self.memory = memory
        self.name = name
        self.digest = digest
        self.traits = traits or DestinationTraits(concurrent=True)

    @property
    def transport(self) -> str:
        return "memory"

    @property
    def within_transport(self) -> str:
        return self.name

    @property
    def docker_reference(self) -> Named | None:
        named = Named.parse(self.name)
        return named.with_digest(self.digest) if self.digest else named

    @property
    def policy_identity(self) -> str:
        return self.name

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return ()

    def open_source(self) -> MemorySource:
        self.memory.note("open_source", self.name)
        if self.name not in self.memory.images:
            raise ManifestNotFoundError(f"no {self.name}")
        return MemorySource(self)

    def open_destination(self) -> MemoryDestination:
        self.memory.note("open_destination", self.name)
        return MemoryDestination(self)

    def delete(self) -> None:
        del self.memory.images[self.name]


class MemorySource(ImageSource):
    def __init__(self, reference: MemoryReference):
        self._reference = reference
        self.memory = reference.memory
        image = self.memory.images[reference.name]
        if isinstance(image, TestImage):
            self.top, members = image.raw, [image]
        else:
            self.top, members = image[0], list(image[1])
        self.manifests = {m.raw.digest: m.raw for m in members}
        self.blobs = {digest: data for m in members for digest, data in m.blobs.items()}

    @property
    def reference(self) -> MemoryReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        self.memory.note("read_manifest", instance)
        lie = self.memory.manifest_lies.get("" if instance is None else str(instance))
        if lie is not None:
            return lie
        return self.top if instance is None else self.manifests[instance]

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ):
        digest = descriptor.digest
        self.memory.note("open_blob", digest, offset)
        self.memory.before_blob(digest)
        if digest in self.memory.fail:
            raise self.memory.fail[digest]
        if on_retry is not None and digest in self.memory.connection_losses:
            on_retry(self.memory.connection_losses[digest])
        data = self.memory.lies.get(digest, self.blobs.get(digest))
        if data is None:
            raise BlobNotFoundError(f"no blob {digest}")
        if on_retry is not None and digest in self.memory.splices:
            return _Spliced(data[offset:], offset, on_retry, self.memory.splices.pop(digest))
        return _Opened(data[offset:], offset)

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        member = "" if instance is None else f"@{instance}"
        return self.memory.signatures.get(self._reference.name + member, ())

    def blob_size(self, digest: Digest) -> int | None:
        data = self.blobs.get(digest)
        return None if data is None else len(data)

    def close(self) -> None:
        self.memory.note("close_source", self._reference.name)


class _Opened(BytesStream):
    validator = None
    spliced = False

    def __init__(self, data: bytes, offset: int):
        super().__init__(data)
        self.offset = offset


class _Spliced(_Opened):
    """Bytes of two versions: the connection is lost after the first ones."""

    def __init__(self, data: bytes, offset: int, on_retry: RetrySink, why: str):
        super().__init__(data[:-1] + bytes([data[-1] ^ 1]), offset)
        self._on_retry: RetrySink | None = on_retry
        self._why = why
        self._started = False

    def readinto(self, buffer: memoryview, /) -> int:
        if self._started and self._on_retry is not None:
            self._on_retry(self._why)
            self._on_retry = None
            self.spliced = True
        self._started = True
        return super().readinto(buffer[:100])


class MemoryDestination(ImageDestination):
    def __init__(self, reference: MemoryReference):
        self._reference = reference
        self.memory = reference.memory
        self.arrived = Arrived()
        self.thread = threading.get_ident()

    @property
    def reference(self) -> MemoryReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return self._reference.traits

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        assert threading.get_ident() == self.thread, "reuse_blobs outside the calling thread"
        self.memory.note("reuse_blobs", tuple(hints))
        return [hint.digest in self.memory.present for hint in hints]

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        assert hint.digest is not None
        assert hint.size is not None
        feed.start()
        data = bytearray()
        buffer = memoryview(bytearray(4096))
        while count := feed.readinto(buffer):
            data += buffer[:count]
        with self.memory.lock:
            self.arrived.blobs[hint.digest] = bytes(data)
        self.memory.note("write_blob", hint.digest)
        return WrittenBlob(Descriptor(hint.media_type, hint.digest, hint.size), "copied")

    def settle(self) -> None:
        assert threading.get_ident() == self.thread, "settle outside the calling thread"
        with self.memory.lock:
            self.memory.kept.update(self.arrived.blobs)
        self.memory.note("settle")

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        self.memory.note("write_manifest", raw.digest)
        if raw.media_type in self.memory.rejects:
            raise ManifestRejectedError(f"no {raw.media_type} here")
        if instance is not None:
            assert instance == raw.digest
            self.arrived.members[instance] = raw
        else:
            self.arrived.raw, self.arrived.via = raw, via

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        self.memory.note("write_signatures", tuple(signatures))

    def commit(self) -> None:
        self.memory.note("commit")
        self.memory.committed[self._reference.name] = self.arrived

    def close(self) -> None:
        self.memory.note("close_destination", self._reference.name)
