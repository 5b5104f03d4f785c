from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidManifestError, KstoreError, UnsupportedError
from kstore.manifest import (
    MAX_CONFIG_SIZE,
    MAX_INDEX_ENTRIES,
    MAX_LAYERS,
    ImageConfig,
    Index,
    Manifest,
    RawManifest,
    parse,
    parse_image,
    parse_index,
)
from kstore.platforms import Platform
from tests.support.images import index_of, random_artifact, random_image
from tests.support.strategies import steady

TELLING = ("config", "fsLayers", "history", "layers", "manifests")
MANIFESTS = sorted(mt.MANIFESTS)
INDEXES = sorted(mt.INDEXES)
D = Digest.of(b"x")


def blob(media_type: str = mt.OCI_LAYER, **changes: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(D), "size": 1, **changes}


def document(media_type: str, **changes: Any) -> dict[str, Any]:
    own: dict[str, Any] = {"manifests": [blob(mt.OCI_MANIFEST)]}
    if media_type in mt.MANIFESTS:
        kind = mt.DOCKER_CONFIG if media_type == mt.DOCKER_MANIFEST else mt.OCI_CONFIG
        own = {"config": blob(kind), "layers": [blob()]}
    return {"schemaVersion": 2, "mediaType": media_type, **own, **changes}


def read(value: dict[str, Any]) -> Manifest | Index:
    return parse(RawManifest.receive(json.dumps(value).encode()))


def refusal(value: dict[str, Any]) -> str:
    raw = RawManifest.receive(json.dumps(value).encode())
    with pytest.raises(InvalidManifestError) as caught:
        parse(raw)
    assert str(raw.digest) in str(caught.value)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize("docker", [False, True])
def test_an_image_manifest_is_read(docker: bool) -> None:
    image = random_image(1, layers=3, docker=docker)
    manifest = parse_image(image.raw)
    assert manifest == Manifest(
        media_type=mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST,
        config=Descriptor(
            mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG,
            Digest.of(image.config),
            len(image.config),
        ),
        layers=image.layers,
        annotations={},
    )
    assert manifest.is_image
    assert manifest.config.digest.hex == image.id
    assert {found.digest for found in manifest.blobs} == set(image.blobs)
    assert ImageConfig.parse(image.blobs[manifest.config.digest]).platform == image.platform


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_is_read(docker: bool) -> None:
    arm = Platform("linux", "arm", "v7")
    images = [random_image(1), random_image(2, platform=arm)]
    index = parse_index(index_of(images, docker))
    assert index.media_type == (mt.DOCKER_LIST if docker else mt.OCI_INDEX)
    assert [member.digest for member in index.manifests] == [image.raw.digest for image in images]
    assert [member.platform for member in index.manifests] == [Platform("linux", "amd64"), arm]


def test_an_artifact_is_a_manifest_but_no_image() -> None:
    subject = random_image(1).raw.descriptor
    artifact = parse_image(random_artifact(5, subject=subject).raw)
    assert not artifact.is_image
    assert artifact.artifact_type == "application/x.test"
    assert artifact.subject == subject
    assert artifact.annotations == {"seed": "5"}


def test_an_index_can_have_subject_annotations_and_artifact_type() -> None:
    index = read(document(mt.OCI_INDEX, subject=blob(), annotations={"a": "b"}, artifactType="x/y"))
    assert isinstance(index, Index)
    assert index.subject == Descriptor(mt.OCI_LAYER, D, 1)
    assert (index.annotations, index.artifact_type) == ({"a": "b"}, "x/y")


def test_an_index_is_no_image_and_an_image_no_index() -> None:
    image = random_image(1)
    index = index_of([image])
    with pytest.raises(InvalidManifestError, match=f"{index.digest} is an index where an image"):
        parse_image(index)
    with pytest.raises(InvalidManifestError, match=f"{image.raw.digest} is an image where an ind"):
        parse_index(image.raw)


@pytest.mark.parametrize("value", [[], {}, "x", 0, False, [{"a": 1}]])
@pytest.mark.parametrize(
    ("media_type", "field"),
    [
        *itertools.product(MANIFESTS, ["fsLayers", "history", "manifests"]),
        *itertools.product(INDEXES, ["config", "fsLayers", "history", "layers"]),
    ],
)
def test_a_telling_field_of_another_type_makes_a_document_ambiguous(
    media_type: str, field: str, value: object
) -> None:
    message = refusal(document(media_type, **{field: value}))
    assert f"is ambiguous: {media_type} must not have '{field}'" in message


@pytest.mark.parametrize("media_type", MANIFESTS + INDEXES)
def test_telling_fields_that_are_null_are_absent(media_type: str) -> None:
    nulls = dict.fromkeys(TELLING)
    assert read({**nulls, **document(media_type)}) == read(document(media_type))


