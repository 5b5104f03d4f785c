"""Images that have layers in common."""

from __future__ import annotations

from kstore.digest import Digest
from kstore.store import Store
from tests.support.images import index_of, random_artifact
from tests.support.layers import file, image_of, layer
from tests.support.stores import put_artifact, put_image, put_index

BASE, ONE = layer(file("base")), layer(file("one"))


def test_every_image_with_a_layer_is_its_user_whether_it_has_a_name_or_not(store: Store) -> None:
    one, two = image_of(BASE, ONE), image_of(BASE)
    put_image(store, one, "localhost/one")
    put_image(store, two)
    put_artifact(store, random_artifact(1), "localhost/artifact")
    none = Digest.of(b"none")
    users = store.layer_users([one.layers[0].digest, one.layers[1].digest, none])
    assert [{image.id for image in users[layer.digest]} for layer in one.layers] == [
        {one.id, two.id},
        {one.id},
    ]
    assert users[none] == ()
    assert store.layer_users([]) == {}


def test_a_member_of_an_index_counts_as_an_image(store: Store) -> None:
    one = image_of(BASE)
    put_index(store, index_of([one]), [one], "localhost/both")
    [user] = store.layer_users([one.layers[0].digest])[one.layers[0].digest]
    assert user.id == one.id


def test_what_an_image_shares_is_counted_once_for_it(store: Store) -> None:
    one, two, alone = image_of(BASE, ONE), image_of(BASE, BASE), image_of(layer(file("alone")))
    for number, image in enumerate((one, two, alone)):
        put_image(store, image, f"localhost/image:{number}")
    base = one.layers[0].size
    assert store.shared_sizes() == {one.id: base, two.id: base}
