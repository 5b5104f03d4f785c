"""Giving an image more names."""

from __future__ import annotations

import pytest

from kstore.errors import ImageNotFoundError, InvalidInputError, InvalidReferenceError
from kstore.operations.tag import parse_new_name, tag_image
from kstore.store import Store
from tests.support.images import random_image
from tests.support.stores import put_image

ONE, TWO = random_image(1), random_image(2)
DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("foobar", "localhost/foobar:latest"),
        ("foobar:v", "localhost/foobar:v"),
        ("docker.io/foo", "docker.io/library/foo:latest"),
        ("quay.io/a/b:t", "quay.io/a/b:t"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
    ],
)
def test_a_new_name_is_kept_in_its_full_form(text: str, name: str) -> None:
    assert str(parse_new_name(text)) == name


@pytest.mark.parametrize("text", ["Foo", "a b", "", f"foo@{DIGEST}", f"foo:1@{DIGEST}", "foo:"])
def test_what_is_no_new_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_new_name(text)


def test_names_move_from_other_images_and_may_be_given_twice(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    put_image(store, TWO, "localhost/two")
    result = tag_image(store, "one", ["two", "new", "two"])
    assert [str(name) for name in result.names] == ["localhost/two:latest", "localhost/new:latest"]
    assert {store.find_image(name).image.id for name in ("one", "two", "new")} == {ONE.id}
    assert store.image(TWO.id).names == ()


def test_one_wrong_name_leaves_all_of_them_unset(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    with pytest.raises(InvalidReferenceError):
        tag_image(store, "one", ["fine", "Not Fine"])
    assert [str(record.name) for record in store.names()] == ["localhost/one:latest"]


def test_an_image_that_is_not_there_gets_no_name(store: Store) -> None:
    with pytest.raises(ImageNotFoundError):
        tag_image(store, "nothing", ["new"])
    with pytest.raises(InvalidInputError):
        tag_image(store, "nothing", [])
