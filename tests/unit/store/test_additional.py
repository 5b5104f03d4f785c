from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from kstore.errors import (
    BlobNotFoundError,
    ImageNotFoundError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.manifest import MAX_CONFIG_SIZE
from kstore.platforms import Platform, host_platform
from kstore.store import Store, conditions
from tests.support.images import index_of, random_image, write_oci_layout
from tests.support.stores import named, put_image, put_index

MINE, THEIRS, ALSO = random_image(1), random_image(2), random_image(3)


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """Another store, which cannot be written to."""
    path = tmp_path / "theirs"
    with Store.open(path) as store:
        put_image(store, THEIRS, "theirs", "both")
        put_image(store, ALSO)
    return path


@pytest.fixture
def mine(root: Path) -> Path:
    with Store.open(root) as store:
        put_image(store, MINE, "mine", "both")
    return root


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path): (facts.st_mtime_ns, facts.st_ino, path.read_bytes() if path.is_file() else b"")
        for path in sorted(directory.rglob("*"))
        for facts in [path.lstat()]
    }


def test_images_of_all_stores_are_found_and_the_own_come_first(mine: Path, theirs: Path) -> None:
    with Store.open(mine, additional=[theirs]) as store:
        assert store.images()[0].id == MINE.id
        assert {image.id for image in store.images()} == {MINE.id, THEIRS.id, ALSO.id}
        found = store.find_image("theirs")
        assert (found.image.id, found.image.location, found.image.complete) == (
            THEIRS.id, theirs, True
        )  # fmt: skip
        assert found.image.names[0].name == named("both")
        assert store.find_image("both").image.id == MINE.id
        assert store.find_image(THEIRS.id[:10]).image.location == theirs
        assert store.find_image("mine").image.location is None
        assert store.image(ALSO.id).size == sum(map(len, ALSO.blobs.values()))
        assert len(store.images([conditions.named()])) == 2
        with pytest.raises(ImageNotFoundError, match="absent"):
            store.find_image("absent")


def test_what_they_hold_can_be_read_and_nothing_is_written_there(mine: Path, theirs: Path) -> None:
    before = snapshot(theirs)
    with Store.open(mine, additional=[theirs]) as store:
        found = store.find_image("theirs")
        assert store.read_manifest(found.manifest).data == THEIRS.raw.data
        config = found.image.config.digest
        assert store.read_blob(config, cap=MAX_CONFIG_SIZE) == THEIRS.config
        layer = THEIRS.layers[0]
        assert store.blob(layer.digest) == layer.size
        with store.open_blob(layer.digest) as file:
            assert file.read() == THEIRS.blobs[layer.digest]
        with store.lease("push") as lease:
            lease.hold_image(found)
        store.check(deep=True)
        store.prune()
        store.usage()
    assert snapshot(theirs) == before


def test_a_store_that_was_killed_or_belongs_to_another_user_can_be_used(
    mine: Path, theirs: Path
) -> None:
    shutil.rmtree(theirs / "db")
    (theirs / "locks").unlink()
    if os.geteuid() == 0:
        os.chown(theirs, 12345, 12345)
    with Store.open(mine, additional=[theirs]) as store:
        assert store.find_image("theirs").image.id == THEIRS.id


