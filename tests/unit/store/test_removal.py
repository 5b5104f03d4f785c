from __future__ import annotations

from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, ImageNotFoundError, InUseError, StorageError
from kstore.platforms import Platform
from kstore.reference import Named
from kstore.store import Store
from kstore.store.locks import LockClass, digest_key
from tests.support.images import index_of, random_artifact, random_image
from tests.support.stores import listing, named, put_artifact, put_image, put_index

FOREIGN = Platform("linux", "s390x")


def files(root: Path) -> set[str]:
    return set(listing(root / "blobs" / "sha256"))


def names(store: Store) -> list[str]:
    return [record.name.familiar for record in store.names()]


def test_a_tag_gives_an_image_another_name(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    store.tag(store.find_image("x"), [named("y"), Named.parse("localhost/z")])
    assert names(store) == ["x:latest", "y:latest", "localhost/z:latest"]
    assert {record.target for record in store.names()} == {image.raw.digest}


def test_a_tag_moves_a_name_and_logs_who_did_it(root: Path, store: Store) -> None:
    one, two = random_image(1), random_image(2)
    put_image(store, one, "x")
    put_image(store, two, "y")
    with Store.open(root, command="tag y x") as other:
        other.tag(other.find_image(two.id), [named("x")])
    assert store.find_image("x").image.id == two.id
    change = store.name_log(named("x"))[0]
    assert (change.old, change.new, change.command) == (
        one.raw.digest,
        two.raw.digest,
        "tag y x",
    )


def test_a_tag_keeps_where_an_image_came_from(store: Store) -> None:
    image = random_image(1)
    index = index_of([image, random_image(2, platform=FOREIGN)])
    put_image(store, image, "x", via=index)
    store.tag(store.find_image("x"), [named("y")])
    record = store.name(named("y"))
    assert record is not None
    assert record.via == index.digest


def test_a_tag_of_an_index_is_the_index(store: Store) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN)]
    index = index_of(images)
    put_index(store, index, images, "x")
    store.tag(store.find_image("x"), [named("y")])
    store.tag(store.find_image(images[1].id), [named("z")])
    store.tag(index.digest, [named("w")])
    targets = {r.name.familiar: (r.target, r.manifest) for r in store.names()}
    assert targets["y:latest"] == targets["w:latest"] == (index.digest, images[0].raw.digest)
    assert targets["z:latest"] == (images[1].raw.digest, images[1].raw.digest)


def test_what_is_not_in_the_store_cannot_be_tagged(store: Store) -> None:
    with pytest.raises(BlobNotFoundError):
        store.tag(Digest.of(b"absent"), [named("x")])
    put_image(store, random_image(1), "x")
    found = store.find_image("x")
    store.remove_name(named("x"))
    with pytest.raises(BlobNotFoundError):
        store.tag(found, [named("y")])
    assert names(store) == []


def test_untagging_keeps_the_image(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    assert store.untag(named("x")).target == image.raw.digest
    assert store.images()[0].names == ()
    with pytest.raises(ImageNotFoundError, match="x:latest"):
        store.untag(named("x"))


def test_removing_the_last_name_removes_the_image_and_its_files(store: Store, root: Path) -> None:
    image = random_image(1)
    put_image(store, image, "x", "y")
    report = store.remove_name(named("x"))
    assert (report.untagged, report.deleted, report.blobs_removed) == ((named("x"),), (), 0)
    report = store.remove_name(named("y"))
    assert report.untagged == (named("y"),)
    assert report.deleted == (image.id,)
    assert report.blobs_removed == 4
    assert report.bytes_freed == sum(map(len, image.blobs.values())) + len(image.raw.data)
    assert files(root) == set()
    assert store.images() == []


def test_removing_an_absent_name_is_an_error(store: Store) -> None:
    with pytest.raises(ImageNotFoundError):
        store.remove_name(named("x"))


def test_an_image_with_several_names_is_removed_only_by_force(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x", "y")
    with pytest.raises(InUseError, match=r"library/x:latest, docker.io/library/y:latest"):
        store.remove_image(image.id)
    assert names(store) == ["x:latest", "y:latest"]
    report = store.remove_image(image.id, force=True)
    assert report.untagged == (named("x"), named("y"))
    assert report.deleted == (image.id,)


def test_an_image_with_one_name_or_none_is_removed_by_its_id(store: Store) -> None:
    put_image(store, random_image(1), "x")
    put_image(store, random_image(2))
    for image in store.images():
        store.remove_image(image.id)
    assert store.images() == []
    with pytest.raises(ImageNotFoundError):
        store.remove_image(random_image(1).id)


def test_shared_layers_stay_until_their_last_image_goes(store: Store, root: Path) -> None:
    one = random_image(1)
    two = random_image(1, labels={"other": "config"})
    assert one.layers == two.layers
    put_image(store, one, "one")
    put_image(store, two, "two")
    assert store.remove_name(named("one")).blobs_removed == 2  # config and manifest
    assert {layer.digest.hex for layer in two.layers} <= files(root)
    assert not store.check(deep=True).problems
    assert store.remove_name(named("two")).blobs_removed == 4
    assert files(root) == set()


def test_a_removal_sweeps_only_what_it_released(store: Store, root: Path) -> None:
    stray = root / "blobs" / "sha256" / Digest.of(b"stray").hex
    stray.write_bytes(b"stray")
    put_image(store, random_image(1), "x")
    store.remove_name(named("x"))
    assert files(root) == {stray.name}


def test_removing_the_name_of_an_index_removes_all_only_it_named(store: Store, root: Path) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN), random_image(3, platform=FOREIGN)]
    put_index(store, index_of(images), images, "multi")
    put_image(store, images[2], "kept")
    report = store.remove_name(named("multi"))
    assert set(report.deleted) == {images[0].id, images[1].id}
    assert [image.id for image in store.images()] == [images[2].id]
    assert not store.check(deep=True).problems


