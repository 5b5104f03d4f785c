from __future__ import annotations

import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import ImageNotFoundError, InUseError
from kstore.operations.working import make_container
from kstore.platforms import Platform
from kstore.store import Store, UsageReport
from tests.support.images import index_of, random_artifact, random_image
from tests.support.stores import fail_to_pull, named, put_artifact, put_image, put_index

ONE, TWO = random_image(1), random_image(2)


def kinds(usage: UsageReport) -> dict[str, int]:
    return {kind.kind: kind.bytes for kind in usage.kinds}


def du(root: Path) -> int:
    """Without what is there only while the store is open."""
    words = ["du", "-s", "--block-size=1", "--exclude=kstore.db-shm", str(root)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


def test_the_kinds_of_files_add_up_to_what_du_says(store: Store, root: Path) -> None:
    put_image(store, ONE, "one")
    put_image(store, TWO)
    fail_to_pull(store, random_image(3))
    make_container(store, "one")
    store.prune(only_images=())
    with store.lease("test") as lease, lease.ingest(Digest.of(b"begun"), 50_000) as ingest:
        ingest.write(bytes(20_000))
    (root / "notes.txt").write_text("mine")
    victim = root / "blobs" / "sha256" / ONE.layers[0].digest.hex
    victim.chmod(0o600)
    victim.write_bytes(b"rot")
    store.check(deep=True)
    store.repairs.set_aside(ONE.layers[0].digest)
    usage = store.usage()
    assert usage.total == du(root)
    found = kinds(usage)
    assert all(found[kind] > 0 for kind in found if kind != "quarantine"), found
    assert usage.free_bytes > 0


def test_an_empty_store_can_be_measured(store: Store, root: Path) -> None:
    usage = store.usage()
    assert usage.images == ()
    assert usage.total == du(root)


def test_unique_is_what_removing_the_image_frees(store: Store) -> None:
    base = random_image(1)
    put_image(store, base, "base")
    put_image(store, random_image(1, labels={"a": "b"}), "derived")  # the same layers
    put_image(store, TWO, "two")
    put_artifact(store, random_artifact(1, subject=TWO.raw.descriptor))
    layers = sum(layer.size for layer in base.layers)
    for image in store.usage().images:
        with store.rehearse():
            freed = store.remove_image(image.image_id).bytes_freed
        assert freed == image.unique
        assert image.shared == (0 if image.image_id == TWO.id else layers)
    usage = {image.image_id: image for image in store.usage().images}
    assert usage[base.id].shared == layers
    assert usage[base.id].total == layers + len(base.config) + len(base.raw.data)


def test_an_index_counts_for_its_images_and_members_that_are_not_here_do_not(
    store: Store,
) -> None:
    images = [random_image(1), random_image(2, platform=Platform("linux", "s390x"))]
    index = index_of(images)
    put_index(store, index, images[:1], "multi")
    [image] = store.usage().images
    assert image.unique == sum(map(len, images[0].blobs.values())) + len(images[0].raw.data) + len(
        index.data
    )


def test_what_is_unreferenced_is_what_a_prune_removes(store: Store) -> None:
    put_image(store, ONE, "one")
    put_image(store, TWO)
    before = kinds(store.usage())
    assert before["unreferenced"] > 0
    store.prune()
    after = kinds(store.usage())
    assert after["unreferenced"] == 0
    assert after["images"] == before["images"]


def test_a_rehearsed_removal_tells_what_a_real_one_does_and_changes_nothing(
    store: Store, root: Path
) -> None:
    put_image(store, random_image(1), "base")
    put_image(store, random_image(1, labels={"a": "b"}), "derived")
    files = sorted((root / "blobs" / "sha256").iterdir())

    def remove() -> list[object]:
        return [store.remove_name(named("base")), store.remove_name(named("derived"))]

    with store.rehearse():
        rehearsed = remove()
        assert store.images() == []
    assert len(store.images()) == 2
    assert sorted((root / "blobs" / "sha256").iterdir()) == files
    assert store.check(deep=True).problems == ()
    assert remove() == rehearsed
    assert list((root / "blobs" / "sha256").iterdir()) == []


def test_a_failure_inside_a_rehearsal_undoes_only_itself(store: Store) -> None:
    put_image(store, ONE, "one", "uno")
    put_image(store, TWO, "two")
    with store.rehearse():
        with pytest.raises(InUseError):
            store.remove_image(ONE.id)
        store.remove_name(named("two"))
        assert [image.id for image in store.images()] == [ONE.id]
    assert len(store.images()) == 2


def test_a_protected_name_is_not_removed_by_anything(store: Store) -> None:
    put_image(store, ONE, "one", "uno")
    store.protection.add([named("one")])
    assert store.protection.names() == [named("one")]
    for removal in (
        lambda: store.untag(named("one")),
        lambda: store.remove_name(named("one")),
        lambda: store.remove_image(ONE.id, force=True),
        lambda: store.remove_manifest(ONE.raw.digest),
    ):
        with pytest.raises(InUseError, match="one:latest is protected") as caught:
            removal()
        assert caught.value.hint == "kstore unprotect one:latest"
    assert [name.name for name in store.names()] == [named("one"), named("uno")]
    store.remove_name(named("uno"))
    store.protection.release([named("one")])
    assert store.remove_name(named("one")).deleted == (ONE.id,)


def test_a_protected_name_can_move(store: Store) -> None:
    put_image(store, ONE, "one")
    store.protection.add([named("one")])
    put_image(store, TWO, "one")
    assert store.find_image("one").image.id == TWO.id
    assert store.protection.names() == [named("one")]


def test_only_a_name_in_use_can_be_protected(store: Store) -> None:
    put_image(store, ONE, "one")
    with pytest.raises(ImageNotFoundError):
        store.protection.add([named("one"), named("absent")])
    assert store.protection.names() == []
    store.protection.release([named("absent")])


def test_an_older_store_has_no_protected_names_and_gets_the_table(
    root: Path, tmp_path: Path
) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "one")
    older = tmp_path / "older"
    shutil.copytree(root, older)
    connection = sqlite3.connect(older / "db" / "kstore.db")
    connection.executescript(
        "DROP TABLE protection; PRAGMA user_version = 4;"
        "DELETE FROM _sqlite_migrations WHERE name = '0005_protection'"
    )
    connection.close()
    with Store.open(older, read_only=True) as store:
        assert store.protection.names() == []
        assert len(store.images()) == 1
    with Store.open(older) as store:
        store.protection.add([named("one")])
        assert store.protection.names() == [named("one")]
