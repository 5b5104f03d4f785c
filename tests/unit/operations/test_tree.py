"""Layers of images, and who shares them."""

from __future__ import annotations

import pytest

from kstore.errors import ImageNotFoundError
from kstore.operations.tree import image_tree
from kstore.store import Store
from tests.support.layers import file, image_of, layer
from tests.support.stores import put_image

BASE, ONE, TWO = layer(file("base", b"x" * 5000)), layer(file("one")), layer(file("two"))


def test_layers_come_base_first_with_the_steps_that_made_them(store: Store) -> None:
    image = image_of(BASE, ONE)
    put_image(store, image, "localhost/one")
    tree = image_tree(store, "one")
    assert [layer.descriptor.digest for layer in tree.layers] == [x.digest for x in image.layers]
    assert [layer.created_by for layer in tree.layers] == ["step 0", "step 1"]
    assert None not in [layer.diff_id for layer in tree.layers]
    assert tree.unique_size == tree.image.size


def test_a_shared_layer_names_the_other_images_and_counts_for_nobody_alone(store: Store) -> None:
    one, two, loose = image_of(BASE, ONE), image_of(BASE, TWO), image_of(BASE, name="loose")
    put_image(store, one, "localhost/one")
    put_image(store, two, "localhost/two", "quay.io/team/two:1")
    put_image(store, loose)
    tree = image_tree(store, "one")
    assert {image.id for image in tree.layers[0].shared_with} == {two.id, loose.id}
    assert tree.layers[1].shared_with == ()
    assert tree.unique_size == tree.image.size - one.layers[0].size
    shared = tree.to_json()["layers"][0]["sharedWith"]
    assert {"id": loose.id, "names": []} in shared
    assert {"id": two.id, "names": ["localhost/two:latest", "quay.io/team/two:1"]} in shared


def test_a_layer_used_twice_by_one_image_is_not_shared(store: Store) -> None:
    put_image(store, image_of(BASE, BASE), "localhost/twice")
    tree = image_tree(store, "twice")
    assert [layer.shared_with for layer in tree.layers] == [(), ()]
    assert tree.unique_size == tree.image.size


def test_an_image_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(ImageNotFoundError):
        image_tree(store, "nothing")
