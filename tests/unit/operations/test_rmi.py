"""Removing images: what goes depends on how the image was named, and on how many names it has."""

from __future__ import annotations

import pytest

from kstore.errors import (
    AmbiguousNameError,
    ConflictError,
    ImageNotFoundError,
    InUseError,
    InvalidInputError,
)
from kstore.operations.rmi import RmiResult, remove_images
from kstore.operations.working import make_container
from kstore.store import Store
from tests.support.images import TestImage, random_image
from tests.support.stores import put_image

IMAGE, OTHER = random_image(1), random_image(2)
NAMES = ("localhost/a:latest", "localhost/b:latest", "localhost/c:latest")


def untagged(result: RmiResult) -> list[str]:
    return [str(name) for report in result.reports for name in report.untagged]


def deleted(result: RmiResult) -> list[str]:
    return [image for report in result.reports for image in report.deleted]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_by_name_that_name_goes_and_the_image_with_its_last(
    store: Store, count: int, force: bool
) -> None:
    put_image(store, IMAGE, *NAMES[:count])
    result = remove_images(store, ["a"], force=force)
    assert result.errors == ()
    assert untagged(result) == ["localhost/a:latest"]
    assert deleted(result) == ([IMAGE.id] if count == 1 else [])
    assert [str(record.name) for record in store.names()] == list(NAMES[1:count])


@pytest.mark.parametrize("text", [IMAGE.id, IMAGE.id[:12], f"sha256:{IMAGE.id}"])
@pytest.mark.parametrize("count", [0, 1])
def test_by_id_an_image_with_one_name_or_none_goes(store: Store, text: str, count: int) -> None:
    put_image(store, IMAGE, *NAMES[:count])
    result = remove_images(store, [text])
    assert (deleted(result), untagged(result)) == ([IMAGE.id], list(NAMES[:count]))
    assert store.images() == []


@pytest.mark.parametrize("text", [IMAGE.id, IMAGE.id[:12]])
def test_by_id_an_image_with_several_names_goes_with_force_only(store: Store, text: str) -> None:
    put_image(store, IMAGE, *NAMES)
    refused = remove_images(store, [text])
    assert refused.reports == ()
    [error] = refused.errors
    assert isinstance(error, ConflictError)
    assert all(name in error.message for name in NAMES)
    assert len(store.names()) == 3
    forced = remove_images(store, [text], force=True)
    assert (deleted(forced), sorted(untagged(forced))) == ([IMAGE.id], list(NAMES))
    assert store.names() == []


def test_what_fails_is_reported_and_the_rest_goes(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a")
    put_image(store, OTHER, "localhost/b")
    result = remove_images(store, ["a", "nothing", "b"])
    assert deleted(result) == [IMAGE.id, OTHER.id]
    assert [type(error) for error in result.errors] == [ImageNotFoundError]


def test_an_image_named_twice_is_not_found_the_second_time(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a")
    result = remove_images(store, ["a", "a"])
    assert deleted(result) == [IMAGE.id]
    assert [type(error) for error in result.errors] == [ImageNotFoundError]


def test_all_removes_every_image_once_whatever_it_is_called(store: Store) -> None:
    put_image(store, IMAGE, *NAMES)
    put_image(store, OTHER)
    result = remove_images(store, [], all_images=True)
    assert result.errors == ()
    assert sorted(deleted(result)) == sorted([IMAGE.id, OTHER.id])
    assert (store.images(), store.names(), store.facts().blobs) == ([], [], 0)


def test_all_of_an_empty_store_is_nothing(store: Store) -> None:
    assert remove_images(store, [], all_images=True) == RmiResult((), ())


@pytest.mark.parametrize(("texts", "all_images"), [([], False), (["a"], True)])
def test_names_or_all_but_not_both_and_not_neither(
    store: Store, texts: list[str], all_images: bool
) -> None:
    with pytest.raises(InvalidInputError):
        remove_images(store, texts, all_images=all_images)


def test_a_prefix_of_several_ids_removes_none_of_them(store: Store) -> None:
    seen: dict[str, TestImage] = {}
    for image in (random_image(seed, layers=1, layer_size=16) for seed in range(2000)):
        if image.id[:3] in seen:
            break
        seen[image.id[:3]] = image
    put_image(store, image)
    put_image(store, seen[image.id[:3]])
    result = remove_images(store, [image.id[:3]], force=True)
    assert [type(error) for error in result.errors] == [AmbiguousNameError]
    assert len(store.images()) == 2


# ---- by filters


def test_a_filter_removes_what_the_listing_shows_with_it(store: Store) -> None:
    put_image(store, random_image(1, labels={"old": ""}), *NAMES)
    put_image(store, random_image(2, labels={"old": ""}))
    put_image(store, random_image(3), "localhost/kept")
    result = remove_images(store, [], filters=["label=old"])
    assert result.errors == ()
    assert sorted(untagged(result)) == list(NAMES)
    assert len(deleted(result)) == 2
    assert [str(record.name) for record in store.names()] == ["localhost/kept:latest"]


def test_a_filter_for_names_takes_only_these_names(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a", "quay.io/team/a")
    result = remove_images(store, [], filters=["reference=localhost/*"])
    assert (untagged(result), deleted(result)) == (["localhost/a:latest"], [])


@pytest.mark.parametrize("by_id", [False, True])
def test_of_what_is_named_a_filter_spares_what_does_not_meet_it(store: Store, by_id: bool) -> None:
    meets, spared = random_image(1, labels={"old": ""}), random_image(2)
    put_image(store, meets, "localhost/a")
    put_image(store, spared, "localhost/b")
    texts = [meets.id, spared.id] if by_id else ["a", "b"]
    result = remove_images(store, texts, filters=["label=old"])
    assert (deleted(result), result.errors) == ([meets.id], ())
    assert [image.id for image in store.images()] == [spared.id]


def test_a_filter_spares_a_name_that_it_does_not_mean_of_an_image_it_means(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a", "quay.io/team/b")
    assert remove_images(store, ["quay.io/team/b"], filters=["reference=a"]) == RmiResult((), ())
    assert len(store.names()) == 2


def test_a_filter_does_not_overrule_containers_but_force_does(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a")
    make_container(store, "a")
    refused = remove_images(store, [], filters=["containers=true"])
    assert [type(error) for error in refused.errors] == [InUseError]
    assert deleted(remove_images(store, [], filters=["containers=true"], force=True)) == [IMAGE.id]


def test_all_with_a_filter_is_the_filter(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a")
    put_image(store, OTHER)
    result = remove_images(store, [], filters=["dangling=true"], all_images=True)
    assert deleted(result) == [OTHER.id]


def test_a_wrong_filter_removes_nothing(store: Store) -> None:
    put_image(store, IMAGE, "localhost/a")
    with pytest.raises(InvalidInputError, match="unknown filter"):
        remove_images(store, ["a"], filters=["old=1"])
    assert len(store.images()) == 1
