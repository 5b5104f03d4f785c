"""Tagging, untagging and removing; the ids name the row of kpod's tables."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kstore.errors import (
    AmbiguousNameError,
    ImageNotFoundError,
    InUseError,
    InvalidInputError,
    InvalidReferenceError,
    KstoreError,
)
from kstore.images import find_image, remove_image, untag_image
from kstore.operations.rmi import remove_images
from kstore.operations.tag import tag_image
from kstore.operations.working import make_container
from kstore.store import Store
from tests.support.fixturestore import FixtureStore
from tests.support.images import random_image
from tests.support.stores import named, put_image


def names(store: Store, image_id: str) -> list[str]:
    return [str(record.name) for record in store.image(image_id).names]


# ---- 2.3: names move


@pytest.fixture
def two(store: Store) -> tuple[str, str]:
    """The IDs of two images: one of x.io/x:1, the other of y.io/y:1."""
    first = put_image(store, random_image(1), "x.io/x:1")
    second = put_image(store, random_image(2), "y.io/y:1")
    return first.id, second.id


def test_2_3_a_name_that_is_given_moves_from_its_image(store: Store, two: tuple[str, str]) -> None:
    tag_image(store, two[0], ["x.io/x:1", "y.io/y:1"])
    assert names(store, two[0]) == ["x.io/x:1", "y.io/y:1"]
    assert names(store, two[1]) == []


def test_2_3_a_name_that_is_taken_away_is_free(store: Store, two: tuple[str, str]) -> None:
    tag_image(store, two[0], ["x.io/x:2"])
    store.untag(named("x.io/x:1"))
    assert names(store, two[0]) == ["x.io/x:2"]
    assert store.name(named("x.io/x:1")) is None


def test_2_3_a_name_given_twice_is_one(store: Store, two: tuple[str, str]) -> None:
    tag_image(store, two[0], ["x.io/x:1", "x.io/x:1", "z.io/z"])
    assert names(store, two[0]) == ["x.io/x:1", "z.io/z:latest"]


def test_2_3_no_image_can_be_named_that_is_not_there(store: Store) -> None:
    with pytest.raises(ImageNotFoundError, match="'nosuch'"):
        tag_image(store, "nosuch", ["x.io/x:1"])
    assert store.names() == []


def test_2_3_what_was_read_does_not_change_with_names(store: Store, two: tuple[str, str]) -> None:
    before = store.image(two[0])
    tag_image(store, two[0], ["z.io/z:1"])
    assert [str(record.name) for record in before.names] == ["x.io/x:1"]


# ---- 4.4: new names

STORED = [
    ("foobar", "localhost/foobar:latest"),
    ("foobar:v", "localhost/foobar:v"),
    ("docker.io/foo", "docker.io/library/foo:latest"),
    ("quay.io/a/b:t", "quay.io/a/b:t"),
    ("localhost:5000/x", "localhost:5000/x:latest"),
]


@pytest.mark.parametrize(("text", "full"), STORED, ids=[f"4.4 {row[0]}" for row in STORED])
def test_a_new_name_is_stored_in_full(
    store: Store, two: tuple[str, str], text: str, full: str
) -> None:
    tag_image(store, "x.io/x:1", [text])
    assert full in names(store, two[0])
    assert find_image(store, text).id == two[0], "what was given finds it"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        pytest.param(
            "foo@sha256:" + "0" * 64, InvalidInputError, "names a digest", id="4.4 a digest"
        ),
        pytest.param("Foo", InvalidReferenceError, "must be lower case", id="4.4 upper case"),
        pytest.param("a b", InvalidReferenceError, "not a repository name", id="4.4 a blank"),
        pytest.param("", InvalidReferenceError, "empty", id="4.4 nothing"),
    ],
)
def test_a_new_name_that_cannot_be_one_changes_nothing(
    store: Store, two: tuple[str, str], text: str, error: type[KstoreError], message: str
) -> None:
    with pytest.raises(error, match=message):
        tag_image(store, "x.io/x:1", ["good:1", text])
    assert names(store, two[0]) == ["x.io/x:1"]


def test_4_4_a_name_that_an_image_has_already_is_no_error(
    store: Store, two: tuple[str, str]
) -> None:
    tag_image(store, "x.io/x:1", ["x.io/x:1"])
    assert names(store, two[0]) == ["x.io/x:1"]


# ---- 3.12: taking a name away


@pytest.mark.parametrize(
    ("has", "argument", "gone"),
    [
        pytest.param(
            ["docker.io/library/alpine:latest"],
            "alpine",
            "docker.io/library/alpine:latest",
            id="3.12 a short name",
        ),
        pytest.param(
            ["docker.io/library/alpine:latest"],
            "docker.io/alpine",
            "docker.io/library/alpine:latest",
            id="3.12 docker.io without library",
        ),
        pytest.param(
            ["a.io/alpine:1", "docker.io/library/alpine:1"],
            "alpine:1",
            "docker.io/library/alpine:1",
            id="3.12 of two, the one that is exactly meant",
        ),
        pytest.param(
            ["localhost/alpine:latest", "a.io/alpine:3"],
            "alpine",
            "localhost/alpine:latest",
            id="3.12 of two, the one made here",
        ),
        pytest.param(["a.io/team/x:1"], "team/x:1", "a.io/team/x:1", id="3.12 the end of the name"),
    ],
)
def test_one_name_is_taken_away(store: Store, has: list[str], argument: str, gone: str) -> None:
    image = put_image(store, random_image(1), *has)
    assert untag_image(store, image, argument) == gone
    assert names(store, image.id) == sorted(set(has) - {gone})


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        pytest.param("alpine:1", AmbiguousNameError, "a.io/alpine:1, b.io/alpine:1", id="3.12 two"),
        pytest.param("y", ImageNotFoundError, "'y' is no name of image", id="3.12 an unknown name"),
        pytest.param("ine:1", ImageNotFoundError, "no name of", id="3.12 half a component"),
        pytest.param("", InvalidReferenceError, "empty", id="3.12 nothing"),
        pytest.param(
            "a.io/alpine@sha256:" + "0" * 64, InvalidInputError, "has a digest", id="3.12 a digest"
        ),
    ],
)
def test_no_name_is_taken_away_that_was_not_meant(
    store: Store, argument: str, error: type[KstoreError], message: str
) -> None:
    image = put_image(store, random_image(1), "a.io/alpine:1", "b.io/alpine:1")
    with pytest.raises(error, match=message):
        untag_image(store, image, argument)
    assert len(names(store, image.id)) == 2


def test_3_12_a_name_that_moved_meanwhile_stays_with_its_new_image(
    store: Store, two: tuple[str, str]
) -> None:
    before = store.image(two[0])
    tag_image(store, two[1], ["x.io/x:1"])
    with pytest.raises(ImageNotFoundError, match="it has none"):
        untag_image(store, before, "x.io/x:1")
    assert names(store, two[1]) == ["x.io/x:1", "y.io/y:1"]


# ---- 4.5: removing

REMOVED: list[tuple[str, int, str, bool, Sequence[int], bool]] = [
    # id, how many names, what is given, force, which names go, whether the image does
    ("4.5 a full ID, no name", 0, "{id}", False, (), True),
    ("4.5 a full ID, one name", 1, "{id}", False, (1,), True),
    ("4.5 a full ID, two names, force", 2, "{id}", True, (1, 2), True),
    ("4.5 a name, the only one", 1, "x.io/x:1", False, (1,), True),
    ("4.5 a name, one of two", 2, "x.io/x:1", False, (1,), False),
    ("4.5 a name, one of three", 3, "x.io/x:1", False, (1,), False),
    ("4.5 a short ID, no name", 0, "{short}", False, (), True),
    ("4.5 a short ID, one name", 1, "{short}", False, (1,), True),
    ("4.5 a short ID, two names, force", 2, "{short}", True, (1, 2), True),
]


@pytest.mark.parametrize(
    ("count", "text", "force", "untagged", "deleted"),
    [row[1:] for row in REMOVED],
    ids=[row[0] for row in REMOVED],
)
def test_what_rmi_removes(
    store: Store, count: int, text: str, force: bool, untagged: Sequence[int], deleted: bool
) -> None:
    has = [f"x.io/x:{number}" for number in range(1, count + 1)]
    image = put_image(store, random_image(1), *has)
    result = remove_images(store, [text.format(id=image.id, short=image.short_id)], force=force)
    assert result.errors == ()
    (report,) = result.reports
    assert [str(name) for name in report.untagged] == [f"x.io/x:{number}" for number in untagged]
    assert report.deleted == ((image.id,) if deleted else ())
    left = [name for name in has if int(name[-1]) not in untagged]
    assert [str(record.name) for record in store.names()] == left
    assert len(store.images()) == (not deleted)


@pytest.mark.parametrize("text", ["{id}", "{short}"], ids=["4.5 a full ID", "4.5 a short ID"])
def test_an_id_of_an_image_with_several_names_needs_force(store: Store, text: str) -> None:
    image = put_image(store, random_image(1), "x.io/x:1", "x.io/x:2")
    result = remove_images(store, [text.format(id=image.id, short=image.short_id)])
    assert [type(error) for error in result.errors] == [InUseError]
    assert "several names: x.io/x:1, x.io/x:2" in result.errors[0].message
    assert len(names(store, image.id)) == 2


@pytest.mark.parametrize("text", ["{id}", "x.io/x:1"], ids=["4.5 an ID", "4.5 the last name"])
def test_an_image_with_containers_needs_force(store: Store, text: str) -> None:
    image = put_image(store, random_image(1), "x.io/x:1")
    box = make_container(store, "x.io/x:1", "box")
    text = text.format(id=image.id)
    (error,) = remove_images(store, [text]).errors
    assert isinstance(error, InUseError)
    assert "box" in error.message, "it names the container, not a number"
    (report,) = remove_images(store, [text], force=True).reports
    assert report.deleted == (image.id,)
    assert store.containers.find("box") == box, "a container has files of its own"


def test_4_5_a_failure_does_not_stop_the_rest(store: Store) -> None:
    image = put_image(store, random_image(1), "x.io/x:1")
    result = remove_images(store, ["nosuch", "x.io/x:1", "neither"])
    assert [error.message for error in result.errors] == [
        "no image 'nosuch' in the store",
        "no image 'neither' in the store",
    ]
    assert [report.deleted for report in result.reports] == [(image.id,)]


def test_4_5_everything_goes_at_once_with_all(own: FixtureStore) -> None:
    result = remove_images(own.store, [], all_images=True)
    assert result.errors == ()
    assert own.store.images() == []
    with pytest.raises(InvalidInputError, match="takes no image names"):
        remove_images(own.store, ["x"], all_images=True)


# ---- 3.13


def test_an_image_goes_with_all_its_names(own: FixtureStore) -> None:
    image = find_image(own.store, "foobar")
    assert remove_image(own.store, image) == own.b.id
    with pytest.raises(ImageNotFoundError, match=own.b.id):
        remove_image(own.store, image)


def test_an_image_that_a_container_was_made_from_stays(own: FixtureStore) -> None:
    make_container(own.store, "alpine", "box")
    with pytest.raises(InUseError, match="box"):
        remove_image(own.store, find_image(own.store, "alpine"))
