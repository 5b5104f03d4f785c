"""Docker schema 1 images are read, and written as something newer."""

from __future__ import annotations

import json

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, IntegrityError, UnsupportedError
from kstore.interfaces import DestinationTraits
from kstore.manifest import ImageConfig, parse_image
from tests.support.images import TestImage
from tests.support.legacy import legacy_image
from tests.support.memory import Memory


def diff_ids(image: TestImage) -> list[Digest]:
    return [Digest.parse(text) for text in json.loads(image.config)]


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("target", [None, mt.DOCKER_MANIFEST, mt.OCI_MANIFEST])
def test_it_becomes_an_image_of_the_wanted_type_with_the_same_layers(copy, signed, target):
    image = legacy_image(1, layers=3, signed=signed)
    memory = Memory({"app": image})
    result = copy(memory, manifest_type=target)
    arrived = memory.committed["copy"]
    manifest = parse_image(arrived.raw)
    assert result.raw is arrived.raw
    assert manifest.media_type == (target or mt.DOCKER_MANIFEST)
    assert [(x.digest, x.size) for x in manifest.layers] == [
        (x.digest, x.size) for x in image.layers
    ]
    config = ImageConfig.parse(arrived.blobs[manifest.config.digest])
    assert list(config.diff_ids) == diff_ids(image)
    assert {d: arrived.blobs[d] for d in image.blobs} == dict(image.blobs)
    assert set(arrived.blobs) == {*image.blobs, manifest.config.digest}


def test_the_same_manifest_gives_the_same_image_each_time(copy):
    memory = Memory({"app": legacy_image(1)})
    assert copy(memory).raw == copy(memory).raw


def test_its_layers_can_be_compressed_anew_at_once(copy):
    image = legacy_image(1)
    memory = Memory({"app": image})
    result = copy(memory, compression="none")
    layers = parse_image(result.raw).layers
    assert [layer.digest for layer in layers] == diff_ids(image)
    assert {layer.media_type for layer in layers} == {mt.DOCKER_LAYER_TAR}


def test_an_ordered_destination_gets_the_new_config_in_its_place(copy):
    memory = Memory({"app": legacy_image(1, layers=4)})
    copy(memory, traits=DestinationTraits(ordered=True))
    written = [entry[1] for entry in memory.asked("write_blob")]
    assert written == sorted(written)
    assert len(written) == 5


def test_a_layer_of_which_no_size_can_be_told_is_missed(copy):
    image = legacy_image(1)
    blobs = dict(list(image.blobs.items())[1:])
    memory = Memory({"app": TestImage(image.raw, blobs, b"", image.layers, image.platform)})
    with pytest.raises(BlobNotFoundError):
        copy(memory)
    assert memory.committed == {}


def test_a_damaged_layer_fails_the_copy(copy):
    image = legacy_image(1)
    memory = Memory({"app": image})
    bad = image.layers[0].digest
    memory.lies[bad] = image.blobs[bad][:-9] + b"\0" + image.blobs[bad][-8:]
    with pytest.raises(IntegrityError):
        copy(memory)
    assert memory.committed == {}


def test_its_digest_cannot_be_preserved(copy):
    memory = Memory({"app": legacy_image(1)})
    with pytest.raises(UnsupportedError, match="preserved"):
        copy(memory, preserve_digests=True)
    assert memory.asked("open_blob") == []
