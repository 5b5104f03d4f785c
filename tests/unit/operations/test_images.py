"""The rows of a listing."""

from __future__ import annotations

import pytest

from kstore.errors import InvalidInputError
from kstore.operations.images import list_images
from kstore.store import Store
from tests.support.images import index_of, random_artifact, random_image
from tests.support.stores import put_artifact, put_image, put_index

NEW = random_image(1, created="2024-06-01T00:00:00Z", labels={"vendor": "acme"})
OLD = random_image(2, created="2024-01-01T00:00:00Z")
UNDATED = random_image(3, created=None)


def listed(store: Store, *args: object) -> list[tuple[str | None, str | None, str]]:
    rows = list_images(store, *args)  # type: ignore[arg-type]
    return [(row.repository, row.tag, row.id) for row in rows]


def test_every_name_is_a_row_and_no_name_is_one_too(store: Store) -> None:
    put_image(store, UNDATED)
    put_image(store, OLD, "docker.io/library/busybox")
    put_image(store, NEW, "localhost/app", "quay.io/team/app:1")
    assert listed(store) == [
        ("localhost/app", "latest", NEW.id),
        ("quay.io/team/app", "1", NEW.id),
        ("docker.io/library/busybox", "latest", OLD.id),
        (None, None, UNDATED.id),
    ]


def test_a_name_by_digest_has_a_repository_and_no_tag(store: Store) -> None:
    put_image(store, NEW, f"quay.io/team/app@{NEW.raw.digest}")
    assert listed(store) == [("quay.io/team/app", None, NEW.id)]


def test_the_digest_is_that_of_the_manifest_the_name_leads_to(store: Store) -> None:
    packed = random_image(1, created="2024-06-01T00:00:00Z", compression="zstd")
    plain = random_image(1, created="2024-06-01T00:00:00Z", compression="gzip")
    assert packed.id == plain.id
    put_image(store, packed, "localhost/packed")
    put_image(store, plain, "localhost/plain")
    rows = {row.repository: row.digest for row in list_images(store)}
    assert rows == {"localhost/packed": packed.raw.digest, "localhost/plain": plain.raw.digest}


def test_artifacts_and_indexes_without_an_image_here_are_no_rows(store: Store) -> None:
    put_artifact(store, random_artifact(1), "quay.io/team/signature:1")
    put_index(store, index_of([NEW, OLD]), [], "quay.io/team/app:1")
    assert listed(store) == []


def test_argument_and_filters_must_all_hold(store: Store) -> None:
    put_image(store, NEW, "localhost/app", "quay.io/team/app:1")
    put_image(store, OLD)
    assert len(listed(store, "app")) == 2
    assert listed(store, "app", ["reference=*:1"]) == [("quay.io/team/app", "1", NEW.id)]
    assert listed(store, "app", ["dangling=true"]) == []
    assert listed(store, None, ["dangling=true"]) == [(None, None, OLD.id)]
    assert listed(store, None, ["label=vendor=acme", "label=vendor", "dangling=false"]) != []
    assert listed(store, None, ["label=vendor=other"]) == []


@pytest.mark.parametrize("argument", ["", "a b", "a,b", "app:", "app@sha256:12", "a//b"])
def test_an_argument_that_can_mean_no_name_is_refused(store: Store, argument: str) -> None:
    with pytest.raises(InvalidInputError):
        list_images(store, argument)
