"""Copies of indexes, and conversions between families."""

from __future__ import annotations

import json

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import (
    InvalidInputError,
    ManifestRejectedError,
    PlatformNotFoundError,
    PolicyRejectedError,
    UnsupportedError,
)
from kstore.image import TrustPolicy
from kstore.interfaces import DestinationTraits
from kstore.manifest import RawManifest, parse_image, parse_index
from kstore.platforms import Platform
from kstore.signature import SIGNATURE_KINDS
from tests.support.images import AMD64, ARM64, TestImage, index_of, random_image
from tests.support.memory import Memory

UNKNOWN = Platform("unknown", "unknown")


def pair(**kwargs) -> list[TestImage]:
    return [random_image(1, platform=AMD64, **kwargs), random_image(2, platform=ARM64, **kwargs)]


def offered(images: list[TestImage], docker: bool = False) -> Memory:
    return Memory({"app": (index_of(images, docker), images)})


def with_attestation() -> list[TestImage]:
    return [*pair(), random_image(3, platform=UNKNOWN)]


def test_all_members_arrive_before_their_index_byte_for_byte(copy):
    images = with_attestation()
    memory = offered(images)
    result = copy(memory, instances="all")
    arrived = memory.committed["copy"]
    assert arrived.raw is memory.images["app"][0]
    assert result.raw is arrived.raw
    assert result.via is None
    assert arrived.members == {image.raw.digest: image.raw for image in images}
    assert arrived.blobs == {d: data for image in images for d, data in image.blobs.items()}
    written = [entry[1] for entry in memory.asked("write_manifest")]
    assert written == [*(image.raw.digest for image in images), arrived.raw.digest]


def test_a_blob_of_two_members_moves_once(copy):
    one = random_image(1, platform=AMD64)
    document = json.loads(one.raw.data)
    document["annotations"] = {"twin": "yes"}
    other = RawManifest.receive(json.dumps(document).encode())
    twin = TestImage(other, one.blobs, one.config, one.layers, ARM64)
    memory = offered([one, twin])
    copy(memory, instances="all")
    opened = [entry[1] for entry in memory.asked("open_blob")]
    assert sorted(opened) == sorted(one.blobs)


def test_every_member_is_admitted_before_it_is_parsed(copy):
    images = pair()
    memory = offered(images)
    memory.manifest_lies[str(images[1].raw.digest)] = images[1].raw
    seen: list[Digest] = []

    class Last(TrustPolicy):
        def check(self, image):
            seen.append(image.raw.digest)
            if len(seen) == 3:
                raise PolicyRejectedError("not this one")
            return "fine"

    with pytest.raises(PolicyRejectedError):
        copy(memory, instances="all", policy=Last())
    assert seen == [memory.images["app"][0].digest, *(image.raw.digest for image in images)]
    assert memory.asked("open_destination") == []


def test_the_index_alone_is_copied_without_its_members(copy):
    memory = offered(pair())
    result = copy(memory, instances="index-only")
    assert result.raw is memory.images["app"][0]
    assert memory.committed["copy"].members == {}
    assert memory.asked("open_blob") == []
    memory = Memory({"app": random_image(1)})
    with pytest.raises(UnsupportedError, match="not an index"):
        copy(memory, instances="index-only")


def test_chosen_platforms_get_an_index_of_their_own(copy):
    images = [*with_attestation(), random_image(4, platform=Platform("linux", "s390x"))]
    memory = offered(images)
    result = copy(memory, instances="platforms", platforms=(ARM64, AMD64))
    view = parse_index(result.raw)
    assert [m.digest for m in view.manifests] == [image.raw.digest for image in images[:2]]
    assert set(memory.committed["copy"].members) == {m.digest for m in view.manifests}


def test_a_sparse_index_keeps_its_bytes_only_when_asked(copy):
    memory = offered(pair())
    wishes = {"instances": "platforms", "platforms": (ARM64,)}
    with pytest.raises(UnsupportedError, match="preserved"):
        copy(memory, **wishes, preserve_digests=True)
    assert memory.asked("open_blob") == []
    result = copy(memory, **wishes, sparse=True, preserve_digests=True)
    assert result.raw is memory.images["app"][0]
    assert len(memory.committed["copy"].members) == 1


def test_choosing_every_platform_changes_nothing(copy):
    memory = offered(pair())
    result = copy(memory, instances="platforms", platforms=(AMD64, ARM64), preserve_digests=True)
    assert result.raw is memory.images["app"][0]


def test_a_platform_that_is_not_there_is_missed(copy):
    with pytest.raises(PlatformNotFoundError):
        copy(offered(pair()), instances="platforms", platforms=(Platform("linux", "mips"),))
    with pytest.raises(InvalidInputError):
        copy(offered(pair()), instances="platforms")


