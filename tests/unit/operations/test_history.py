"""How an image was made, and what its names have meant."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidReferenceError, NotFoundError
from kstore.manifest import RawManifest
from kstore.operations.history import image_history, name_history
from kstore.operations.tag import tag_image
from kstore.operations.untag import untag_image
from kstore.store import Store
from tests.support.images import TestImage, random_image
from tests.support.stores import put_image

ONE, TWO = random_image(1), random_image(2)
SIZES = [layer.size for layer in ONE.layers]


def with_history(steps: Sequence[dict[str, Any]] | None) -> TestImage:
    """ONE, its config telling these steps."""
    config = json.loads(ONE.config)
    config["history"] = steps
    data = json.dumps(config).encode()
    manifest = json.loads(ONE.raw.data)
    descriptor = Descriptor(manifest["config"]["mediaType"], Digest.of(data), len(data))
    manifest["config"] = descriptor.to_json()
    blobs = {layer.digest: ONE.blobs[layer.digest] for layer in ONE.layers}
    raw = RawManifest.receive(json.dumps(manifest).encode(), ONE.raw.media_type)
    return TestImage(raw, {**blobs, Digest.of(data): data}, data, ONE.layers, ONE.platform)


def test_the_newest_step_comes_first_and_has_the_image_id(store: Store) -> None:
    put_image(store, ONE, "localhost/app")
    rows = image_history(store, "app")
    assert [(row.id, row.created_by, row.size) for row in rows] == [
        (ONE.id, "layer 1", SIZES[1]),
        (None, "layer 0", SIZES[0]),
    ]


def test_a_step_without_a_layer_takes_no_size_from_the_others(store: Store) -> None:
    steps: list[dict[str, Any]] = [
        {"created_by": "a"},
        {"created_by": "env", "empty_layer": True},
        {"created_by": "b"},
    ]
    image = put_image(store, with_history(steps))
    rows = image_history(store, image.id)
    assert [(row.created_by, row.size, row.empty) for row in rows] == [
        ("b", SIZES[1], False),
        ("env", 0, True),
        ("a", SIZES[0], False),
    ]


def test_more_steps_than_layers_have_sizes_that_are_not_known(store: Store) -> None:
    image = put_image(store, with_history([{"created_by": str(n)} for n in range(4)]))
    sizes = [row.size for row in image_history(store, image.id)]
    assert sizes == [None, None, SIZES[1], SIZES[0]]


def test_fewer_steps_than_layers_are_those_there_are(store: Store) -> None:
    image = put_image(store, with_history([{"created": "not a date"}]))
    [row] = image_history(store, image.id)
    assert (row.id, row.created, row.created_by, row.size) == (image.id, None, "", SIZES[0])


@pytest.mark.parametrize("steps", [None, []])
def test_no_history_is_no_rows(store: Store, steps: list[dict[str, Any]] | None) -> None:
    image = put_image(store, with_history(steps))
    assert image_history(store, image.id) == ()


def test_names_tell_what_they_meant_newest_change_first(store: Store) -> None:
    put_image(store, ONE, "localhost/app")
    put_image(store, TWO, "docker.io/library/busybox")
    tag_image(store, "busybox", ["app"])
    untag_image(store, "app")
    one, two = ONE.raw.digest, TWO.raw.digest
    moves = [(change.old, change.new) for change in name_history(store, "app")]
    assert moves == [(two, None), (one, two), (None, one)]
    assert len(name_history(store, None)) == 4
    assert len(name_history(store, None, 2)) == 2
    assert [str(change.name) for change in name_history(store, "busybox")] == [
        "docker.io/library/busybox:latest"
    ]


def test_a_name_that_never_was_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="'app'"):
        name_history(store, "app")
    with pytest.raises(InvalidReferenceError):
        name_history(store, "Not A Name")
    assert name_history(store, None) == []
