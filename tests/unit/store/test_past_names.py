"""The names that images have, and those they had."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from kstore.platforms import Platform
from kstore.reference import Named
from kstore.store import Store
from tests.support.images import index_of, random_image
from tests.support.stores import put_image, put_index

ONE, TWO = random_image(1), random_image(2, platform=Platform("linux", "arm64", "v8"))


def names(store: Store, image_id: str) -> list[str]:
    found = store.past_names(image_id)
    assert found.get(image_id) == store.past_names().get(image_id)
    assert set(found) <= {image_id}
    return list(map(str, found.get(image_id, ())))


def test_a_name_that_moved_on_is_one_of_both_images(store: Store) -> None:
    put_image(store, ONE, "localhost/app:1", "localhost/app:2")
    put_image(store, TWO, "localhost/app:1")
    assert names(store, ONE.id) == ["localhost/app:2", "localhost/app:1"]
    assert names(store, TWO.id) == ["localhost/app:1"]


def test_a_name_that_was_removed_is_remembered_and_one_given_again_comes_first(
    store: Store,
) -> None:
    put_image(store, ONE, "localhost/app:1", "localhost/app:2")
    store.untag(Named.parse("localhost/app:1"))
    assert names(store, ONE.id) == ["localhost/app:2", "localhost/app:1"]
    put_image(store, ONE, "localhost/app:1")
    assert names(store, ONE.id) == ["localhost/app:1", "localhost/app:2"]


def test_an_image_that_never_had_a_name_has_none(store: Store) -> None:
    put_image(store, ONE)
    put_image(store, TWO, "localhost/app:1")
    assert names(store, ONE.id) == []


@pytest.mark.parametrize("image", [ONE, TWO], ids=["amd64", "arm64"])
def test_the_name_of_an_index_is_one_of_its_images(store: Store, image: object) -> None:
    put_index(store, index_of([ONE, TWO]), [ONE, TWO], "localhost/both")
    assert names(store, image.id) == ["localhost/both:latest"]  # type: ignore[attr-defined]


def test_a_name_without_an_entry_in_the_log_counts(store: Store) -> None:
    put_image(store, ONE, "localhost/app:1")
    with contextlib.closing(sqlite3.connect(store.root / "db" / "kstore.db")) as connection:
        connection.execute("DELETE FROM name_log")
        connection.commit()
    assert names(store, ONE.id) == ["localhost/app:1"]
