from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import DigestMismatchError, InvalidManifestError, KstoreError
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from tests.support.images import index_of, random_artifact, random_image
from tests.support.strategies import steady

TYPES = sorted(mt.MANIFESTS | mt.INDEXES | mt.SCHEMA1)
SHAPES = (mt.MANIFESTS, mt.INDEXES, mt.SCHEMA1)
VAGUE = [None, "", " \n", "application/json", "text/plain; charset=utf-8", mt.OCTET_STREAM]
D = str(Digest.of(b"x"))


def encode(document: Any) -> bytes:
    return json.dumps(document).encode()


def config(media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": D, "size": 1}


#: A small document of each type, without a mediaType of its own.
SILENT: dict[str, dict[str, Any]] = {
    mt.OCI_MANIFEST: {"schemaVersion": 2, "config": config(mt.OCI_CONFIG), "layers": []},
    mt.DOCKER_MANIFEST: {"schemaVersion": 2, "config": config(mt.DOCKER_CONFIG), "layers": []},
    mt.OCI_INDEX: {"schemaVersion": 2, "manifests": []},
    mt.DOCKER_LIST: {"schemaVersion": 2, "manifests": []},
    mt.DOCKER_SCHEMA1: {"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []},
    mt.DOCKER_SCHEMA1_SIGNED: {"schemaVersion": 1, "fsLayers": [], "signatures": [{}]},
}
#: What a silent document looks like: a list without a type is taken for an OCI index.
GUESS = {media_type: media_type for media_type in TYPES} | {mt.DOCKER_LIST: mt.OCI_INDEX}


def stating(media_type: str) -> bytes:
    return encode({"mediaType": media_type, **SILENT[media_type]})


def test_the_bytes_stay_as_they_are() -> None:
    data = b' {"manifests":[],\n "schemaVersion" : 2 }\n'
    raw = RawManifest.receive(data)
    assert raw.data is data
    assert raw.digest == Digest.of(data)
    assert raw.descriptor == Descriptor(mt.OCI_INDEX, Digest.of(data), len(data))
    assert "schemaVersion" not in repr(raw)


@pytest.mark.parametrize("media_type", TYPES)
def test_only_lists_of_manifests_are_indexes(media_type: str) -> None:
    raw = RawManifest.receive(stating(media_type))
    assert raw.is_index == (media_type in mt.INDEXES)


@pytest.mark.parametrize("declared", VAGUE)
@pytest.mark.parametrize("media_type", TYPES)
def test_a_document_that_states_its_type_is_of_that_type(
    media_type: str, declared: str | None
) -> None:
    assert RawManifest.receive(stating(media_type), declared).media_type == media_type


@pytest.mark.parametrize("declared", VAGUE)
@pytest.mark.parametrize("media_type", TYPES)
def test_a_document_that_states_no_type_is_judged_by_its_shape(
    media_type: str, declared: str | None
) -> None:
    raw = RawManifest.receive(encode(SILENT[media_type]), declared)
    assert raw.media_type == GUESS[media_type]


@pytest.mark.parametrize("declared", TYPES)
@pytest.mark.parametrize("stated", TYPES)
def test_what_the_sender_says_must_be_what_the_document_states(stated: str, declared: str) -> None:
    if stated == declared or {stated, declared} == mt.SCHEMA1:
        assert RawManifest.receive(stating(stated), declared).media_type == declared
    else:
        with pytest.raises(InvalidManifestError) as caught:
            RawManifest.receive(stating(stated), declared)
        assert f"was sent as {declared!r} but is {stated!r}" in str(caught.value)
        assert str(Digest.of(stating(stated))) in str(caught.value)


@pytest.mark.parametrize("declared", TYPES)
@pytest.mark.parametrize("silent", TYPES)
def test_a_silent_document_may_be_sent_as_any_type_of_its_shape(silent: str, declared: str) -> None:
    data = encode(SILENT[silent])
    if any(silent in shape and declared in shape for shape in SHAPES):
        assert RawManifest.receive(data, declared).media_type == declared
    else:
        with pytest.raises(InvalidManifestError, match="was sent as"):
            RawManifest.receive(data, declared)


@pytest.mark.parametrize(
    "declared",
    [
        f"{mt.OCI_MANIFEST}; charset=utf-8",
        f" {mt.OCI_MANIFEST} ",
        mt.OCI_MANIFEST.upper(),
        f"{mt.OCI_MANIFEST};",
    ],
)
def test_parameters_blanks_and_case_of_a_content_type_do_not_matter(declared: str) -> None:
    raw = RawManifest.receive(stating(mt.OCI_MANIFEST), declared)
    assert raw.media_type == mt.OCI_MANIFEST


@pytest.mark.parametrize("declared", ["text/html", "application/xml", "x" * 10_000])
def test_a_content_type_that_is_no_manifest_type_is_refused(declared: str) -> None:
    with pytest.raises(InvalidManifestError, match="was sent as") as caught:
        RawManifest.receive(stating(mt.OCI_INDEX), declared)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "stated", ["", "text/plain", mt.OCI_LAYER, mt.OCI_INDEX.upper(), 5, [], {}, True, "x" * 10_000]
)
@pytest.mark.parametrize("media_type", TYPES)
def test_a_stated_type_that_is_unknown_is_refused(media_type: str, stated: object) -> None:
    data = encode({**SILENT[media_type], "mediaType": stated})
    for declared in (None, media_type):
        with pytest.raises(InvalidManifestError, match="states the unsupported") as caught:
            RawManifest.receive(data, declared)
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize("media_type", TYPES)
def test_a_null_media_type_is_none(media_type: str) -> None:
    data = encode({**SILENT[media_type], "mediaType": None})
    assert RawManifest.receive(data).media_type == GUESS[media_type]


@pytest.mark.parametrize("media_type", TYPES)
@pytest.mark.parametrize("version", [0, 1, 2, 3, "2", [2], {}, -2])
def test_type_and_schema_version_must_agree(media_type: str, version: object) -> None:
    data = encode({**SILENT[media_type], "mediaType": media_type, "schemaVersion": version})
    if version == SILENT[media_type]["schemaVersion"]:
        assert RawManifest.receive(data).media_type == media_type
    else:
        with pytest.raises(InvalidManifestError, match="with schemaVersion"):
            RawManifest.receive(data)


def test_a_stated_type_makes_up_for_a_missing_schema_version() -> None:
    assert RawManifest.receive(encode({"mediaType": mt.OCI_INDEX})).media_type == mt.OCI_INDEX


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"schemaVersion": 2},
        {"schemaVersion": 2, "layers": []},
        {"schemaVersion": 2, "config": "x"},
        {"schemaVersion": 2, "manifests": {}},
        {"schemaVersion": 3, "manifests": []},
        {"schemaVersion": "2", "manifests": []},
        {"schemaVersion": [], "manifests": []},
        {"manifests": []},
        {"config": {}, "layers": []},
        {"errors": [{"code": "MANIFEST_UNKNOWN"}]},
    ],
)
def test_a_document_of_no_recognisable_type_is_refused(document: object) -> None:
    for declared in (None, mt.OCI_MANIFEST, mt.OCI_INDEX):
        with pytest.raises(InvalidManifestError, match="of no known manifest type"):
            RawManifest.receive(encode(document), declared)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"<html>", b"[" * 100_000]
)
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifestError, match=str(Digest.of(data))):
        RawManifest.receive(data, mt.OCI_MANIFEST)


