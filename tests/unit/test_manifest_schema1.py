"""Docker schema 1: what was signed, what it says, what becomes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import DigestMismatchError, InvalidManifestError
from kstore.manifest import ImageConfig, RawManifest, parse_image
from kstore.manifest.schema1 import legacy_config, legacy_manifest, parse_legacy
from tests.support.legacy import legacy_document, legacy_image, signed_document

LAYERS = [(b"one", False), (b"two", True), (b"three", False)]
DIFF_IDS = [Digest.of(b"plain one"), Digest.of(b"plain three")]


def receive(document: dict[str, Any]) -> RawManifest:
    return RawManifest.receive(json.dumps(document).encode(), mt.DOCKER_SCHEMA1)


def refusal(document: dict[str, Any]) -> str:
    with pytest.raises(InvalidManifestError) as caught:
        parse_legacy(receive(document))
    return str(caught.value)


def test_the_digest_of_a_signed_manifest_is_that_of_what_was_signed():
    document = legacy_document(LAYERS)
    payload = json.dumps(document, indent=3).encode()
    data = signed_document(document)
    assert data != payload
    raw = RawManifest.receive(data, mt.DOCKER_SCHEMA1_SIGNED, Digest.of(payload))
    assert raw.digest == Digest.of(payload)
    assert raw.data == data
    assert raw.content == payload
    assert raw.is_named(Digest.of(payload, "sha512"))
    assert not raw.is_named(Digest.of(data))


def test_a_signed_manifest_sent_for_another_digest_is_refused():
    data = signed_document(legacy_document(LAYERS))
    with pytest.raises(DigestMismatchError):
        RawManifest.receive(data, mt.DOCKER_SCHEMA1_SIGNED, Digest.of(b"another"))


def test_the_digest_of_an_unsigned_manifest_is_that_of_its_bytes():
    raw = receive(legacy_document(LAYERS))
    assert raw.digest == Digest.of(raw.data)


def test_what_stands_outside_the_signed_part_is_not_believed():
    document = legacy_document(LAYERS)
    data = signed_document(document)
    other = json.dumps(legacy_document([(b"evil", False)])["fsLayers"]).encode()
    evil = data.replace(b',\n   "signatures"', b',\n   "layers": ' + other + b',\n   "signatures"')
    raw = RawManifest.receive(evil, mt.DOCKER_SCHEMA1_SIGNED)
    assert raw.digest == RawManifest.receive(data).digest
    assert parse_legacy(raw).layers == (Digest.of(b"one"), Digest.of(b"three"))


@pytest.mark.parametrize(
    "signatures",
    [[{}], [{"protected": "!"}], [{"protected": "e30"}], [{"protected": 5}], [1], {}, []],
)
def test_signatures_that_do_not_say_what_they_sign_make_a_manifest_useless(signatures: object):
    document = {**legacy_document(LAYERS), "signatures": signatures}
    raw = RawManifest.receive(json.dumps(document).encode(), mt.DOCKER_SCHEMA1_SIGNED)
    assert raw.digest == Digest.of(raw.data)
    with pytest.raises(InvalidManifestError, match="do not say what they sign"):
        parse_legacy(raw)


def test_the_steps_come_base_first_and_throwaway_ones_have_no_layer():
    legacy = parse_legacy(receive(legacy_document(LAYERS)))
    assert [step.throwaway for step in legacy.steps] == [False, True, False]
    assert legacy.layers == (Digest.of(b"one"), Digest.of(b"three"))


def test_an_entry_that_is_repeated_counts_once():
    document = legacy_document(LAYERS)
    for key in ("fsLayers", "history"):
        document[key].insert(1, document[key][0])
    assert (
        parse_legacy(receive(document)).layers
        == parse_legacy(receive(legacy_document(LAYERS))).layers
    )


def test_a_history_that_is_no_line_of_descent_is_refused():
    document = legacy_document(LAYERS)
    del document["history"][1], document["fsLayers"][1]
    assert "not one line of descent" in refusal(document)
    document = legacy_document(LAYERS)
    del document["history"][-1], document["fsLayers"][-1]
    assert "begins with a layer that has a parent" in refusal(document)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"fsLayers": []}, "no fsLayers"),
        ({"fsLayers": None}, "no fsLayers"),
        ({"history": []}, "3 layers and 0 entries"),
        ({"layers": []}, "ambiguous"),
        ({"config": {}}, "ambiguous"),
        ({"fsLayers": [{"blobSum": "x"}] * 3}, "bad digest"),
        ({"fsLayers": [5] * 3}, "not a JSON object"),
        ({"history": [{"v1Compatibility": 5}] * 3}, "no v1Compatibility"),
        ({"history": [{"v1Compatibility": "{"}] * 3}, "not valid JSON"),
        ({"history": [{"v1Compatibility": "{}"}] * 3}, "no id"),
    ],
)
def test_a_malformed_manifest_is_refused(damage: dict[str, Any], says: str):
    assert says in refusal({**legacy_document(LAYERS), **damage})


def test_the_config_tells_what_the_newest_step_and_the_history_say():
    legacy = parse_legacy(receive(legacy_document(LAYERS)))
    data = legacy_config(legacy, DIFF_IDS)
    assert data == legacy_config(legacy, DIFF_IDS)
    config = ImageConfig.parse(data)
    assert config.diff_ids == tuple(DIFF_IDS)
    assert [entry.empty_layer for entry in config.history] == [False, True, False]
    assert config.history[0].created_by == "/bin/sh -c step 0"
    assert config.run.cmd == ("/bin/app",)
    assert config.run.labels == {"old": "yes"}
    assert config.docker_version == "1.9.1"
    assert str(config.platform) == "linux/amd64"
    assert {"id", "parent", "throwaway"}.isdisjoint(json.loads(data))


def test_a_wrong_number_of_diff_ids_is_refused():
    with pytest.raises(InvalidManifestError, match="2 layers got 1"):
        legacy_config(parse_legacy(receive(legacy_document(LAYERS))), DIFF_IDS[:1])


@pytest.mark.parametrize("target", sorted(mt.MANIFESTS))
def test_the_new_manifest_lists_config_and_layers(target: str):
    image = legacy_image(1)
    config = Descriptor(mt.DOCKER_CONFIG, Digest.of(b"{}"), 2)
    manifest = parse_image(legacy_manifest(target, config, image.layers))
    assert manifest.media_type == target
    assert manifest.config == config
    assert manifest.layers == image.layers
