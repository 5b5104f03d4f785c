"""Signatures come into the store with their manifest, and go with it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, IntegrityError
from kstore.store import Publication, Store
from kstore.store.signatures import MAX_SIGNATURES
from tests.support.images import index_of, random_image
from tests.support.stores import named, put_blobs, put_image

IMAGE = random_image(1)
DIGEST = IMAGE.raw.digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def publish(store: Store, *signatures: bytes) -> None:
    with store.lease("test") as lease:
        put_blobs(lease, IMAGE)
        lease.publish(Publication(IMAGE.raw, (named("app"),), signatures={DIGEST: signatures}))


def test_signatures_are_kept_in_their_order_beyond_the_process(root: Path) -> None:
    with Store.open(root) as store:
        publish(store, b"two", b"one")
    with Store.open(root, read_only=True) as store:
        assert store.signatures(DIGEST) == [b"two", b"one"]
        assert store.signatures(Digest.of(b"x")) == []


def test_those_of_another_name_are_added_and_none_is_there_twice(root: Path) -> None:
    with Store.open(root) as store:
        publish(store, b"one", b"one")
        publish(store, b"two", b"one")
        store.add_signatures(DIGEST, [b"three", b"two"])
        publish(store)
        assert store.signatures(DIGEST) == [b"one", b"two", b"three"]


def test_members_of_an_index_have_their_own(root: Path) -> None:
    index = index_of([IMAGE])
    with Store.open(root) as store, store.lease("test") as lease:
        put_blobs(lease, IMAGE)
        signatures = {DIGEST: [b"member's"], index.digest: [b"index's"]}
        lease.publish(
            Publication(index, (named("app"),), members=(IMAGE.raw,), signatures=signatures)
        )
        assert store.signatures(DIGEST) == [b"member's"]
        assert store.signatures(index.digest) == [b"index's"]


def test_they_go_with_the_image_and_stay_with_another_name(root: Path) -> None:
    with Store.open(root) as store:
        publish(store, b"one")
        store.tag(store.find_image("app"), [named("other")])
        store.remove_name(named("app"))
        assert store.signatures(DIGEST) == [b"one"]
        store.remove_image(IMAGE.id)
        assert store.signatures(DIGEST) == []
        publish(store)
        assert store.signatures(DIGEST) == []


def test_a_publication_that_fails_leaves_no_signature(root: Path) -> None:
    with Store.open(root) as store:
        publish(store, b"old")
        with pytest.raises(IntegrityError, match="more than 128"):
            publish(store, *(bytes([n]) for n in range(MAX_SIGNATURES)))
        assert store.signatures(DIGEST) == [b"old"]


def test_a_manifest_that_is_not_there_cannot_be_signed(root: Path) -> None:
    with Store.open(root) as store, pytest.raises(BlobNotFoundError, match="not in the store"):
        store.add_signatures(DIGEST, [b"one"])


def test_a_store_of_the_version_before_has_none_and_gets_some(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, IMAGE, "app")
    with closing(sqlite3.connect(root / "db" / "kstore.db")) as connection:
        connection.execute("DROP TABLE signature")
        connection.execute("DROP TABLE protection")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name >= '0004'")
        connection.execute("PRAGMA user_version = 3")
        connection.commit()
    with Store.open(root, read_only=True) as store:
        assert store.signatures(DIGEST) == []
    with Store.open(root) as store:
        store.add_signatures(DIGEST, [b"one"])
        assert store.signatures(DIGEST) == [b"one"]
