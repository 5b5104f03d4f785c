"""The copy engine between two dicts: order, checks, failure, cancel."""

from __future__ import annotations

import re
import threading
import time

import pytest

from kstore.copier import CopyOptions, copy_image
from kstore.copier.progress import Event
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    CancelledError,
    DigestMismatchError,
    InvalidManifestError,
    ManifestNotFoundError,
    PlatformNotFoundError,
    PolicyRejectedError,
    RemoteError,
    SizeMismatchError,
    UnsupportedError,
)
from kstore.image import TrustPolicy
from kstore.interfaces import DestinationTraits
from kstore.manifest import RawManifest
from kstore.mediatypes import DOCKER_MANIFEST, OCI_MANIFEST
from kstore.platforms import Platform
from kstore.signing.policy import AcceptAnything
from kstore.streams import Cancel
from tests.support.images import AMD64, ARM64, index_of, random_artifact, random_image
from tests.support.memory import Memory


class Reject(TrustPolicy):
    def __init__(self, nth: int = 1) -> None:
        self.nth = nth
        self.seen: list[str] = []

    def check(self, image) -> str:
        self.seen.append(str(image.raw.digest))
        if len(self.seen) >= self.nth:
            raise PolicyRejectedError("not this one")
        return "fine"


def copy(memory: Memory, name: str = "app", to: str = "copy", **kwargs):
    options = kwargs.pop("options", CopyOptions(platform=AMD64))
    policy = kwargs.pop("policy", AcceptAnything())
    return copy_image(memory.reference(name), memory.reference(to), policy, options, **kwargs)


def test_an_image_arrives_byte_for_byte():
    image = random_image(1, layers=5)
    memory = Memory({"app": image})
    result = copy(memory)
    assert memory.committed["copy"].raw is image.raw
    assert memory.committed["copy"].blobs == dict(image.blobs)
    assert result.raw.digest == image.raw.digest
    assert result.via is None


def test_blobs_come_before_the_manifest_and_the_commit_comes_last():
    memory = Memory({"app": random_image(1, layers=3)})
    copy(memory)
    order = [entry[0] for entry in memory.log]
    last_blob = max(i for i, name in enumerate(order) if name == "write_blob")
    assert order.index("write_manifest") > last_blob
    assert order.index("commit") > order.index("write_manifest")
    assert "settle" in order[last_blob : order.index("write_manifest")]


def test_a_missing_source_leaves_the_destination_unopened():
    memory = Memory({})
    with pytest.raises(ManifestNotFoundError):
        copy(memory)
    assert memory.asked("open_destination") == []


def test_a_rejected_image_is_neither_parsed_nor_are_its_blobs_fetched():
    image = random_image(1)
    nonsense = RawManifest(b"not even json", image.raw.media_type, Digest.of(b"not even json"))
    memory = Memory({"app": image})
    memory.manifest_lies[""] = nonsense
    with pytest.raises(PolicyRejectedError):
        copy(memory, policy=Reject())
    assert memory.asked("open_blob") == []
    assert memory.asked("open_destination") == []


def test_the_chosen_member_of_an_index_is_admitted_on_its_own():
    members = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    index = index_of(members)
    memory = Memory({"app": (index, members)})
    policy = Reject(nth=2)
    with pytest.raises(PolicyRejectedError):
        copy(memory, policy=policy)
    assert policy.seen == [str(index.digest), str(members[0].raw.digest)]
    assert memory.asked("open_blob") == []


@pytest.mark.parametrize(("platform", "which"), [(AMD64, 0), (ARM64, 1)])
def test_the_member_for_the_platform_is_copied_and_the_index_is_remembered(platform, which):
    members = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    index = index_of(members)
    memory = Memory({"app": (index, members)})
    result = copy(memory, options=CopyOptions(platform=platform))
    assert result.raw.digest == members[which].raw.digest
    assert memory.committed["copy"].via is index


