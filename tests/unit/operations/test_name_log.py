"""What names pointed to, and going back."""

from __future__ import annotations

import pytest

from kstore.errors import (
    ImageNotFoundError,
    InvalidInputError,
    NotFoundError,
    StoreDamagedError,
)
from kstore.operations.name_log import name_log, restore_name
from kstore.operations.rmi import remove_images
from kstore.operations.tag import tag_image
from kstore.operations.untag import untag_image
from kstore.store import Store
from tests.support.images import index_of, random_image
from tests.support.stores import named, put_image, put_index

ONE, TWO = random_image(1), random_image(2)


def moved(store: Store) -> None:
    """The name app meant ONE, then TWO."""
    put_image(store, ONE, "localhost/app")
    put_image(store, TWO, "localhost/app")


def test_entries_are_counted_for_each_name_from_the_newest(store: Store) -> None:
    moved(store)
    tag_image(store, "app", ["other"])
    assert [(entry.place, entry.restorable) for entry in name_log(store, None)] == [
        ("localhost/other:latest@{0}", True),
        ("localhost/app:latest@{0}", True),
        ("localhost/app:latest@{1}", True),
    ]
    assert [entry.place for entry in name_log(store, "app", 1)] == ["localhost/app:latest@{0}"]


def test_a_name_goes_back_to_where_it_was(store: Store) -> None:
    moved(store)
    result = restore_name(store, "app@{1}")
    assert (result.target, list(map(str, result.names))) == (
        ONE.raw.digest,
        ["localhost/app:latest"],
    )
    assert store.find_image("app").image.id == ONE.id
    restore_name(store, "localhost/app:latest@{1}")
    assert store.find_image("app").image.id == TWO.id


def test_what_a_name_was_can_get_another_name(store: Store) -> None:
    moved(store)
    restore_name(store, "app@{1}", ["old", "quay.io/me/old:1"])
    assert store.find_image("old").image.id == store.find_image("quay.io/me/old:1").image.id
    assert store.find_image("old").image.id == ONE.id
    assert store.find_image("app").image.id == TWO.id


def test_a_name_that_was_taken_away_comes_back(store: Store) -> None:
    put_image(store, ONE, "localhost/app")
    untag_image(store, "app")
    with pytest.raises(NotFoundError, match="taken away"):
        restore_name(store, "app@{0}")
    restore_name(store, "app@{1}")
    assert store.find_image("app").image.id == ONE.id


def test_an_index_comes_back_as_an_index(store: Store) -> None:
    index = index_of([ONE, TWO])
    put_index(store, index, [ONE, TWO], "localhost/app")
    put_image(store, TWO, "localhost/app")
    restore_name(store, "app@{1}")
    record = store.name(named("localhost/app"))
    assert record is not None
    assert (record.target, record.manifest) == (index.digest, ONE.raw.digest)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("localhost/app", None),
        ("quay.io/team/app", f"kstore pull quay.io/team/app@{ONE.raw.digest}"),
    ],
)
def test_content_that_is_gone_is_said_to_be(store: Store, name: str, hint: str | None) -> None:
    put_image(store, ONE, name)
    put_image(store, TWO, name)
    remove_images(store, [ONE.id])
    assert [entry.restorable for entry in name_log(store, name)] == [True, False]
    with pytest.raises(ImageNotFoundError, match="no longer in the store") as caught:
        restore_name(store, f"{name}@{{1}}")
    assert caught.value.hint == hint
    assert store.find_image(name).image.id == TWO.id


def test_content_of_which_blobs_are_missing_is_not_brought_back(store: Store) -> None:
    moved(store)
    (store.root / "blobs" / "sha256" / ONE.layers[0].digest.hex).unlink()
    store.check()
    with pytest.raises(StoreDamagedError, match="missing"):
        restore_name(store, "app@{1}")


def test_a_place_the_log_does_not_have_is_not_found(store: Store) -> None:
    moved(store)
    with pytest.raises(NotFoundError, match=r"goes back to @\{1\}, not to @\{2\}"):
        restore_name(store, "app@{2}")
    with pytest.raises(NotFoundError, match="other"):
        restore_name(store, "other@{0}")


@pytest.mark.parametrize(
    "place", ["app", "app@1", "app@{}", "app@{-1}", "@{1}", "app@{1}x", "app@{9999999999}", ""]
)
def test_what_is_no_place_is_refused(store: Store, place: str) -> None:
    with pytest.raises(InvalidInputError):
        restore_name(store, place)
