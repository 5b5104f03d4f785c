"""Taking names away."""

from __future__ import annotations

import pytest

from kstore.errors import ImageNotFoundError, InvalidInputError
from kstore.operations.untag import untag_image
from kstore.store import Store
from tests.support.images import random_image
from tests.support.stores import put_image

IMAGE = random_image(1)


def test_the_last_name_goes_and_the_image_stays(store: Store) -> None:
    put_image(store, IMAGE, "localhost/app")
    assert str(untag_image(store, "app")) == "localhost/app:latest"
    assert store.image(IMAGE.id).names == ()


def test_only_the_name_that_was_said_goes(store: Store) -> None:
    put_image(store, IMAGE, "localhost/app:1", "localhost/app:2")
    untag_image(store, "app:1")
    assert [str(record.name) for record in store.names()] == ["localhost/app:2"]


def test_an_id_will_do_for_a_single_name(store: Store) -> None:
    put_image(store, IMAGE, "quay.io/team/app:1")
    assert str(untag_image(store, IMAGE.id[:12])) == "quay.io/team/app:1"


def test_an_id_of_several_names_or_none_is_refused(store: Store) -> None:
    put_image(store, IMAGE, "localhost/app:1", "localhost/app:2")
    with pytest.raises(InvalidInputError, match=r"2 names.*localhost/app:1, localhost/app:2"):
        untag_image(store, IMAGE.id)
    untag_image(store, "app:1")
    untag_image(store, "app:2")
    with pytest.raises(InvalidInputError, match="0 names"):
        untag_image(store, IMAGE.id)


def test_a_name_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(ImageNotFoundError):
        untag_image(store, "app")


def test_a_digest_never_takes_a_name_away_that_does_not_have_it(store: Store) -> None:
    put_image(store, IMAGE, "localhost/app:1", f"localhost/pinned@{IMAGE.raw.digest}")
    with pytest.raises(InvalidInputError, match="not a name") as caught:
        untag_image(store, f"localhost/app:1@{IMAGE.raw.digest}")
    assert caught.value.hint == "kstore untag localhost/app:1"
    untag_image(store, f"localhost/pinned@{IMAGE.raw.digest}")
    assert [str(record.name) for record in store.names()] == ["localhost/app:1"]


def test_a_name_of_another_registry_stays_where_only_its_end_was_said(store: Store) -> None:
    put_image(store, IMAGE, "a.example/app:1", "b.example/app:1")
    with pytest.raises(ImageNotFoundError) as caught:
        untag_image(store, "app:1")
    assert caught.value.hint == "did you mean a.example/app:1 or b.example/app:1?"
    assert len(store.names()) == 2
