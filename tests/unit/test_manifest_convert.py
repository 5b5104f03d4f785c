"""Conversions between manifest types, and edits of layers and members."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import UnsupportedError
from kstore.manifest import RawManifest, parse_image, parse_index
from kstore.manifest.convert import convert, converted_layer_type, rewrite_index
from kstore.platforms import Platform
from tests.support.images import ARM64, TestImage, index_of, random_artifact, random_image

FAMILIES = [(mt.OCI_MANIFEST, mt.DOCKER_MANIFEST), (mt.DOCKER_MANIFEST, mt.OCI_MANIFEST)]


def edited(raw: RawManifest, **changes: object) -> RawManifest:
    return RawManifest.receive(json.dumps({**json.loads(raw.data), **changes}).encode())


@pytest.mark.parametrize("docker", [True, False])
def test_a_manifest_that_need_not_change_keeps_its_bytes(docker: bool):
    image = random_image(1, docker=docker)
    assert convert(image.raw, image.config, image.raw.media_type) == (image.raw, image.config)
    same = {layer.digest: layer for layer in image.layers}
    assert convert(image.raw, None, image.raw.media_type, same)[0] is image.raw


@pytest.mark.parametrize("compression", ["gzip", "none"])
@pytest.mark.parametrize(("start", "target"), FAMILIES)
def test_types_are_mapped_one_to_one_and_digests_stay(start: str, target: str, compression: str):
    image = random_image(1, docker=start == mt.DOCKER_MANIFEST, compression=compression)
    raw, config = convert(image.raw, image.config, target)
    before, after = parse_image(image.raw), parse_image(raw)
    assert raw.media_type == after.media_type == target
    assert config == image.config
    assert after.config.digest == before.config.digest
    assert after.config.media_type in mt.IMAGE_CONFIGS - {before.config.media_type}
    assert [(x.digest, x.size) for x in after.layers] == [(x.digest, x.size) for x in before.layers]
    assert {mt.layer_compression(x.media_type) for x in after.layers} == {compression}


@given(
    seed=st.integers(0, 20),
    layers=st.integers(1, 6),
    docker=st.booleans(),
    compression=st.sampled_from(["gzip", "none"]),
)
def test_there_and_back_again_is_the_same_image(
    seed: int, layers: int, docker: bool, compression: str
):
    image = random_image(seed, layers=layers, layer_size=50, docker=docker, compression=compression)
    away = mt.OCI_MANIFEST if docker else mt.DOCKER_MANIFEST
    there, _ = convert(image.raw, image.config, away)
    back, _ = convert(there, image.config, image.raw.media_type)
    assert json.loads(back.data) == json.loads(image.raw.data)
    assert convert(there, image.config, away)[0] is there


def test_a_zstd_layer_cannot_go_into_dockers_type_unless_it_is_replaced():
    image = random_image(1, compression="zstd")
    with pytest.raises(UnsupportedError, match="zstd") as caught:
        convert(image.raw, image.config, mt.DOCKER_MANIFEST)
    assert "gzip" in str(caught.value.hint)
    new = {
        layer.digest: Descriptor(mt.OCI_LAYER_GZIP, Digest.of(str(n).encode()), 1)
        for n, layer in enumerate(image.layers)
    }
    manifest = parse_image(convert(image.raw, image.config, mt.DOCKER_MANIFEST, new)[0])
    assert {layer.media_type for layer in manifest.layers} == {mt.DOCKER_LAYER}
    assert [layer.digest for layer in manifest.layers] == [x.digest for x in new.values()]


def test_annotations_and_unknown_keys_survive_in_oci_and_annotations_go_in_docker():
    image = random_image(1)
    layers = [
        {**layer.to_json(), "annotations": {"a": "b"}, "x-future": 1} for layer in image.layers
    ]
    raw = edited(image.raw, annotations={"who": "me"}, layers=layers)
    new = {image.layers[0].digest: Descriptor(mt.OCI_LAYER_ZSTD, Digest.of(b"z"), 1)}
    oci = json.loads(convert(raw, None, mt.OCI_MANIFEST, new)[0].data)
    assert oci["annotations"] == {"who": "me"}
    assert [layer["annotations"] for layer in oci["layers"]] == [{"a": "b"}] * 2
    assert oci["layers"][1]["x-future"] == 1
    docker = json.loads(convert(raw, None, mt.DOCKER_MANIFEST)[0].data)
    assert "annotations" not in docker
    assert all("annotations" not in layer for layer in docker["layers"])


def test_annotations_about_the_old_bytes_do_not_follow_the_layer():
    image = random_image(1, layers=1)
    notes = {"io.github.containers.zstd-chunked.manifest-checksum": "x", "kept": "y"}
    raw = edited(image.raw, layers=[{**image.layers[0].to_json(), "annotations": notes}])
    new = {image.layers[0].digest: Descriptor(mt.OCI_LAYER, Digest.of(b"z"), 1)}
    (layer,) = parse_image(convert(raw, None, mt.OCI_MANIFEST, new)[0]).layers
    assert layer.annotations == {"kept": "y"}


def test_artifacts_are_not_converted():
    with pytest.raises(UnsupportedError, match="artifact"):
        convert(random_artifact(1).raw, b"{}", mt.DOCKER_MANIFEST)


def test_a_manifest_that_refers_to_another_cannot_become_dockers():
    raw = random_image(1, subject=random_image(2).raw.descriptor).raw
    with pytest.raises(UnsupportedError, match="refers to another"):
        convert(raw, None, mt.DOCKER_MANIFEST)


def test_a_config_that_knows_another_number_of_layers_is_refused():
    with pytest.raises(UnsupportedError, match="2 layers, but its config knows 3"):
        convert(random_image(1).raw, random_image(1, layers=3).config, mt.DOCKER_MANIFEST)


def test_nothing_becomes_schema_1():
    with pytest.raises(UnsupportedError, match="cannot become"):
        convert(random_image(1).raw, None, mt.DOCKER_SCHEMA1)


@pytest.mark.parametrize(
    ("media_type", "target", "result"),
    [
        (mt.DOCKER_FOREIGN_LAYER, mt.OCI_MANIFEST, mt.OCI_NONDISTRIBUTABLE + "+gzip"),
        (mt.DOCKER_FOREIGN_LAYER_TAR, mt.OCI_MANIFEST, mt.OCI_NONDISTRIBUTABLE),
        (mt.OCI_NONDISTRIBUTABLE + "+gzip", mt.DOCKER_MANIFEST, mt.DOCKER_FOREIGN_LAYER),
        (mt.OCI_NONDISTRIBUTABLE, mt.DOCKER_MANIFEST, mt.DOCKER_FOREIGN_LAYER_TAR),
    ],
)
def test_foreign_layers_stay_foreign(media_type: str, target: str, result: str):
    assert converted_layer_type(media_type, target) == result


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", mt.OCI_LAYER_GZIP + "+encrypted", mt.OCI_NONDISTRIBUTABLE + "+zstd"],
)
def test_a_layer_type_docker_does_not_have_is_refused(media_type: str):
    with pytest.raises(UnsupportedError):
        converted_layer_type(media_type, mt.DOCKER_MANIFEST)


def members() -> list[TestImage]:
    return [random_image(1), random_image(2, platform=ARM64)]


def test_an_index_that_need_not_change_keeps_its_bytes():
    images = members()
    index = index_of(images)
    same = {image.raw.digest: image.raw for image in images}
    assert rewrite_index(index, mt.OCI_INDEX, same) is index
    assert rewrite_index(index, mt.OCI_INDEX, {}, keep=list(same)) is index


@pytest.mark.parametrize("docker", [True, False])
def test_a_list_becomes_an_index_and_back_with_converted_members(docker: bool):
    images = [random_image(n, docker=docker, platform=p) for n, p in ((1, None), (2, ARM64))]
    index = index_of(images, docker)
    family = mt.OCI_MANIFEST if docker else mt.DOCKER_MANIFEST
    target = mt.OCI_INDEX if docker else mt.DOCKER_LIST
    new = {image.raw.digest: convert(image.raw, None, family)[0] for image in images}
    there = rewrite_index(index, target, new)
    view = parse_index(there)
    assert [m.digest for m in view.manifests] == [raw.digest for raw in new.values()]
    assert {m.media_type for m in view.manifests} == {family}
    assert [m.platform for m in view.manifests] == [image.platform for image in images]
    back = {raw.digest: convert(raw, None, images[0].raw.media_type)[0] for raw in new.values()}
    assert rewrite_index(there, index.media_type, back).data == index.data


def test_members_that_are_not_kept_are_gone_and_one_must_stay():
    images = members()
    index = index_of(images)
    left = rewrite_index(index, mt.OCI_INDEX, {}, keep=[images[1].raw.digest])
    assert [m.digest for m in parse_index(left).manifests] == [images[1].raw.digest]
    with pytest.raises(UnsupportedError, match="no member left"):
        rewrite_index(index, mt.OCI_INDEX, {}, keep=[])


def test_a_docker_list_needs_every_platform():
    document = json.loads(index_of(members()).data)
    del document["manifests"][0]["platform"]
    with pytest.raises(UnsupportedError, match="no platform"):
        rewrite_index(RawManifest.receive(json.dumps(document).encode()), mt.DOCKER_LIST, {})


def test_an_attestation_follows_the_member_it_speaks_of():
    image, statement = random_image(1), random_image(9, platform=Platform("unknown", "unknown"))
    document = json.loads(index_of([image, statement]).data)
    document["manifests"][1]["annotations"] = {
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(image.raw.digest),
    }
    index = RawManifest.receive(json.dumps(document).encode())
    new = random_image(5).raw
    view = parse_index(rewrite_index(index, mt.OCI_INDEX, {image.raw.digest: new}))
    assert view.manifests[1].annotations["vnd.docker.reference.digest"] == str(new.digest)
    assert view.manifests[1].annotations["vnd.docker.reference.type"] == "attestation-manifest"
