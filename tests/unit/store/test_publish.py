from __future__ import annotations

import json
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, InvalidManifestError, StoreDamagedError
from kstore.manifest import RawManifest
from kstore.platforms import Platform, host_platform
from kstore.reference import Named
from kstore.store import Publication, Store
from tests.support.images import index_of, random_artifact, random_image
from tests.support.stores import listing, named, put_artifact, put_blobs, put_image, put_index

FOREIGN = Platform("linux", "s390x")
OTHER = Platform("linux", "ppc64le")


def test_a_published_image_has_the_facts_of_its_config(store: Store) -> None:
    image = random_image(1, labels={"a": "1", "b": "2"}, created="2024-01-02T03:04:05Z")
    record = put_image(store, image, "busybox", "localhost/mine:v1")
    assert record.id == image.id
    assert record.config.digest == Digest.of(image.config)
    assert record.config.media_type == mt.OCI_CONFIG
    assert record.manifests == (image.raw.digest,)
    assert [str(name.name) for name in record.names] == [
        "docker.io/library/busybox:latest",
        "localhost/mine:v1",
    ]
    assert record.created is not None
    assert record.created.isoformat() == "2024-01-02T03:04:05+00:00"
    assert record.labels == {"a": "1", "b": "2"}
    assert record.platform == image.platform
    assert record.size == sum(map(len, image.blobs.values()))
    assert record.complete
    assert store.images() == [record]
    assert store.image(image.id) == record


def test_an_image_without_a_date_has_none(store: Store) -> None:
    assert put_image(store, random_image(1, created=None)).created is None


def test_a_manifest_is_read_back_byte_for_byte(store: Store) -> None:
    image = random_image(1, docker=True)
    put_image(store, image, "x")
    raw = store.read_manifest(image.raw.digest)
    assert raw == image.raw
    record = store.manifest(image.raw.digest)
    assert record is not None
    assert record.descriptor == image.raw.descriptor
    assert (record.image_id, record.is_index, record.complete) == (image.id, False, True)


def test_an_absent_manifest_is_not_found(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    assert store.manifest(Digest.of(b"")) is None
    with pytest.raises(BlobNotFoundError):
        store.read_manifest(Digest.of(b""))
    with pytest.raises(BlobNotFoundError):
        store.read_manifest(next(iter(image.blobs)))  # a blob, but no manifest


def test_nothing_is_published_when_a_blob_is_absent(store: Store) -> None:
    image = random_image(1)
    absent = image.layers[0].digest
    with store.lease("test") as lease:
        for digest, data in image.blobs.items():
            if digest != absent:
                lease.put_bytes(data, "x")
        with pytest.raises(BlobNotFoundError, match=str(absent)):
            lease.publish(Publication(image.raw, (named("x"),)))
    assert store.images() == []
    assert store.names() == []
    assert store.manifest(image.raw.digest) is None
    assert store.name_log() == []


def test_nothing_is_published_when_a_file_is_gone(store: Store, root: Path) -> None:
    image = random_image(1)
    with store.lease("test") as lease:
        put_blobs(lease, image)
        (root / "blobs" / "sha256" / image.layers[0].digest.hex).unlink()
        with pytest.raises(StoreDamagedError, match=image.layers[0].digest.hex):
            lease.publish(Publication(image.raw, (named("x"),)))
    assert store.names() == []


def test_nothing_is_published_when_the_config_is_damaged(store: Store, root: Path) -> None:
    image = random_image(1)
    with store.lease("test") as lease:
        put_blobs(lease, image)
        path = root / "blobs" / "sha256" / Digest.of(image.config).hex
        path.unlink()
        path.write_bytes(b"x" * len(image.config))
        with pytest.raises(StoreDamagedError, match=path.name):
            lease.publish(Publication(image.raw, (named("x"),)))
    assert store.images() == []


def test_a_manifest_that_lies_about_a_size_is_not_published(store: Store) -> None:
    image = random_image(1)
    document = json.loads(image.raw.data)
    document["layers"][0]["size"] += 1
    with store.lease("test") as lease:
        put_blobs(lease, image)
        with pytest.raises(StoreDamagedError, match="bytes, but it has"):
            lease.publish(Publication(RawManifest.receive(json.dumps(document).encode())))


def test_a_config_that_is_no_config_is_not_published(store: Store) -> None:
    image, config = random_image(1), b'{"os": 7}'
    document = json.loads(image.raw.data)
    document["config"] |= {"digest": str(Digest.of(config)), "size": len(config)}
    with store.lease("test") as lease:
        put_blobs(lease, image)
        lease.put_bytes(config, mt.OCI_CONFIG)
        with pytest.raises(InvalidManifestError):
            lease.publish(Publication(RawManifest.receive(json.dumps(document).encode())))
    assert store.images() == []


def test_publishing_again_changes_nothing(store: Store) -> None:
    image = random_image(1)
    first = put_image(store, image, "x")
    again = put_image(store, image, "x")
    assert again.id == first.id
    assert again.added_at == first.added_at
    assert len(store.name_log()) == 1


def test_a_name_moves_to_the_image_published_last(store: Store) -> None:
    one, two = random_image(1), random_image(2)
    put_image(store, one, "x", "y")
    put_image(store, two, "x")
    assert store.find_image("x").image.id == two.id
    assert [str(n.name.familiar) for n in store.image(one.id).names] == ["y:latest"]
    newest = store.name_log(named("x"))[0]
    assert (newest.old, newest.new) == (one.raw.digest, two.raw.digest)
    assert newest.command == "test"


def test_two_manifests_of_one_config_are_one_image(store: Store) -> None:
    image = random_image(1)
    document = json.loads(image.raw.data) | {"annotations": {"note": "other"}}
    raw = RawManifest.receive(json.dumps(document).encode())
    put_image(store, image, "one")
    with store.lease("test") as lease:
        record = lease.publish(Publication(raw, (named("two"),)))
    assert record is not None
    assert record.manifests == (image.raw.digest, raw.digest)
    assert record.size == sum(map(len, image.blobs.values()))
    assert len(store.images()) == 1
    assert store.find_image("two").manifest == raw.digest


def test_an_index_leads_to_the_image_for_this_machine(store: Store) -> None:
    images = [random_image(1, platform=FOREIGN), random_image(2, platform=host_platform())]
    index = index_of(images)
    record = put_index(store, index, images, "multi")
    assert record is not None
    assert record.id == images[1].id
    name = store.name(named("multi"))
    assert name is not None
    assert (name.target, name.manifest) == (index.digest, images[1].raw.digest)
    found = store.manifest(index.digest)
    assert found is not None
    assert (found.is_index, found.image_id, found.complete) == (True, None, True)


def test_an_index_without_an_image_for_this_machine_leads_to_its_first(store: Store) -> None:
    images = [random_image(1, platform=FOREIGN), random_image(2, platform=OTHER)]
    record = put_index(store, index_of(images), images, "multi")
    assert record is not None
    assert record.id == images[0].id


def test_members_of_an_index_may_be_absent(store: Store) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN)]
    index = index_of(images)
    put_index(store, index, images[:1], "multi")
    found = store.manifest(index.digest)
    assert found is not None
    assert not found.complete
    assert store.find_image("multi").image.id == images[0].id
    assert put_index(store, index_of(images[1:]), [], "none") is None


