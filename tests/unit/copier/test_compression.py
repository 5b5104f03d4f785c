"""Layers in another compression: which, how, checked, and no more often than needed."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import pytest

from kstore import mediatypes as mt
from kstore.compression import decompressor
from kstore.digest import Digest
from kstore.errors import (
    DigestMismatchError,
    IntegrityError,
    StorageError,
    UnsupportedError,
)
from kstore.interfaces import DestinationTraits
from kstore.manifest import RawManifest, parse_image
from kstore.store import LayerFact
from kstore.streams import BytesStream, read_limited
from tests.support.images import TestImage, random_artifact, random_image
from tests.support.memory import Memory


class Known:
    """Facts in a dict."""

    def __init__(self) -> None:
        self.facts: dict[Digest, LayerFact] = {}
        self.fail = False

    def about(self, digest):
        return self.facts.get(digest)

    def packed(self, diff_id, compression, level=None):
        return tuple(
            fact
            for fact in self.facts.values()
            if (fact.diff_id, fact.compression) == (diff_id, compression)
            and level in (None, fact.level)
        )

    def record(self, facts):
        if self.fail:
            raise StorageError("the disk is sulking")
        self.facts.update({fact.digest: fact for fact in facts})


def unpack(data: bytes, kind: str) -> bytes:
    return read_limited(decompressor(kind, BytesStream(data), max_output=1 << 30), 1 << 30, "layer")


def plain_layers(image: TestImage, kind: str) -> list[bytes]:
    return [unpack(image.blobs[layer.digest], kind) for layer in image.layers]


@pytest.mark.parametrize("after", ["none", "gzip", "zstd"])
@pytest.mark.parametrize("before", ["none", "gzip", "zstd"])
def test_every_compression_becomes_every_other_when_forced(copy, before: str, after: str):
    image = random_image(1, layers=3, compression=before, layer_size=5000)
    memory = Memory({"app": image})
    result = copy(memory, compression=after, force_compression=True)
    arrived = memory.committed["copy"]
    manifest = parse_image(result.raw)
    assert {mt.layer_compression(layer.media_type) for layer in manifest.layers} == {after}
    layers = [arrived.blobs[layer.digest] for layer in manifest.layers]
    assert [unpack(data, after) for data in layers] == plain_layers(image, before)
    assert [len(data) for data in layers] == [layer.size for layer in manifest.layers]
    assert manifest.config.digest == Digest.of(image.config)
    how = "copied" if before == after else "converted"
    assert [layer.how for layer in result.layers] == [how] * 3
    assert (result.raw == image.raw) == (before == after)


@pytest.mark.parametrize(
    ("before", "wanted", "becomes"),
    [
        ("none", "gzip", "gzip"),
        ("none", "zstd", "zstd"),
        ("gzip", "zstd", "gzip"),
        ("zstd", "gzip", "zstd"),
        ("gzip", "none", "none"),
        ("zstd", "none", "none"),
    ],
)
def test_without_force_only_plain_layers_are_compressed(copy, before, wanted, becomes):
    image = random_image(1, compression=before)
    memory = Memory({"app": image})
    result = copy(memory, compression=wanted)
    kinds = {mt.layer_compression(x.media_type) for x in parse_image(result.raw).layers}
    assert kinds == {becomes}
    if before == becomes:
        assert result.raw is image.raw


def test_zstd_goes_into_docker_schema_2_only_as_something_else(copy):
    image = random_image(1, compression="zstd")
    memory = Memory({"app": image})
    with pytest.raises(UnsupportedError, match="zstd"):
        copy(memory, manifest_type=mt.DOCKER_MANIFEST)
    with pytest.raises(UnsupportedError, match="zstd"):
        copy(memory, manifest_type=mt.DOCKER_MANIFEST, compression="zstd")
    assert memory.asked("open_blob") == []
    result = copy(memory, manifest_type=mt.DOCKER_MANIFEST, compression="gzip")
    assert {x.media_type for x in parse_image(result.raw).layers} == {mt.DOCKER_LAYER}


def test_an_artifact_keeps_its_bytes_whatever_compression_is_wanted(copy):
    artifact = random_artifact(1)
    result = copy(Memory({"app": artifact}), compression="zstd", force_compression=True)
    assert result.raw is artifact.raw


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("level", [None, 1, 9])
def test_the_same_layer_and_level_give_the_same_bytes_whatever_the_threads(copy, kind, level):
    image = random_image(1, layers=1, compression="none", layer_size=5_000_000)
    outcomes = set()
    for parallel in (1, 6):
        memory = Memory({"app": image})
        result = copy(memory, compression=kind, compression_level=level, parallel=parallel)
        outcomes.add(result.raw.digest)
    assert len(outcomes) == 1


def test_several_pieces_are_one_gzip_member_without_name_or_time(copy):
    image = random_image(1, layers=1, compression="none", layer_size=3_000_000)
    memory = Memory({"app": image})
    result = copy(memory, compression="gzip")
    data = memory.committed["copy"].blobs[parse_image(result.raw).layers[0].digest]
    assert data[:10] == bytes.fromhex("1f8b08000000000000ff")
    plain = image.blobs[image.layers[0].digest]
    assert gzip.decompress(data) == plain
    run = [sys.executable, "-c", "import sys,zlib\nd=zlib.decompressobj(31)\n"
           "sys.stdout.buffer.write(d.decompress(sys.stdin.buffer.read()))\n"
           "assert d.eof and not d.unused_data"]  # fmt: skip
    assert subprocess.run(run, input=data, capture_output=True, check=True).stdout == plain


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
def test_an_empty_layer_is_still_one_of_its_kind(copy, kind: str):
    image = _with_layer(random_image(1, layers=1, compression="none"), b"", b"")
    memory = Memory({"app": image})
    result = copy(memory, compression=kind, force_compression=True)
    (layer,) = parse_image(result.raw).layers
    assert unpack(memory.committed["copy"].blobs[layer.digest], kind) == b""


def _with_layer(image: TestImage, packed: bytes, plain: bytes) -> TestImage:
    """The image with another only layer; the config says that it unpacks to ``plain``."""
    document, config = json.loads(image.raw.data), json.loads(image.config)
    config["rootfs"]["diff_ids"] = [str(Digest.of(plain))]
    data = json.dumps(config).encode()
    document["layers"][0] |= {"digest": str(Digest.of(packed)), "size": len(packed)}
    document["config"] |= {"digest": str(Digest.of(data)), "size": len(data)}
    raw = RawManifest.receive(json.dumps(document).encode())
    blobs = {Digest.of(blob): blob for blob in (packed, data)}
    return TestImage(raw, blobs, data, parse_image(raw).layers, image.platform)


def test_a_layer_that_does_not_unpack_to_what_the_config_says_is_refused(copy):
    image = random_image(1, layers=1)
    lying = _with_layer(image, image.blobs[image.layers[0].digest], b"something else")
    memory = Memory({"app": lying})
    with pytest.raises(DigestMismatchError, match="but the config says"):
        copy(memory, compression="zstd", force_compression=True)
    assert memory.committed == {}
    assert lying.layers[0].digest not in memory.kept


def test_a_plain_layer_that_is_called_gzip_is_judged_by_its_bytes(copy):
    plain = b"not compressed at all" * 100
    memory = Memory({"app": _with_layer(random_image(1, layers=1), plain, plain)})
    result = copy(memory, compression="zstd", force_compression=True)
    (layer,) = parse_image(result.raw).layers
    assert unpack(memory.committed["copy"].blobs[layer.digest], "zstd") == plain


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:50] + b"\0\0" + d[52:]])
def test_a_damaged_layer_is_not_converted_and_nothing_is_committed(copy, damage, tmp_path):
    image = random_image(1, layers=2)
    memory = Memory({"app": image})
    bad = image.layers[0].digest
    memory.lies[bad] = damage(image.blobs[bad])
    with pytest.raises(IntegrityError):
        copy(memory, compression="zstd", force_compression=True)
    assert memory.committed == {}
    assert list(tmp_path.iterdir()) == []


def test_a_layer_put_together_from_two_versions_is_read_again_before_it_is_given_up(copy):
    image = random_image(1, layers=1)
    memory = Memory({"app": image})
    layer = image.layers[0].digest
    memory.splices[layer] = "the server hung up"
    result = copy(memory, compression="zstd", force_compression=True)
    assert [layer.how for layer in result.layers] == ["converted"]
    assert [entry[1] for entry in memory.asked("open_blob")].count(layer) == 2


def test_a_layer_that_unpacks_to_absurdly_much_is_refused(copy, monkeypatch):
    from kstore.copier import recompress

    monkeypatch.setattr(recompress, "FREE_BYTES", 1000)
    monkeypatch.setattr(recompress, "MAX_RATIO", 10)
    plain = bytes(2_000_000)
    memory = Memory({"app": _with_layer(random_image(1, layers=1), gzip.compress(plain), plain)})
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        copy(memory, compression="zstd", force_compression=True)


def test_a_config_that_knows_another_number_of_layers_is_refused_before_any_layer_moves(copy):
    image = random_image(1, layers=1)
    config = random_image(1, layers=3).config
    document = json.loads(image.raw.data)
    document["config"] |= {"digest": str(Digest.of(config)), "size": len(config)}
    raw = RawManifest.receive(json.dumps(document).encode())
    blobs = {**image.blobs, Digest.of(config): config}
    memory = Memory({"app": TestImage(raw, blobs, config, image.layers, image.platform)})
    with pytest.raises(UnsupportedError, match="1 layers, but its config knows 3"):
        copy(memory, compression="none")
    assert [entry[1] for entry in memory.asked("open_blob")] == [Digest.of(config)]


def test_a_directory_without_room_for_temporary_files_is_a_clean_failure(copy, tmp_path):
    memory = Memory({"app": random_image(1)})
    with pytest.raises(StorageError, match="temporary file"):
        copy(memory, compression="none", spool=tmp_path / "absent")
    assert memory.committed == {}


def test_what_was_converted_once_is_not_opened_again_if_the_destination_has_it(copy):
    image = random_image(1, layers=2, compression="none")
    memory, known = Memory({"app": image}), Known()
    first = copy(memory, compression="gzip", facts=known)
    memory.present = {layer.digest for layer in parse_image(first.raw).layers}
    memory.log.clear()
    second = copy(memory, compression="gzip", facts=known)
    assert second.raw == first.raw
    assert {entry[1] for entry in memory.asked("open_blob")} == {Digest.of(image.config)}
    assert [layer.how for layer in second.layers] == ["present", "present"]


def test_a_destination_that_only_tells_while_writing_gets_the_known_result_first(copy):
    image = random_image(1, layers=1, compression="gzip")
    memory, known = Memory({"app": image}), Known()
    first = copy(memory, compression="zstd", force_compression=True, facts=known)
    second = copy(memory, compression="zstd", force_compression=True, facts=known)
    assert second.raw == first.raw
    assert memory.committed["copy"].blobs


def test_a_known_result_that_is_not_what_is_made_now_is_not_believed(copy):
    image = random_image(1, layers=1, compression="none")
    memory, known = Memory({"app": image}), Known()
    diff_id = image.layers[0].digest
    stranger = Digest.of(b"made by an older compressor")
    known.record([LayerFact(stranger, 27, diff_id, "gzip")])
    result = copy(memory, compression="gzip", facts=known)
    (layer,) = parse_image(result.raw).layers
    assert layer.digest != stranger
    assert stranger not in memory.committed["copy"].blobs


def test_a_level_is_not_served_by_what_another_level_made(copy):
    image = random_image(1, layers=1, compression="none")
    memory, known = Memory({"app": image}), Known()
    copy(memory, compression="gzip", compression_level=1, facts=known)
    memory.present = {fact.digest for fact in known.facts.values() if fact.compression == "gzip"}
    memory.log.clear()
    copy(memory, compression="gzip", compression_level=9, facts=known)
    assert diff_opened(memory, image)


def diff_opened(memory: Memory, image: TestImage) -> bool:
    return image.layers[0].digest in {entry[1] for entry in memory.asked("open_blob")}


def test_knowing_less_is_no_reason_to_fail(copy):
    memory, known = Memory({"app": random_image(1, compression="none")}), Known()
    known.fail = True
    notes: list[str] = []
    copy(
        memory,
        compression="gzip",
        facts=known,
        progress=lambda event: notes.append(event.text or ""),
    )
    assert "copy" in memory.committed
    assert any("sulking" in note for note in notes)


def test_an_ordered_destination_gets_blobs_one_by_one_by_their_new_digests(copy):
    image = random_image(1, layers=5, compression="none")
    memory = Memory({"app": image})
    copy(memory, compression="gzip", traits=DestinationTraits(concurrent=True, ordered=True))
    written = [entry[1] for entry in memory.asked("write_blob")]
    assert written == sorted(written)
    assert len(written) == 6
