"""Names somebody may have meant."""

from __future__ import annotations

import pytest

from kstore.errors import ImageNotFoundError
from kstore.store import Store
from tests.support.images import random_image
from tests.support.stores import put_image


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("busibox", "docker.io/library/busybox:latest"),
        ("Busybox", None),  # no name at all, which is another mistake
        ("docker.io/library/busybx", "docker.io/library/busybox:latest"),
        ("busybox:lates", "docker.io/library/busybox:latest"),
        ("team/serve", "quay.io/team/server:1"),
        ("server:1", "quay.io/team/server:1"),
        ("tols", "localhost/tools:latest"),
    ],
)
def test_a_near_name_is_offered(store: Store, said: str, meant: str | None) -> None:
    names = ("docker.io/library/busybox", "quay.io/team/server:1", "localhost/tools")
    put_image(store, random_image(1), *names)
    with pytest.raises(Exception, match=r".") as caught:
        store.find_image(said)
    if meant is None:
        assert not isinstance(caught.value, ImageNotFoundError)
    else:
        assert caught.value.hint == f"did you mean {meant}?"  # type: ignore[attr-defined]


@pytest.mark.parametrize("said", ["alpine", "postgres:16", "x" * 200, "cafe"])
def test_nothing_near_leads_to_a_pull(store: Store, said: str) -> None:
    put_image(store, random_image(1), "docker.io/library/busybox")
    with pytest.raises(ImageNotFoundError) as caught:
        store.find_image(said)
    assert caught.value.hint == f"kstore pull {said}"


@pytest.mark.parametrize(
    ("said", "pullable"), [("0123456789ab", True), ("alpine@sha256:0123", True), ("alpine", False)]
)
def test_what_cannot_be_pulled_leads_to_the_list_of_images(
    store: Store, said: str, pullable: bool
) -> None:
    with pytest.raises(ImageNotFoundError) as caught:
        store.find_image(said, pullable=pullable)
    assert caught.value.hint == "kstore images"


def test_three_names_are_enough(store: Store) -> None:
    put_image(store, random_image(1), *(f"localhost/server{n}" for n in range(9)))
    with pytest.raises(ImageNotFoundError) as caught:
        store.find_image("server")
    assert caught.value.hint is not None
    assert caught.value.hint.count(" or ") == 2