def test_any_oci_layout_will_do(mine: Path, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": THEIRS})
    with Store.open(mine, additional=[tmp_path / "layout"]) as store:
        assert store.find_image("v1").image.id == THEIRS.id
        assert store.find_image("localhost/v1").image.id == THEIRS.id


def test_an_index_leads_to_the_image_for_this_machine(mine: Path, tmp_path: Path) -> None:
    images = [
        random_image(5, platform=Platform("linux", "s390x")),
        random_image(6, platform=host_platform()),
    ]
    with Store.open(tmp_path / "other") as other:
        put_index(other, index_of(images), images, "multi")
    with Store.open(mine, additional=[tmp_path / "other"]) as store:
        assert store.find_image("multi").image.id == images[1].id
        record = store.manifest(index_of(images).digest)
        assert record is not None
        assert record.complete


def test_a_store_of_nothing_else_can_use_them(tmp_path: Path, theirs: Path) -> None:
    with Store.open(tmp_path / "absent", read_only=True, additional=[theirs]) as store:
        assert store.find_image("theirs").image.id == THEIRS.id
    assert not (tmp_path / "absent").exists()


def test_several_are_asked_in_their_order(mine: Path, tmp_path: Path, theirs: Path) -> None:
    with Store.open(tmp_path / "second") as store:
        put_image(store, random_image(9), "theirs", "last")
    with Store.open(mine, additional=[theirs, tmp_path / "second"]) as store:
        assert store.find_image("theirs").image.id == THEIRS.id
        assert store.find_image("last").image.location == tmp_path / "second"


@pytest.mark.parametrize("what", ["config", "manifest", "layer"])
def test_damage_there_concerns_its_image_alone(mine: Path, theirs: Path, what: str) -> None:
    name = {"config": THEIRS.id, "manifest": THEIRS.raw.digest.hex}.get(
        what, THEIRS.layers[0].digest.hex
    )
    path = theirs / "blobs" / "sha256" / name
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))
    warnings: list[str] = []
    with Store.open(mine, additional=[theirs], warn=warnings.append) as store:
        assert store.image(ALSO.id).location == theirs
        if what == "layer":
            assert store.find_image("theirs").image.complete, "only reading it can tell"
            with pytest.raises(StoreDamagedError):
                store.open_blob(THEIRS.layers[0].digest)
        else:
            with pytest.raises(ImageNotFoundError):
                store.find_image("theirs")
            assert any(str(THEIRS.raw.digest) in text for text in warnings)


def test_a_blob_that_is_cut_or_gone_makes_the_image_incomplete(mine: Path, theirs: Path) -> None:
    path = theirs / "blobs" / "sha256" / THEIRS.layers[0].digest.hex
    path.chmod(0o600)
    path.write_bytes(b"cut")
    (theirs / "blobs" / "sha256" / ALSO.layers[0].digest.hex).unlink()
    with Store.open(mine, additional=[theirs]) as store:
        assert not store.find_image("theirs").image.complete
        assert not store.image(ALSO.id).complete
        with pytest.raises(BlobNotFoundError):
            store.open_blob(ALSO.layers[0].digest)


@pytest.mark.parametrize("data", [None, b"", b"[]", b"{}", b'{"manifests":[{}]}'])
def test_what_is_no_store_is_a_warning(mine: Path, tmp_path: Path, data: bytes | None) -> None:
    place = tmp_path / "place"
    if data is not None:
        place.mkdir()
        (place / "index.json").write_bytes(data)
    warnings: list[str] = []
    with Store.open(mine, additional=[place], warn=warnings.append) as store:
        assert [image.id for image in store.images()] == [MINE.id]
        assert store.find_image("mine").image.id == MINE.id
    assert len(warnings) == 1
    assert str(place) in warnings[0]


def test_a_hostile_index_is_bounded(mine: Path, tmp_path: Path) -> None:
    place = tmp_path / "layout"
    write_oci_layout(place, {"v1": THEIRS})
    document = json.loads((place / "index.json").read_bytes())
    evil = {**document["manifests"][0], "digest": "sha256:../../../../etc/passwd"}
    document["manifests"].append(evil)
    (place / "index.json").write_text(json.dumps(document))
    warnings: list[str] = []
    with Store.open(mine, additional=[place], warn=warnings.append) as store:
        assert [image.id for image in store.images()] == [MINE.id]
    assert len(warnings) == 1


def test_their_images_cannot_be_changed(mine: Path, theirs: Path) -> None:
    with Store.open(mine, additional=[theirs]) as store:
        with pytest.raises(UnsupportedError, match="additional store"):
            store.tag(store.find_image("theirs"), [named("new")])
        with pytest.raises(ImageNotFoundError):
            store.remove_name(named("theirs"))
        with pytest.raises(ImageNotFoundError):
            store.remove_image(THEIRS.id)
