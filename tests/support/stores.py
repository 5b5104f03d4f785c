"""Stores with images in them, filled through the public road: ingest, commit, publish."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from kstore.digest import Digest
from kstore.manifest import RawManifest
from kstore.reference import Named
from kstore.store import ImageRecord, Lease, Publication, Store
from tests.support.images import TestImage


def named(text: str) -> Named:
    """A name as a user writes it, with its tag."""
    return Named.parse(text).with_default_tag()


def listing(directory: Path) -> list[str]:
    """The names in a directory, sorted."""
    return sorted(path.name for path in directory.iterdir())


def fail_to_pull(store: Store, image: TestImage) -> None:
    """Bring the blobs of an image into the store, then fail before its manifest."""
    with contextlib.suppress(KeyError), store.lease("test") as lease:
        put_blobs(lease, image)
        raise KeyError("the manifest could not be fetched")


def put_blobs(
    lease: Lease, image: TestImage, *, origin: tuple[str, str] | None = None
) -> list[Digest]:
    """Bring every blob of the image into the store; return those that were written."""
    there = lease.adopt((digest, len(data)) for digest, data in image.blobs.items())
    staged = []
    for digest, data in image.blobs.items():
        if digest not in there:
            with lease.ingest(digest, len(data)) as ingest:
                if ingest.present:
                    assert lease.adopt([(digest, len(data))]) == {digest}
                    continue
                ingest.restart()
                ingest.write(memoryview(data))
                staged.append(ingest.stage(digest, len(data)))
    lease.commit_blobs(staged, origin=origin)
    return [blob.digest for blob in staged]


def put_image(
    store: Store,
    image: TestImage,
    *names: str,
    via: RawManifest | None = None,
    origin: tuple[str, str] | None = None,
) -> ImageRecord:
    """Store an image under names, as a pull does."""
    with store.lease("test") as lease:
        put_blobs(lease, image, origin=origin)
        record = lease.publish(Publication(image.raw, tuple(map(named, names)), via=via))
    assert record is not None
    return record


def put_index(
    store: Store, index: RawManifest, members: Sequence[TestImage], *names: str
) -> ImageRecord | None:
    """Store an index with those members under names, as a pull of all platforms does."""
    with store.lease("test") as lease:
        for member in members:
            put_blobs(lease, member)
        raws = tuple(member.raw for member in members)
        return lease.publish(Publication(index, tuple(map(named, names)), members=raws))


def put_artifact(store: Store, artifact: TestImage, *names: str) -> RawManifest:
    """Store an artifact, perhaps under names; its manifest."""
    with store.lease("test") as lease:
        put_blobs(lease, artifact)
        assert lease.publish(Publication(artifact.raw, tuple(map(named, names)))) is None
    return artifact.raw