@pytest.mark.parametrize("declared", sorted(mt.MANIFESTS | mt.INDEXES | mt.SCHEMA1))
@pytest.mark.parametrize("stated", [None, *MANIFESTS, *INDEXES])
def test_both_an_image_and_an_index_is_nothing_however_it_is_sent(
    stated: str | None, declared: str
) -> None:
    both = {**document(mt.OCI_INDEX), **document(mt.OCI_MANIFEST), "mediaType": stated}
    with pytest.raises(KstoreError):
        parse(RawManifest.receive(json.dumps(both).encode(), declared))


def test_all_foreign_fields_are_named() -> None:
    message = refusal(document(mt.OCI_INDEX, layers=[], config={}))
    assert "must not have 'config', 'layers'" in message


@pytest.mark.parametrize("media_type", sorted(mt.SCHEMA1))
@pytest.mark.parametrize("stated", [True, False])
def test_docker_schema_1_is_recognised_and_politely_declined(media_type: str, stated: bool) -> None:
    value: dict[str, Any] = {"schemaVersion": 1, "name": "x", "fsLayers": [], "history": []}
    if stated:
        value["mediaType"] = media_type
    if media_type == mt.DOCKER_SCHEMA1_SIGNED:
        value["signatures"] = [{}]
    raw = RawManifest.receive(json.dumps(value).encode())
    assert raw.media_type == media_type
    for reader in (parse, parse_image, parse_index):
        with pytest.raises(UnsupportedError, match="Docker schema 1") as caught:
            reader(raw)
        assert str(raw.digest) in str(caught.value)
        assert caught.value.hint


def test_a_type_that_was_never_settled_is_unsupported() -> None:
    raw = RawManifest(b"{}", "text/plain", Digest.of(b"{}"))
    with pytest.raises(UnsupportedError, match=r"unknown type 'text/plain'"):
        parse(raw)


def test_bytes_that_were_never_checked_are_checked_now() -> None:
    for data in (b"[]", b"{", b'{"manifests":[],"manifests":[]}', b" " * (5 << 20)):
        raw = RawManifest(data, mt.OCI_INDEX, Digest.of(data))
        with pytest.raises(InvalidManifestError, match=str(raw.digest)):
            parse(raw)


@pytest.mark.parametrize("value", [None, {}, "x", 5])
def test_layers_and_members_must_be_lists(value: object) -> None:
    for media_type in MANIFESTS:
        assert "no list of layers" in refusal(document(media_type, layers=value))
    for media_type in INDEXES:
        assert "no list of manifests" in refusal(document(media_type, manifests=value))


@pytest.mark.parametrize("media_type", MANIFESTS)
def test_a_manifest_needs_a_config(media_type: str) -> None:
    assert "config of manifest" in refusal(document(media_type, config=None))


@pytest.mark.parametrize("digest", ["sha256:../../x", "a/../..", "", None, str(D).upper(), "x" * 9])
@pytest.mark.parametrize(
    ("media_type", "place", "named"),
    [
        (mt.OCI_MANIFEST, "config", "config of manifest"),
        (mt.OCI_MANIFEST, "layers", "layer 1 of manifest"),
        (mt.OCI_MANIFEST, "subject", "subject of manifest"),
        (mt.OCI_INDEX, "manifests", "member 1 of manifest"),
        (mt.OCI_INDEX, "subject", "subject of manifest"),
    ],
)
def test_a_digest_that_is_none_is_refused_wherever_it_stands(
    media_type: str, place: str, named: str, digest: object
) -> None:
    bad: Any = blob(digest=digest)
    value = [blob(), bad] if place in ("layers", "manifests") else bad
    message = refusal(document(media_type, **{place: value}))
    assert f"{named} " in message
    assert "bad digest" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"annotations": []},
        {"annotations": {"a": 1}},
        {"artifactType": 5},
        {"subject": "x"},
        {"subject": []},
    ],
)
@pytest.mark.parametrize("media_type", [mt.OCI_MANIFEST, mt.OCI_INDEX])
def test_a_field_of_the_wrong_kind_is_refused(media_type: str, changes: dict[str, Any]) -> None:
    assert next(iter(changes)) in refusal(document(media_type, **changes))


def test_the_number_of_members_of_an_index_is_limited() -> None:
    most = document(mt.OCI_INDEX, manifests=[blob()] * MAX_INDEX_ENTRIES)
    index = read(most)
    assert isinstance(index, Index)
    assert len(index.manifests) == 1000
    most["manifests"].append(blob())
    assert "has 1001 members, more than the limit of 1000" in refusal(most)


def test_the_number_of_layers_of_an_image_is_limited() -> None:
    most = document(mt.OCI_MANIFEST, layers=[blob()] * MAX_LAYERS)
    manifest = read(most)
    assert isinstance(manifest, Manifest)
    assert len(manifest.layers) == 4096
    most["layers"].append(blob())
    assert "has 4097 layers, more than 4096" in refusal(most)


