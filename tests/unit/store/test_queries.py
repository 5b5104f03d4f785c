from __future__ import annotations

from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, ImageNotFoundError, StoreDamagedError
from kstore.reference import Named
from kstore.store import Store
from tests.support.images import index_of, random_image
from tests.support.stores import named, put_image, put_index


def test_images_come_newest_first_and_those_without_a_date_last(store: Store) -> None:
    put_image(store, random_image(1, created=None))
    put_image(store, random_image(2, created="2020-01-01T00:00:00Z"))
    put_image(store, random_image(3, created="2024-01-01T00:00:00Z"))
    put_image(store, random_image(4, created="1969-01-01T00:00:00Z"))
    years = [image.created.year if image.created else None for image in store.images()]
    assert years == [2024, 2020, 1969, None]


def test_listing_takes_as_many_statements_for_many_images_as_for_one(store: Store) -> None:
    def statements() -> int:
        seen: list[str] = []
        store._session.db.connection.set_trace_callback(seen.append)
        store.images()
        store._session.db.connection.set_trace_callback(None)
        return len(seen)

    put_image(store, random_image(0, labels={"a": "b"}), "x0")
    few = statements()
    for seed in range(1, 8):
        put_image(store, random_image(seed), f"x{seed}")
    assert statements() == few <= 8


def test_names_and_repositories_are_sorted(store: Store) -> None:
    put_image(store, random_image(1), "b:2", "a:1", "b:1", "localhost/c")
    assert [str(n.name) for n in store.names()] == [
        "docker.io/library/a:1",
        "docker.io/library/b:1",
        "docker.io/library/b:2",
        "localhost/c:latest",
    ]
    assert [n.name.tag for n in store.names("docker.io/library/b")] == ["1", "2"]
    assert store.names("docker.io/library/absent") == []
    assert store.repositories() == ["docker.io/library/a", "docker.io/library/b", "localhost/c"]


def test_the_log_can_be_asked_for_one_name_one_repository_or_a_number(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "a:1", "a:2", "b")
    store.untag(named("a:1"))
    assert len(store.name_log()) == 4
    assert [(c.old, c.new) for c in store.name_log(named("a:1"))] == [
        (image.raw.digest, None),
        (None, image.raw.digest),
    ]
    assert len(store.name_log(Named.parse("a"))) == 3
    assert [str(c.name) for c in store.name_log(limit=1)] == ["docker.io/library/a:1"]


def test_a_blob_belongs_to_the_repositories_whose_names_lead_to_it(store: Store) -> None:
    images = [random_image(1), random_image(2)]
    index = index_of(images)
    put_index(store, index, images, "multi:1")
    put_image(store, random_image(3), "single")
    for digest in (index.digest, images[1].raw.digest, images[1].layers[0].digest):
        assert store.blob_in_repository(digest, "docker.io/library/multi")
        assert not store.blob_in_repository(digest, "docker.io/library/single")


def test_facts_count_what_is_there(store: Store, root: Path) -> None:
    image = random_image(1)
    put_image(store, image, "a", "b")
    with store.lease("test") as lease, lease.ingest(Digest.of(b"other"), None) as ingest:
        ingest.write(b"oth")
    facts = store.facts()
    assert (facts.images, facts.names, facts.blobs) == (1, 2, 4)
    assert facts.blob_bytes == sum(map(len, image.blobs.values())) + len(image.raw.data)
    assert (facts.partial_downloads, facts.partial_bytes) == (1, 3)
    assert facts.root == str(root)
    assert facts.free_bytes > 0
    assert facts.database_bytes > 0


def test_an_unknown_id_is_not_found(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    with pytest.raises(ImageNotFoundError):
        store.image(image.id[:12])


def test_a_blob_larger_than_the_cap_is_not_read(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    digest = Digest.of(image.config)
    assert store.read_blob(digest, cap=len(image.config)) == image.config
    with pytest.raises(StoreDamagedError, match="larger than"):
        store.read_blob(digest, cap=len(image.config) - 1)
    with pytest.raises(BlobNotFoundError):
        store.read_blob(Digest.of(b"absent"), cap=10)


def test_one_damaged_entry_does_not_hide_the_other_images(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "good")
        put_image(store, random_image(2), "bad")
        with store._session.write() as db:
            db.execute("UPDATE name SET repository = 'docker.io/UPPER' WHERE name LIKE '%bad%'")
    warnings: list[str] = []
    with Store.open(root, warn=warnings.append) as store:
        names = [name.name.familiar for image in store.images() for name in image.names]
    assert names == ["good:latest"]
    assert "bad" in warnings[0]


def test_a_snapshot_does_not_change(store: Store) -> None:
    put_image(store, random_image(1), "x")
    before = store.images()
    store.untag(named("x"))
    assert len(before[0].names) == 1
    assert store.images()[0].names == ()


def test_a_reader_sees_what_another_process_committed(store: Store, root: Path) -> None:
    assert store.images() == []
    with Store.open(root) as other:
        put_image(other, random_image(1), "x")
    assert len(store.images()) == 1