@pytest.mark.parametrize(
    "data",
    [
        b'{"schemaVersion":2,"manifests":[],"manifests":[{}]}',
        b'{"schemaVersion":2,"manifests":[],"Manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"Layers":[],"Config":{}}',
        b'{"schemaVersion":2,"manifests":[],"MediaType":"%s"}' % mt.DOCKER_LIST.encode(),
        b'{"schemaVersion":2,"manifests":[],"layer\\u017f":[]}',
        b'{"schemaVersion":2,"manifests":[],"FSLayers":[]}',
    ],
)
def test_keys_that_other_readers_see_differently_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidManifestError, match="is ambiguous"):
        RawManifest.receive(data)


def test_a_manifest_may_be_four_mebibytes_but_not_a_byte_more() -> None:
    data = encode(SILENT[mt.OCI_INDEX]).ljust(MAX_MANIFEST_SIZE)
    expected = Digest.of(data + b" ")
    assert RawManifest.receive(data).descriptor.size == MAX_MANIFEST_SIZE
    with pytest.raises(InvalidManifestError) as caught:
        RawManifest.receive(data + b" ")
    assert str(caught.value) == "a manifest is larger than the limit of 4194304 bytes"
    with pytest.raises(InvalidManifestError, match=f"manifest {expected} is larger"):
        RawManifest.receive(data + b" ", expected=expected)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_the_digest_asked_for_is_computed_in_its_own_algorithm(algorithm: str) -> None:
    data = stating(mt.OCI_INDEX)
    expected = Digest.of(data, algorithm)
    assert RawManifest.receive(data, expected=expected).digest == expected


def test_other_bytes_than_those_asked_for_are_refused_before_they_are_parsed() -> None:
    expected = Digest.of(b"other")
    for data in (stating(mt.OCI_INDEX), b"not even json"):
        with pytest.raises(DigestMismatchError) as caught:
            RawManifest.receive(data, expected=expected)
        assert str(expected) in str(caught.value)
        assert str(Digest.of(data)) in str(caught.value)


def test_real_manifests_are_received() -> None:
    images = [random_image(1), random_image(2, docker=True), random_artifact(3)]
    for raw in [*(image.raw for image in images), index_of(images), index_of(images, docker=True)]:
        assert RawManifest.receive(raw.data, raw.media_type, raw.digest) == raw
        assert RawManifest.receive(raw.data, "application/json") == raw


_VALUES = st.sampled_from([None, 1, 2, "", [], {}, [{}], True, *TYPES, config(mt.DOCKER_CONFIG)])
_KEYS = st.sampled_from(
    ["schemaVersion", "mediaType", "MediaType", "config", "layers", "manifests", "signatures", "x"]
)


@steady
@given(st.dictionaries(_KEYS, _VALUES), st.none() | st.sampled_from(TYPES) | st.text(max_size=9))
def test_any_document_has_one_known_type_or_is_refused(
    document: dict[str, Any], declared: str | None
) -> None:
    data = encode(document)
    try:
        raw = RawManifest.receive(data, declared)
    except KstoreError:
        return
    assert raw.media_type in TYPES
    if declared in TYPES:
        assert raw.media_type == declared
    elif document.get("mediaType") is not None:
        assert raw.media_type == document["mediaType"]
    assert RawManifest.receive(data, raw.media_type) == raw