@pytest.mark.parametrize("kind", sorted(mt.IMAGE_CONFIGS))
def test_the_config_of_an_image_is_limited_in_size(kind: str) -> None:
    read(document(mt.OCI_MANIFEST, config=blob(kind, size=MAX_CONFIG_SIZE)))
    large = document(mt.OCI_MANIFEST, config=blob(kind, size=MAX_CONFIG_SIZE + 1))
    assert "is 4194305 bytes, more than the limit of 4194304" in refusal(large)


def test_the_config_of_an_artifact_may_be_large() -> None:
    manifest = read(document(mt.OCI_MANIFEST, config=blob("model/weights", size=2**40)))
    assert isinstance(manifest, Manifest)
    assert not manifest.is_image


def test_an_image_without_layers_and_an_index_without_members_are_valid() -> None:
    manifest = read(document(mt.OCI_MANIFEST, layers=[]))
    index = read(document(mt.OCI_INDEX, manifests=[]))
    assert isinstance(manifest, Manifest)
    assert isinstance(index, Index)
    assert manifest.layers == index.manifests == ()


def test_every_blob_is_needed_once_layers_first() -> None:
    one, two, three = (str(Digest.of(text)) for text in (b"1", b"2", b"3"))
    layers = [blob(digest=two), blob(digest=one), blob(digest=two)]
    manifest = read(
        document(mt.OCI_MANIFEST, layers=layers, config=blob(mt.OCI_CONFIG, digest=three))
    )
    assert isinstance(manifest, Manifest)
    assert [str(found.digest) for found in manifest.blobs] == [two, one, three]
    assert len(manifest.layers) == 3


def test_views_can_be_members_of_a_set() -> None:
    for media_type in (mt.OCI_MANIFEST, mt.OCI_INDEX):
        value = document(media_type, annotations={"a": "b"})
        assert len({read(value), read(value)}) == 1


SAMPLES = [
    random_image(1).raw,
    random_image(2, docker=True).raw,
    random_artifact(3, subject=random_image(1).raw.descriptor).raw,
    index_of([random_image(1), random_image(2)]),
    index_of([random_image(1)], docker=True),
]
_ATOMS: st.SearchStrategy[Any] = (
    st.sampled_from([None, True, -1, 0, 1, 2, 1.5, 2**64, "", "x", str(D), *MANIFESTS, *INDEXES])
    | st.builds(list)
    | st.builds(dict)
    | st.builds(blob)
    | st.text(max_size=3)
)
_NAMES = st.sampled_from([*TELLING, "mediaType", "MediaType", "subject", "digest", "size", "urls"])


def containers(value: Any) -> list[Any]:
    """Every object and list in ``value``, itself included."""
    if not isinstance(value, dict | list):
        return []
    children = value.values() if isinstance(value, dict) else value
    return [value, *(found for child in children for found in containers(child))]


def mutate(draw: Callable[[st.SearchStrategy[Any]], Any], value: Any) -> None:
    """Change, add or remove one thing somewhere in ``value``."""
    place = draw(st.sampled_from(containers(value)))
    if isinstance(place, list):
        if place and draw(st.booleans()):
            del place[draw(st.integers(0, len(place) - 1))]
        else:
            place.append(draw(_ATOMS))
        return
    key = draw(st.sampled_from(sorted(place)) if place and draw(st.booleans()) else _NAMES)
    if draw(st.booleans()):
        place[key] = draw(_ATOMS)
    else:
        place.pop(key, None)


def read_or_reject(data: bytes, declared: str | None) -> None:
    try:
        raw = RawManifest.receive(data, declared)
        view = parse(raw)
    except KstoreError:
        return
    assert raw.data == data
    assert isinstance(view, Index) == raw.is_index
    seen = json.loads(data)
    assert len(view.manifests if isinstance(view, Index) else view.layers) == len(
        seen["manifests" if raw.is_index else "layers"]
    )
    assert not [field for field in TELLING if seen.get(field) and hides(view, field)]


def hides(view: Manifest | Index, field: str) -> bool:
    return field not in (["manifests"] if isinstance(view, Index) else ["config", "layers"])


@steady
@given(st.data())
def test_a_manifest_changed_at_random_is_read_or_refused_and_never_breaks(
    data: st.DataObject,
) -> None:
    sample = data.draw(st.sampled_from(SAMPLES))
    value = json.loads(sample.data)
    for _ in range(data.draw(st.integers(1, 4))):
        mutate(data.draw, value)
    declared = data.draw(st.sampled_from([None, sample.media_type]))
    read_or_reject(json.dumps(value).encode(), declared)


@steady
@given(st.sampled_from(SAMPLES), st.integers(0, 5000), st.binary(max_size=4), st.integers(0, 40))
def test_bytes_changed_at_random_are_read_or_refused_and_never_break(
    sample: RawManifest, where: int, put: bytes, cut: int
) -> None:
    where %= len(sample.data)
    read_or_reject(sample.data[:where] + put + sample.data[where + cut :], sample.media_type)
    read_or_reject(sample.data[:where] + put + sample.data[where + cut :], None)
