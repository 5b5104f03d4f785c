"""What holds for every copy, whatever it is asked for and whatever goes wrong.

One test or more for each of the thirteen promises a copy makes; those that a store, a registry
client or several processes have to keep are tested with them, too.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.compression import detect
from kstore.copier import CopyOptions, copy_image
from kstore.digest import Digest
from kstore.errors import (
    CancelledError,
    DigestMismatchError,
    IntegrityError,
    InvalidManifestError,
    KstoreError,
    PolicyRejectedError,
    RemoteError,
    SizeMismatchError,
    StorageError,
    UnsupportedError,
)
from kstore.image import TrustPolicy
from kstore.interfaces import DestinationTraits
from kstore.manifest import RawManifest, parse_image
from kstore.reference import Named
from kstore.signature import SIGNATURE_KINDS
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.transports.storage import StorageTransport
from tests.support.images import AMD64, ARM64, TestImage, index_of, random_image
from tests.support.memory import Memory, MemoryDestination
from tests.unit.copier.test_compression import Known
from tests.unit.copier.test_indexes import foreign

CHANGES = [{}, {"compression": "zstd", "force_compression": True}]
NAME = Named.parse("example.org/app:v1")


def into_store(store: Store, memory: Memory, **wishes):
    return copy_image(
        memory.reference("app"),
        StorageTransport(store).reference(NAME),
        AcceptAnything(),
        CopyOptions(platform=AMD64, **wishes),
        facts=store.layer_facts,
    )


@pytest.mark.parametrize("wishes", CHANGES)
def test_1_no_blob_is_visible_under_its_digest_before_all_of_it_was_checked(tmp_path: Path, wishes):
    image = random_image(1)
    memory = Memory({"app": image})
    bad = image.layers[0].digest
    memory.lies[bad] = image.blobs[bad][:-1] + bytes([image.blobs[bad][-1] ^ 1])
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(IntegrityError):
            into_store(store, memory, **wishes)
        assert store.blob(bad) is None
        assert not (store.root / "blobs" / "sha256" / bad.hex).exists()
        assert not store.check(deep=True).damaged


def test_2_nothing_is_parsed_or_fetched_before_it_was_admitted_member_by_member(copy):
    images = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    memory = Memory({"app": (index_of(images), images)})
    nonsense = RawManifest(b"{", images[0].raw.media_type, Digest.of(b"{"))
    first = images[0].raw

    class NotTheFirst(TrustPolicy):
        def check(self, image):
            if image.member is not None and image.member.digest == first.digest:
                raise PolicyRejectedError("not this one")
            return "fine"

    with pytest.raises(PolicyRejectedError):
        copy(memory, instances="all", policy=NotTheFirst())
    memory.manifest_lies[""] = nonsense

    class Nobody(TrustPolicy):
        def check(self, image):
            raise PolicyRejectedError("nobody")

    with pytest.raises(PolicyRejectedError):
        copy(memory, policy=Nobody())
    assert memory.asked("open_blob") == memory.asked("open_destination") == []


def test_3_the_bytes_that_were_checked_are_the_bytes_that_are_written(copy):
    image = random_image(1)
    odd = RawManifest.receive(json.dumps(json.loads(image.raw.data), indent=7).encode())
    memory = Memory({"app": TestImage(odd, image.blobs, image.config, image.layers, AMD64)})
    for wishes in ({}, {"compression": "gzip"}, {"manifest_type": mt.OCI_MANIFEST}):
        assert copy(memory, **wishes).raw is odd
        assert memory.committed["copy"].raw is odd


@pytest.mark.parametrize("frozen", ["signature", "digest", "wish"])
@pytest.mark.parametrize(
    "change",
    [{"compression": "none"}, {"manifest_type": mt.DOCKER_MANIFEST}],
)
def test_4_what_must_not_change_arrives_as_it_was_or_not_at_all(copy, frozen, change):
    image = random_image(1)
    memory = Memory({"app": image})
    wishes: dict = {"traits": DestinationTraits(signatures=SIGNATURE_KINDS)}
    if frozen == "signature":
        memory.signatures["app"] = [b"signed"]
    elif frozen == "digest":
        wishes["digest"] = image.raw.digest
    else:
        wishes["preserve_digests"] = True
    with pytest.raises(UnsupportedError):
        copy(memory, **wishes, **change)
    assert memory.asked("write_blob") == []
    assert copy(memory, **wishes).raw is image.raw


def test_5_only_what_was_found_out_here_is_remembered(copy):
    image, known = random_image(1, layers=1, compression="gzip"), Known()
    memory = Memory({"app": image})
    copy(memory, facts=known)
    assert known.facts == {}  # nothing was unpacked, so nothing is known but claims
    memory.lies[image.layers[0].digest] = b"x" * image.layers[0].size
    with pytest.raises(IntegrityError):
        copy(memory, facts=known, compression="none")
    assert known.facts == {}
    memory.lies.clear()
    copy(memory, facts=known, compression="none")
    (diff_id,) = json.loads(image.config)["rootfs"]["diff_ids"]
    assert {str(fact.diff_id) for fact in known.facts.values()} == {diff_id}
    assert set(known.facts) == {image.layers[0].digest, Digest.parse(diff_id)}


@pytest.mark.parametrize("step", ["write_blob", "settle", "write_manifest", "commit"])
@pytest.mark.parametrize("wishes", CHANGES)
def test_6_only_the_commit_makes_a_name_point_to_something(copy, monkeypatch, step, wishes):
    memory = Memory({"app": random_image(1)})

    def fail(*args, **kwargs):
        raise RemoteError("now")

    monkeypatch.setattr(MemoryDestination, step, fail)
    with pytest.raises(RemoteError):
        copy(memory, **wishes)
    assert memory.committed == {}


def test_6_a_failure_leaves_the_old_image_under_its_name(tmp_path: Path):
    old, new = random_image(1), random_image(2)
    memory = Memory({"app": old})
    with Store.open(tmp_path / "store") as store:
        into_store(store, memory)
        memory.images["app"] = new
        memory.fail[new.layers[1].digest] = RemoteError("gone")
        with pytest.raises(RemoteError):
            into_store(store, memory)
        assert store.find_image(str(NAME)).image.id == old.id
        memory.fail.clear()
        into_store(store, memory)
        assert store.find_image(str(NAME)).image.id == new.id


@pytest.mark.parametrize("wishes", CHANGES)
@pytest.mark.parametrize("damage", [lambda data: data + b"x", lambda data: data[:-1]])
def test_7_more_or_fewer_bytes_than_declared_are_an_error(copy, damage, wishes):
    image = random_image(1, layers=1)
    memory = Memory({"app": image})
    layer = image.layers[0].digest
    memory.lies[layer] = damage(image.blobs[layer])
    with pytest.raises((SizeMismatchError, IntegrityError)):
        copy(memory, **wishes)
    assert memory.committed == {}


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_8_the_type_of_a_changed_layer_is_what_its_bytes_are(copy, kind):
    memory = Memory({"app": random_image(1, compression="zstd")})
    result = copy(memory, compression=kind, force_compression=True)
    for layer in parse_image(result.raw).layers:
        data = memory.committed["copy"].blobs[layer.digest]
        assert detect(data) == mt.layer_compression(layer.media_type) == kind
        assert (Digest.of(data), len(data)) == (layer.digest, layer.size)


def test_8_a_claimed_diff_id_alone_never_puts_another_blob_in_a_layers_place(copy):
    image, victim, known = random_image(1, layers=1), random_image(2, layers=1), Known()
    memory = Memory({"app": victim})
    first = copy(memory, compression="zstd", force_compression=True, facts=known)
    claimed = json.loads(victim.config)["rootfs"]["diff_ids"]
    config = json.dumps({**json.loads(image.config), "rootfs": {"diff_ids": claimed}}).encode()
    document = json.loads(image.raw.data)
    document["config"] |= {"digest": str(Digest.of(config)), "size": len(config)}
    raw = RawManifest.receive(json.dumps(document).encode())
    blobs = {**image.blobs, Digest.of(config): config}
    memory.images["app"] = TestImage(raw, blobs, config, image.layers, AMD64)
    memory.present = {layer.digest for layer in parse_image(first.raw).layers}
    with pytest.raises(DigestMismatchError, match="but the config says"):
        copy(memory, to="other", compression="zstd", force_compression=True, facts=known)


def test_9_a_config_beyond_the_limit_is_not_read(copy):
    image = random_image(1)
    document = json.loads(image.raw.data)
    document["config"]["size"] = 5 << 20
    raw = RawManifest.receive(json.dumps(document).encode())
    memory = Memory({"app": TestImage(raw, image.blobs, image.config, image.layers, AMD64)})
    with pytest.raises(InvalidManifestError, match="limit"):
        copy(memory, compression="none")
    assert memory.asked("open_blob") == []


def test_9_an_index_of_too_many_bytes_of_manifests_is_not_read(copy):
    images = [random_image(n, platform=AMD64) for n in range(3)]
    document = json.loads(index_of(images).data)
    for member in document["manifests"]:
        member["size"] = 30 << 20
    memory = Memory({"app": (RawManifest.receive(json.dumps(document).encode()), images)})
    with pytest.raises(InvalidManifestError, match="bytes together"):
        copy(memory, instances="all")
    assert len(memory.asked("read_manifest")) == 1


def test_10_no_address_in_a_manifest_is_ever_visited(copy):
    image = foreign(mt.OCI_NONDISTRIBUTABLE + "+gzip")
    blobs = {d: data for d, data in image.blobs.items() if d != image.layers[0].digest}
    memory = Memory({"app": TestImage(image.raw, blobs, image.config, image.layers, AMD64)})
    with pytest.raises(UnsupportedError):
        copy(memory)
    copy(memory, traits=DestinationTraits(foreign_urls=True))
    assert set(memory.committed["copy"].blobs) == set(blobs)


def test_11_a_source_answers_only_for_what_it_was_asked(copy):
    images = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    memory = Memory({"app": (index_of(images), images)})
    memory.manifest_lies[str(images[0].raw.digest)] = images[1].raw
    with pytest.raises(DigestMismatchError):
        copy(memory, instances="all")
    assert memory.asked("open_blob") == []


@pytest.mark.parametrize("wishes", CHANGES)
def test_12_one_failure_stops_the_others_and_leaves_no_litter(copy, tmp_path: Path, wishes):
    image = random_image(1, layers=6, layer_size=200_000)
    memory = Memory({"app": image})
    bad = image.layers[0].digest
    memory.fail[bad] = RemoteError("on fire")
    with pytest.raises(RemoteError, match="on fire"):
        copy(memory, **wishes)
    assert memory.committed == {}
    assert memory.asked("close_destination")
    assert list(tmp_path.iterdir()) == []


def test_12_a_cancel_is_noticed_while_layers_are_changed(copy):
    from kstore.streams import Cancel

    memory = Memory({"app": random_image(1, layers=3, layer_size=100_000)})
    cancel = Cancel()
    memory.before_blob = lambda digest: cancel.cancel()
    with pytest.raises(CancelledError):
        copy(memory, cancel=cancel, manifest_type=mt.DOCKER_MANIFEST)
    assert memory.committed == {}


def test_13_two_that_convert_the_same_image_both_succeed_and_each_blob_is_there_once(
    tmp_path: Path,
):
    image = random_image(1, layers=4, compression="none", layer_size=300_000)
    Store.open(tmp_path / "store").close()

    def one(number: int) -> RawManifest:
        with Store.open(tmp_path / "store") as store:
            return into_store(store, Memory({"app": image}), compression="gzip").raw

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second
    with Store.open(tmp_path / "store") as store:
        report = store.check(deep=True)
        assert report.problems == ()
        assert report.blobs_checked == len(parse_image(first).blobs) + 1


def test_every_failure_of_a_copy_is_one_of_ours(copy, tmp_path: Path):
    memory = Memory({"app": random_image(1, compression="none")})
    for wishes in (
        {"spool": tmp_path / "absent", "compression": "gzip"},
        {"manifest_type": mt.DOCKER_LIST},
        {"compression": "xz"},
    ):
        with pytest.raises(KstoreError):
            copy(memory, **wishes)
    with pytest.raises(StorageError):
        copy(memory, spool=tmp_path / "absent", compression="gzip")