def test_removing_a_chosen_image_keeps_others_that_came_from_the_same_index(store: Store) -> None:
    one, two = random_image(1), random_image(2, platform=FOREIGN)
    index = index_of([one, two])
    put_image(store, one, "x", via=index)
    put_image(store, two, "x", via=index)  # the name moved; one is left without
    report = store.remove_name(named("x"))
    assert report.deleted == (two.id,)
    assert [image.id for image in store.images()] == [one.id]
    assert store.manifest(index.digest) is None


def test_removing_a_member_leaves_its_index_to_the_others(store: Store) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN)]
    put_index(store, index_of(images), images, "multi")
    store.remove_manifest(images[0].raw.digest)
    record = store.name(named("multi"))
    assert record is not None
    assert record.manifest == images[1].raw.digest
    assert store.find_image("multi").image.id == images[1].id
    assert not store.check(deep=True).problems


def test_removing_an_image_removes_the_artifacts_that_refer_to_it(store: Store, root: Path) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    signature = random_artifact(1, subject=image.raw.descriptor)
    put_artifact(store, signature)
    put_artifact(store, random_artifact(2, subject=image.raw.descriptor), "kept")
    store.remove_name(named("x"))
    assert store.manifest(signature.raw.digest) is None
    assert names(store) == ["kept:latest"]
    store.remove_name(named("kept"))
    assert files(root) == set()


def test_removing_a_manifest_removes_the_names_that_stand_for_it(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x", "y")
    report = store.remove_manifest(image.raw.digest)
    assert set(report.untagged) == {named("x"), named("y")}
    assert report.deleted == (image.id,)
    with pytest.raises(BlobNotFoundError):
        store.remove_manifest(image.raw.digest)


def test_a_removed_index_is_forgotten_by_the_names_chosen_from_it(store: Store) -> None:
    image = random_image(1)
    index = index_of([image])
    put_image(store, image, "x", via=index)
    store.remove_manifest(index.digest)
    record = store.name(named("x"))
    assert record is not None
    assert record.via is None
    assert not store.check().problems


def test_a_file_that_somebody_commits_is_left_to_him(store: Store, root: Path) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    layer = image.layers[0].digest
    session = store._session
    with session.locks.lock(LockClass.OBJECT, digest_key(layer), wait_seconds=1, what="it"):
        assert store.remove_name(named("x")).blobs_removed == 3
    assert files(root) == {layer.hex}
    assert store.prune().blobs_removed == 1


def test_a_store_opened_for_reading_refuses_changes(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    with Store.open(root, read_only=True) as store:
        assert store.read_only
        found = store.find_image("x")
        for change in (
            lambda: store.tag(found, [named("y")]),
            lambda: store.untag(named("x")),
            lambda: store.remove_name(named("x")),
            lambda: store.prune(),
        ):
            with pytest.raises(StorageError, match="can only be read"):
                change()
        assert len(store.images()) == 1