def test_a_platform_the_index_lacks_is_answered_with_those_it_has():
    members = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
    memory = Memory({"app": (index_of(members), members)})
    with pytest.raises(PlatformNotFoundError, match=r"linux/s390x.*linux/amd64, linux/arm64"):
        copy(memory, options=CopyOptions(platform=Platform("linux", "s390x")))
    assert memory.asked("open_destination") == []


def test_an_index_inside_an_index_is_refused():
    member = random_image(1)
    inner = index_of([member])
    outer_member = type(member)(inner, {}, b"", (), AMD64)
    outer = index_of([outer_member])
    memory = Memory({"app": (outer, [outer_member])})
    with pytest.raises(InvalidManifestError, match="nested"):
        copy(memory)


def test_a_manifest_that_is_not_the_one_asked_for_by_digest_is_refused():
    image, other = random_image(1), random_image(2)
    memory = Memory({"app": image})
    memory.manifest_lies[""] = other.raw
    reference = memory.reference("app", digest=image.raw.digest)
    with pytest.raises(DigestMismatchError):
        copy_image(reference, memory.reference("copy"), AcceptAnything())
    assert memory.asked("open_destination") == []


def test_a_member_of_another_size_than_its_index_declares_is_refused():
    member = random_image(1)
    index = index_of([member])
    size = f'"size":{len(member.raw.data)}'.encode()
    wrong = index.data.replace(size, size + b"0")
    assert wrong != index.data
    memory = Memory({"app": (RawManifest.receive(wrong), [member])})
    with pytest.raises(SizeMismatchError):
        copy(memory)


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda data: data[:-1], SizeMismatchError),
        (lambda data: data + b"x", SizeMismatchError),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], DigestMismatchError),
    ],
    ids=["shorter", "longer", "altered"],
)
def test_a_damaged_blob_fails_the_copy_and_nothing_is_committed(damage, error):
    image = random_image(1, layers=3)
    memory = Memory({"app": image})
    bad = image.layers[1].digest
    memory.lies[bad] = damage(image.blobs[bad])
    with pytest.raises(error, match=str(bad)):
        copy(memory)
    assert memory.committed == {}
    assert bad not in memory.kept


def test_blobs_that_are_finished_stay_when_another_one_fails():
    image = random_image(1, layers=4)
    memory = Memory({"app": image})
    bad = image.layers[0].digest
    others_done = threading.Event()

    def wait_for_the_others(digest: Digest) -> None:
        if digest == bad:
            deadline = time.monotonic() + 10
            while len(memory.asked("write_blob")) < 4 and time.monotonic() < deadline:
                time.sleep(0.005)
            others_done.set()

    memory.before_blob = wait_for_the_others
    memory.fail[bad] = BlobNotFoundError("gone")
    with pytest.raises(BlobNotFoundError):
        copy(memory)
    assert others_done.is_set()
    assert set(memory.kept) == set(image.blobs) - {bad}


def test_the_first_failure_stops_the_others_and_is_the_one_reported():
    image = random_image(1, layers=6, layer_size=400_000)
    memory = Memory({"app": image})
    bad = image.layers[0].digest
    memory.fail[bad] = RemoteError("the registry is on fire")

    def slow_but_the_bad_one(digest: Digest) -> None:
        if digest != bad:
            time.sleep(0.05)

    memory.before_blob = slow_but_the_bad_one
    with pytest.raises(RemoteError, match="on fire"):
        copy(memory, options=CopyOptions(parallel=6))
    assert len(memory.asked("write_blob")) < 7


def test_a_cancelled_copy_stops_at_the_next_chunk_and_commits_nothing():
    image = random_image(1, layers=3, layer_size=100_000)
    memory = Memory({"app": image})
    cancel = Cancel()
    memory.before_blob = lambda digest: cancel.cancel()
    with pytest.raises(CancelledError):
        copy(memory, cancel=cancel)
    assert memory.committed == {}
    assert memory.asked("close_source")
    assert memory.asked("close_destination")


