"""Images through a transport's sessions, without the copier.

::

    put(transport.parse_reference("a:v1"), image)         # blobs, manifest, commit
    got = get(transport.parse_reference("a:v1"))          # raw, blobs by digest; every byte checked
    with reference.open_destination() as destination:
        send(destination, image)                          # blobs and manifest; no commit
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest, Hasher
from kstore.interfaces import BlobFeed, ImageDestination, ImageReference, ImageSource
from kstore.manifest import Index, Manifest, RawManifest, parse
from kstore.streams import BytesStream, VerifiedStream, read_limited
from tests.support.images import TestImage

__all__ = ["BytesFeed", "Got", "doomed", "get", "hint_of", "put", "put_index", "read_blob", "send"]


class BytesFeed(BlobFeed):
    """Bytes on their way to a destination, verified as the copier does."""

    validator: str | None = None

    def __init__(self, blob: Descriptor, data: bytes) -> None:
        self._blob = blob
        self._data = data
        self._stream: VerifiedStream | None = None

    def start(
        self, offset: int = 0, prefix: Hasher | None = None, validator: str | None = None
    ) -> int:
        self._stream = VerifiedStream(BytesStream(self._data), self._blob)
        return 0

    def refute(self) -> bool:
        return False

    def retrying(self, why: str) -> None: ...

    def waiting(self, pid: int | None) -> None: ...

    def readinto(self, buffer: memoryview, /) -> int:
        assert self._stream is not None, "start() comes first"
        return self._stream.readinto(buffer)


def hint_of(blob: Descriptor) -> BlobHint:
    return BlobHint(blob.digest, blob.size, blob.media_type)


def send(
    destination: ImageDestination, image: TestImage, *, member: bool = False
) -> dict[Digest, str]:
    """Everything but the commit; how each blob arrived."""
    manifest = parse(image.raw)
    assert isinstance(manifest, Manifest)
    hints = [hint_of(blob) for blob in manifest.blobs]
    there = destination.reuse_blobs(hints)
    how = {}
    for blob, hint, present in zip(manifest.blobs, hints, there, strict=True):
        feed = BytesFeed(blob, image.blobs[blob.digest])
        written = "reused" if present else destination.write_blob(feed, hint).how
        how[blob.digest] = str(written)
    destination.settle()
    destination.write_manifest(image.raw, image.raw.digest if member else None)
    return how


def put(
    reference: ImageReference, image: TestImage, signatures: Sequence[bytes] = ()
) -> dict[Digest, str]:
    """Write an image; how each blob arrived."""
    with reference.open_destination() as destination:
        how = send(destination, image)
        if signatures:
            destination.write_signatures(signatures)
        destination.commit()
    return how


def put_index(reference: ImageReference, raw: RawManifest, members: Sequence[TestImage]) -> None:
    """Write an index with ``members``."""
    with reference.open_destination() as destination:
        for member in members:
            send(destination, member, member=True)
        destination.write_manifest(raw)
        destination.commit()


class _OopsError(Exception):
    pass


@contextlib.contextmanager
def doomed(reference: ImageReference) -> Iterator[ImageDestination]:
    """A session of writing that fails at its end, before the commit."""
    with contextlib.suppress(_OopsError), reference.open_destination() as destination:
        yield destination
        raise _OopsError


@dataclass(frozen=True)
class Got:
    """What a source has: the top manifest, its members, all blobs."""

    raw: RawManifest
    members: tuple[RawManifest, ...]
    blobs: dict[Digest, bytes]


def get(reference: ImageReference) -> Got:
    """Read all of an image or index."""
    with reference.open_source() as source:
        raw = source.read_manifest()
        document = parse(raw)
        members: list[RawManifest] = []
        if isinstance(document, Index):
            members = [source.read_manifest(member.digest) for member in document.manifests]
        blobs = {}
        for image in members or [raw]:
            manifest = parse(image)
            assert isinstance(manifest, Manifest)
            for blob in manifest.blobs:
                blobs[blob.digest] = read_blob(source, blob)
    return Got(raw, tuple(members), blobs)


def read_blob(source: ImageSource, blob: Descriptor, offset: int = 0) -> bytes:
    """A whole blob, verified, or what follows ``offset``, as it is."""
    with contextlib.closing(source.open_blob(blob, offset)) as stream:
        if offset:
            assert stream.offset == offset
            return read_limited(stream, 1 << 26, "a blob")
        return read_limited(VerifiedStream(stream, blob), 1 << 26, "a blob")
