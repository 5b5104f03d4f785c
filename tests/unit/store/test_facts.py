"""What the store remembers about layers."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import StorageError
from kstore.operations.images import list_images
from kstore.store import LayerFact, Store, facts, schema
from tests.support.images import random_image
from tests.support.stores import put_image

PLAIN = Digest.of(b"plain")


def fact(number: int, compression: str = "gzip", level: int | None = None) -> LayerFact:
    return LayerFact(Digest.of(str(number).encode()), number, PLAIN, compression, level)


def test_a_fact_is_found_by_its_blob_and_by_what_the_blob_unpacks_to(store: Store):
    table = store.layer_facts
    table.record([fact(1), fact(2, "zstd", 19)])
    assert table.about(fact(1).digest) == fact(1)
    assert table.packed(PLAIN, "gzip") == (fact(1),)
    assert table.packed(PLAIN, "zstd") == table.packed(PLAIN, "zstd", 19) == (fact(2, "zstd", 19),)
    assert table.packed(PLAIN, "zstd", 3) == ()
    assert table.packed(Digest.of(b"other"), "gzip") == ()
    assert table.about(Digest.of(b"other")) is None


def test_a_fact_stays_when_it_is_found_out_again(store: Store):
    table = store.layer_facts
    table.record([fact(1, level=5)])
    table.record([fact(1)])
    assert table.about(fact(1).digest) == fact(1, level=5)


def test_only_a_few_blobs_are_offered_the_newest_first(store: Store):
    table = store.layer_facts
    for number in range(10):
        table.record([fact(number)])
    offered = table.packed(PLAIN, "gzip")
    assert [f.size for f in offered] == [9, 8, 7, 6]


def test_only_the_newest_facts_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(facts, "MAX_FACTS", 3)
    for number in range(5):
        store.layer_facts.record([fact(number)])
    known = [store.layer_facts.about(fact(number).digest) for number in range(5)]
    assert known == [None, None, fact(2), fact(3), fact(4)]


def test_a_store_that_can_only_be_read_remembers_nothing(root: Path):
    Store.open(root).close()
    with Store.open(root, read_only=True) as store:
        store.layer_facts.record([fact(1)])
        assert store.layer_facts.about(fact(1).digest) is None


def test_a_store_of_the_first_version_is_upgraded_and_keeps_its_names(root: Path):
    image = random_image(1)
    with Store.open(root) as store:
        put_image(store, image, "app")
    make_first_version(root)
    with Store.open(root) as store:
        assert store.find_image("app").image.id == image.id
        store.layer_facts.record([fact(1)])
        assert store.layer_facts.about(fact(1).digest) == fact(1)
        assert store.facts().schema_version == schema.SCHEMA_VERSION


def test_a_store_of_the_first_version_can_be_read_as_it_is(root: Path):
    image = random_image(1)
    with Store.open(root) as store:
        put_image(store, image, "app")
    make_first_version(root)
    database = root / "db" / "kstore.db"
    before = database.read_bytes()
    with Store.open(root, read_only=True) as store:
        assert store.find_image("app").image.id == image.id
        assert list_images(store, None, ["containers=true"]) == []
        assert len(list_images(store, None, ["containers=false"])) == 1
        assert store.containers.all() == []
        assert store.layer_facts.about(image.layers[0].digest) is None
        assert store.facts().schema_version == 1
        store.layer_facts.record([fact(1)])
        assert store._session.db.row("PRAGMA query_only") == (1,)
        with pytest.raises(StorageError, match="can only be read"):
            store.untag(store.names()[0].name)
        assert store.check(deep=True).problems == ()
    assert database.read_bytes() == before


def make_first_version(root: Path) -> None:
    """Take away from a store what later versions brought."""
    connection = sqlite3.connect(root / "db" / "kstore.db")
    connection.execute("DROP TABLE layer_fact")
    connection.execute("DROP VIEW containers_view")
    connection.execute("DROP TABLE container")
    connection.execute("DROP TABLE signature")
    connection.execute("DROP TABLE protection")
    connection.execute("DELETE FROM _sqlite_migrations WHERE name <> '0001_first'")
    connection.execute("PRAGMA user_version = 1")
    connection.commit()
    connection.close()