def test_an_image_remembers_the_index_it_was_chosen_from(store: Store) -> None:
    image = random_image(1)
    index = index_of([image, random_image(2, platform=FOREIGN)])
    put_image(store, image, "x", via=index)
    name = store.name(named("x"))
    assert name is not None
    assert (name.target, name.via) == (image.raw.digest, index.digest)
    assert store.read_manifest(index.digest).data == index.data


def test_artifacts_are_stored_and_found_by_their_subject(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    raw = put_artifact(store, random_artifact(1, subject=image.raw.descriptor), "x:signature")
    (referrer,) = store.referrers(image.raw.digest)
    assert referrer.digest == raw.digest
    assert referrer.artifact_type == "application/x.test"
    assert referrer.annotations == {"seed": "1"}
    assert len(store.images()) == 1
    assert store.referrers(raw.digest) == []


def test_a_subject_may_be_absent(store: Store) -> None:
    subject = random_image(9).raw.descriptor
    put_artifact(store, random_artifact(1, subject=subject))
    assert len(store.referrers(subject.digest)) == 1


def test_a_name_with_a_digest_is_stored_as_it_is(store: Store) -> None:
    image = random_image(1)
    name = Named.parse("busybox").with_digest(image.raw.digest)
    with store.lease("test") as lease:
        put_blobs(lease, image)
        lease.publish(Publication(image.raw, (name,)))
    record = store.name(name)
    assert record is not None
    assert record.name == name


def test_a_foreign_layer_may_be_absent(store: Store) -> None:
    image = random_image(1, docker=True)
    document = json.loads(image.raw.data)
    document["layers"][0] |= {
        "mediaType": mt.DOCKER_FOREIGN_LAYER,
        "digest": str(Digest.of(b"far away")),
        "urls": ["https://example.com/layer"],
    }
    with store.lease("test") as lease:
        put_blobs(lease, image)
        record = lease.publish(Publication(RawManifest.receive(json.dumps(document).encode())))
    assert record is not None
    assert record.complete
    assert not store.check().problems


def test_published_manifests_leave_no_private_files(store: Store, root: Path) -> None:
    put_image(store, random_image(1), "x")
    assert listing(root / "ingest") == []


def test_a_manifest_file_that_was_damaged_is_healed_by_publishing_again(
    store: Store, root: Path
) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    path = root / "blobs" / "sha256" / image.raw.digest.hex
    path.unlink()
    path.write_bytes(b"x" * len(image.raw.data))
    with pytest.raises(StoreDamagedError) as caught:
        store.read_manifest(image.raw.digest)
    assert caught.value.hint == "kstore check --repair"
    put_image(store, image, "x")
    assert store.read_manifest(image.raw.digest).data == image.raw.data