def test_a_destination_without_indexes_refuses_them_before_anything_moves(copy):
    memory = offered(pair())
    with pytest.raises(UnsupportedError, match="not an index"):
        copy(memory, instances="all", traits=DestinationTraits(indexes=False))
    assert memory.asked("open_blob") == []
    copy(memory, traits=DestinationTraits(indexes=False))


@pytest.mark.parametrize("docker", [True, False])
def test_a_forced_type_converts_members_and_index(copy, docker: bool):
    images = pair(docker=docker)
    memory = offered(images, docker)
    target = mt.OCI_MANIFEST if docker else mt.DOCKER_MANIFEST
    result = copy(memory, instances="all", manifest_type=target)
    view = parse_index(result.raw)
    assert view.media_type == (mt.OCI_INDEX if docker else mt.DOCKER_LIST)
    members = memory.committed["copy"].members
    assert set(members) == {m.digest for m in view.manifests}
    assert {raw.media_type for raw in members.values()} == {target}
    configs = [parse_image(members[m.digest]).config.digest for m in view.manifests]
    assert configs == [Digest.of(image.config) for image in images]
    assert [m.platform for m in view.manifests] == [AMD64, ARM64]


@pytest.mark.parametrize(
    "wishes",
    [
        {"instances": "index-only"},
        {"instances": "platforms", "platforms": (ARM64,), "sparse": True},
    ],
)
def test_an_index_is_not_converted_without_its_members(copy, wishes):
    memory = offered(pair())
    with pytest.raises(UnsupportedError, match="without all of its members"):
        copy(memory, manifest_type=mt.DOCKER_MANIFEST, **wishes)
    assert memory.asked("open_blob") == []
    copy(memory, manifest_type=mt.OCI_MANIFEST, **wishes)


def test_attestations_stay_behind_where_nothing_can_say_whose_they_are(copy):
    memory = offered(with_attestation())
    result = copy(memory, instances="all", manifest_type=mt.DOCKER_MANIFEST)
    assert [m.platform for m in parse_index(result.raw).manifests] == [AMD64, ARM64]


def test_the_type_a_destination_lacks_is_converted_to_one_it_has(copy):
    image = random_image(1)
    memory = Memory({"app": image})
    traits = DestinationTraits(manifest_types=(mt.DOCKER_MANIFEST, mt.DOCKER_LIST))
    result = copy(memory, traits=traits)
    assert result.raw.media_type == mt.DOCKER_MANIFEST
    assert parse_image(result.raw).config.digest == Digest.of(image.config)
    assert memory.committed["copy"].blobs == dict(image.blobs)


def test_the_index_an_unchanged_image_was_chosen_from_is_remembered_a_changed_ones_is_not(copy):
    memory = offered(pair())
    assert copy(memory).via is memory.images["app"][0]
    assert copy(memory, manifest_type=mt.DOCKER_MANIFEST).via is None
    assert memory.committed["copy"].via is None


def test_a_type_that_is_refused_when_it_is_seen_is_followed_by_the_next(copy):
    image = random_image(1)
    memory = Memory({"app": image})
    memory.rejects = {mt.OCI_MANIFEST}
    result = copy(memory)
    assert result.raw.media_type == mt.DOCKER_MANIFEST
    assert memory.committed["copy"].raw == result.raw
    assert len(memory.asked("open_blob")) == len(image.blobs)


def test_a_refused_index_is_converted_with_its_members(copy):
    memory = offered(pair())
    memory.rejects = {mt.OCI_INDEX}
    result = copy(memory, instances="all")
    assert result.raw.media_type == mt.DOCKER_LIST


@pytest.mark.parametrize("wishes", [{"preserve_digests": True}, {"manifest_type": mt.OCI_MANIFEST}])
def test_a_refusal_stands_when_nothing_else_may_be_tried(copy, wishes):
    memory = Memory({"app": random_image(1)})
    memory.rejects = {mt.OCI_MANIFEST}
    with pytest.raises(ManifestRejectedError):
        copy(memory, **wishes)
    assert memory.committed == {}


def test_a_refusal_stands_when_no_type_is_left(copy):
    memory = Memory({"app": random_image(1)})
    memory.rejects = set(mt.MANIFESTS)
    with pytest.raises(ManifestRejectedError):
        copy(memory)


@pytest.mark.parametrize(
    "wishes",
    [
        {"manifest_type": mt.DOCKER_MANIFEST},
        {"compression": "none"},
        {"traits": DestinationTraits(manifest_types=(mt.DOCKER_MANIFEST,))},
    ],
)
def test_preserved_digests_forbid_every_change_before_a_layer_moves(copy, wishes):
    image = random_image(1)
    memory = Memory({"app": image})
    with pytest.raises(UnsupportedError):
        copy(memory, preserve_digests=True, **wishes)
    layers = {layer.digest for layer in image.layers}
    assert layers.isdisjoint(entry[1] for entry in memory.asked("open_blob"))