def test_blobs_the_destination_has_are_not_opened():
    image = random_image(1, layers=3)
    memory = Memory({"app": image})
    memory.present = {layer.digest for layer in image.layers}
    copy(memory)
    opened = {entry[1] for entry in memory.asked("open_blob")}
    assert opened == set(image.blobs) - memory.present


def test_a_layer_that_occurs_twice_moves_once():
    image = random_image(1, layers=1)
    layer = image.layers[0]
    config = next(d for d in image.blobs if d != layer.digest)
    twice = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(config),
            "size": len(image.blobs[config]),
        },
        "layers": [layer.to_json(), layer.to_json()],
    }
    import json

    raw = RawManifest.receive(json.dumps(twice).encode())
    memory = Memory({"app": type(image)(raw, image.blobs, image.config, (layer, layer), AMD64)})
    copy(memory)
    assert len(memory.asked("open_blob")) == 2


def test_a_destination_that_cannot_work_in_parallel_gets_one_blob_at_a_time():
    image = random_image(1, layers=6)
    memory = Memory({"app": image})
    running: list[int] = []
    most = 0

    def count(digest: Digest) -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        time.sleep(0.005)
        running.pop()

    memory.before_blob = count
    to = memory.reference("copy", traits=DestinationTraits(concurrent=False))
    copy_image(memory.reference("app"), to, AcceptAnything())
    assert most == 1


def test_a_manifest_type_the_destination_lacks_is_refused_before_any_blob_moves():
    memory = Memory({"app": random_artifact(1)})
    to = memory.reference("copy", traits=DestinationTraits(manifest_types=(DOCKER_MANIFEST,)))
    with pytest.raises(UnsupportedError, match="artifact"):
        copy_image(memory.reference("app"), to, AcceptAnything())
    assert memory.asked("open_blob") == []


def test_a_destination_that_takes_no_image_at_all_is_refused():
    memory = Memory({"app": random_image(1)})
    to = memory.reference("copy", traits=DestinationTraits(manifest_types=()))
    with pytest.raises(UnsupportedError, match=re.escape(OCI_MANIFEST)):
        copy_image(memory.reference("app"), to, AcceptAnything())
    assert memory.asked("open_blob") == []


def test_an_image_whose_signatures_would_be_lost_is_refused():
    memory = Memory({"app": random_image(1)})
    memory.signatures["app"] = [b"signature"]
    with pytest.raises(UnsupportedError, match="signatures"):
        copy(memory)
    assert memory.asked("open_blob") == []


def test_an_artifact_is_copied_unless_only_images_are_wanted():
    memory = Memory({"app": random_artifact(1)})
    copy(memory)
    with pytest.raises(UnsupportedError, match="artifact"):
        copy(memory, to="again", options=CopyOptions(images_only=True))
    assert "again" not in memory.committed


def test_progress_tells_of_every_blob_what_happened_to_it():
    image = random_image(1, layers=3)
    memory = Memory({"app": image})
    memory.present = {image.layers[0].digest}
    events: list[Event] = []
    lock = threading.Lock()

    def sink(event: Event) -> None:
        with lock:
            events.append(event)

    copy(memory, progress=sink)
    assert {e.digest for e in events if e.kind == "plan"} == set(image.blobs)
    how = {e.digest: e.how for e in events if e.kind == "finish"}
    assert how == {
        digest: "present" if digest in memory.present else "copied" for digest in image.blobs
    }
    assert [e.digest for e in events if e.kind == "manifest"] == [image.raw.digest]


def test_a_lost_connection_is_reported_with_the_bytes_held():
    image = random_image(1, layers=1)
    memory = Memory({"app": image})
    memory.connection_losses[image.layers[0].digest] = "the server hung up"
    events: list[Event] = []
    copy(memory, progress=events.append)
    layer = image.layers[0]
    assert [e for e in events if e.kind == "retry"] == [
        Event("retry", layer.digest, size=layer.size, done=0, text="the server hung up")
    ]
