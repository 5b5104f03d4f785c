"""Which files images add, change and remove."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from kstore.errors import BlobNotFoundError, CancelledError, IntegrityError, StorageError
from kstore.operations import diff
from kstore.operations.diff import diff_image, diff_images
from kstore.store import Store
from kstore.streams import Cancel
from kstore.tree.contents import Change
from tests.support.images import TestImage
from tests.support.layers import directory, file, image_of, layer
from tests.support.stores import put_image

BASE = layer(directory("etc"), file("etc/a", b"a"), file("etc/b", b"b"))
TOP = layer(directory("etc"), file("etc/a", b"A"), file("etc/.wh.b"), file("etc/c"))
SAME_AGAIN = layer(file("etc/c"), file("etc/a", b"A"), file("etc/.wh.b"), directory("etc"))
ONE = image_of(BASE, TOP)


def told(found: Iterable[Change]) -> list[str]:
    return [f"{change.kind} {change.path}" for change in found]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_the_top_layer_is_compared_with_those_below(store: Store, compression: str) -> None:
    put_image(store, image_of(BASE, TOP, compression=compression), "localhost/one")
    assert told(diff_image(store, "one")) == ["C /etc", "C /etc/a", "D /etc/b", "A /etc/c"]


def test_an_image_of_one_layer_adds_all_of_its_files(store: Store) -> None:
    put_image(store, image_of(BASE), "localhost/base")
    assert told(diff_image(store, "base")) == ["A /etc", "A /etc/a", "A /etc/b"]


def test_an_image_without_layers_changes_nothing(store: Store) -> None:
    put_image(store, image_of(), "localhost/empty")
    assert diff_image(store, "empty") == ()


def test_two_images_differ_in_either_direction(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    put_image(store, image_of(BASE), "localhost/base")
    assert told(diff_images(store, "base", "one")) == told(diff_image(store, "one"))
    assert told(diff_images(store, "one", "base")) == [
        "C /etc",
        "C /etc/a",
        "A /etc/b",
        "D /etc/c",
    ]
    assert diff_images(store, "one", "one") == ()


def test_layers_of_other_bytes_with_the_same_files_are_no_difference(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    put_image(store, image_of(BASE, SAME_AGAIN), "localhost/two")
    assert ONE.layers[1].digest != image_of(BASE, SAME_AGAIN).layers[1].digest
    assert diff_images(store, "one", "two") == ()


def test_the_same_layers_in_another_order_are_compared_as_they_lie(store: Store) -> None:
    x, y = layer(file("f", b"x")), layer(file("f", b"y"))
    put_image(store, image_of(x, y), "localhost/xy")
    put_image(store, image_of(y, x), "localhost/yx")
    assert told(diff_images(store, "xy", "yx")) == ["C /f"]


def test_a_layer_whose_file_is_gone_is_named(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    blob_of(store, ONE).unlink()
    with pytest.raises((BlobNotFoundError, StorageError), match=ONE.layers[1].digest.hex):
        diff_image(store, "one")


def test_a_damaged_layer_is_named_and_never_believed(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    path = blob_of(store, ONE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    with pytest.raises(StorageError, match=ONE.layers[1].digest.hex) as caught:
        diff_image(store, "one")
    assert caught.value.hint == "kstore check --repair"


def test_what_unpacks_beyond_the_limit_is_refused(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_image(store, image_of(layer(file("zeros", bytes(1 << 20)))), "localhost/bomb")
    monkeypatch.setattr(diff, "MAX_TAR", 1 << 16)
    with pytest.raises((IntegrityError, StorageError)):
        diff_image(store, "bomb")


def test_a_cancelled_diff_stops(store: Store) -> None:
    put_image(store, ONE, "localhost/one")
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CancelledError):
        diff_image(store, "one", cancel=cancel)


def blob_of(store: Store, image: TestImage) -> Path:
    return store.root / "blobs" / "sha256" / image.layers[1].digest.hex