def test_a_destination_named_by_a_digest_takes_that_manifest_and_no_other(copy):
    image = random_image(1)
    memory = Memory({"app": image})
    with pytest.raises(InvalidInputError, match="another digest"):
        copy(memory, digest=random_image(2).raw.digest)
    with pytest.raises(UnsupportedError, match="named by its digest"):
        copy(memory, digest=image.raw.digest, compression="none")
    copy(memory, digest=image.raw.digest)
    copy(memory, digest=Digest.of(image.raw.data, "sha512"))
    assert memory.committed["copy"].raw is image.raw


def test_a_name_by_the_digest_of_the_index_is_for_those_who_remember_it(copy):
    memory = offered(pair())
    digest = memory.images["app"][0].digest
    with pytest.raises(InvalidInputError, match="another digest"):
        copy(memory, digest=digest)
    assert memory.asked("open_blob") == []
    copy(memory, digest=digest, traits=DestinationTraits(remembers_index=True))
    assert memory.committed["copy"].via.digest == digest
    copy(memory, digest=digest, instances="all")


def test_signatures_forbid_changes_unless_they_are_left_behind(copy):
    memory = Memory({"app": random_image(1)})
    memory.signatures["app"] = [b"signed"]
    signing = DestinationTraits(signatures=SIGNATURE_KINDS)
    with pytest.raises(UnsupportedError, match="signed"):
        copy(memory, compression="none", traits=signing)
    copy(memory, traits=signing)
    assert memory.asked("write_signatures") == [("write_signatures", (b"signed",))]
    memory.log.clear()
    copy(memory, compression="none", remove_signatures=True)
    assert memory.asked("write_signatures") == []


def test_signatures_of_members_and_index_are_written_after_the_manifests(copy):
    images = pair()
    memory = offered(images)
    memory.signatures["app"] = [b"index"]
    memory.signatures[f"app@{images[1].raw.digest}"] = [b"arm"]
    copy(memory, instances="all", traits=DestinationTraits(signatures=SIGNATURE_KINDS))
    order = [entry for entry in memory.log if entry[0].startswith(("write_m", "write_s"))]
    assert [entry[0] for entry in order] == ["write_manifest"] * 3 + ["write_signatures"] * 2
    assert [entry[1] for entry in order[3:]] == [(b"arm",), (b"index",)]


@pytest.mark.parametrize("media_type", [mt.OCI_NONDISTRIBUTABLE + "+gzip", mt.DOCKER_FOREIGN_LAYER])
def test_a_foreign_layer_stays_away_where_that_is_allowed_and_is_fetched_elsewhere(
    copy, media_type: str
):
    image = foreign(media_type)
    layer = image.layers[0].digest
    memory = Memory({"app": image})
    result = copy(memory, traits=DestinationTraits(foreign_urls=True))
    assert layer not in memory.committed["copy"].blobs
    assert result.raw is image.raw
    assert result.layers[0].how is None
    result = copy(memory)
    assert layer in memory.committed["copy"].blobs
    assert result.raw is image.raw


def test_a_foreign_layer_the_source_lacks_is_never_fetched_from_its_address(copy):
    image = foreign(mt.OCI_NONDISTRIBUTABLE + "+gzip")
    blobs = {d: data for d, data in image.blobs.items() if d != image.layers[0].digest}
    memory = Memory({"app": TestImage(image.raw, blobs, image.config, image.layers, AMD64)})
    with pytest.raises(UnsupportedError, match="never fetches from the external addresses"):
        copy(memory)


def test_a_foreign_layer_is_never_compressed_anew(copy):
    image = foreign(mt.OCI_NONDISTRIBUTABLE + "+gzip")
    memory = Memory({"app": image})
    result = copy(memory, compression="none")
    kinds = [layer.media_type for layer in parse_image(result.raw).layers]
    assert kinds == [mt.OCI_NONDISTRIBUTABLE + "+gzip", mt.OCI_LAYER]


def foreign(media_type: str) -> TestImage:
    """An image whose first layer is foreign."""
    image = random_image(1, docker=media_type == mt.DOCKER_FOREIGN_LAYER)
    document = json.loads(image.raw.data)
    document["layers"][0] |= {"mediaType": media_type, "urls": ["https://example.invalid/layer"]}
    raw = RawManifest.receive(json.dumps(document).encode())
    return TestImage(raw, image.blobs, image.config, parse_image(raw).layers, AMD64)
