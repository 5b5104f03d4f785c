"""What every copy promises, between any two transports.

The numbers are those of ``tests/unit/copier/test_invariants.py``, where the promises are looked at
from inside; the tenth, about credentials and addresses, is one of the registry client alone and of
the copier alone, and is kept there and in ``tests/unit/registry``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.compression import Kind, detect
from kstore.copier import CopyOptions, CopyResult, copy_image
from kstore.digest import Digest
from kstore.errors import (
    ConflictError,
    DigestMismatchError,
    IntegrityError,
    PolicyRejectedError,
    RemoteError,
    UnsupportedError,
)
from kstore.image import TrustPolicy, UnparsedImage
from kstore.interfaces import ImageReference
from kstore.manifest import parse_image
from kstore.signing.policy import AcceptAnything
from kstore.streams import CHUNK
from tests.conformance.daemon import unpacked
from tests.conformance.images import IMAGES, INDEXES, make_image
from tests.conformance.outcomes import Matrix, forms_of
from tests.conformance.transports import PLACES, Place
from tests.conformance.watched import Watch
from tests.support.memory import Memory
from tests.support.sessions import Got, get, hint_of
from tests.unit.copier.test_compression import Known

WRITTEN = [name for name, place in PLACES.items() if place.written]
HOLDERS = [name for name in WRITTEN if PLACES[name].indexes]
OLD = make_image(mt.DOCKER_MANIFEST, "none", size=900)


@dataclass
class Pair:
    """A source with an image, an empty destination, and everything that is seen between them."""

    origin: ImageReference
    place: Place
    watch: Watch = field(default_factory=Watch)

    def copy(self, policy: object = None, **wishes: object) -> CopyResult:
        facts = wishes.pop("facts", None)
        return copy_image(
            self.watch.source(self.origin),
            self.watch.destination(self.place.reference),
            policy or AcceptAnything(),  # type: ignore[arg-type]
            CopyOptions(**wishes),  # type: ignore[arg-type]
            facts=facts,  # type: ignore[arg-type]
        )

    def fails(self, error: type[Exception], **wishes: object) -> None:
        """The copy fails, and nobody sees anything of it."""
        before, there = self.place.visible(), self.place.is_there()
        with pytest.raises(error):
            self.copy(**wishes)
        assert self.place.visible() == before
        assert self.place.is_there() == there
        assert self.watch.asked("commit") == [] or "commit" in self.watch.fails

    def got(self) -> Got:
        return get(self.place.reference)


@pytest.fixture
def pair(matrix: Matrix, tmp_path: Path, source: str, destination: str) -> Iterator[Pair]:
    with PLACES[destination](tmp_path / "place") as place:
        yield Pair(matrix.source(source, forms_of(source)[0]), place)


@pytest.fixture
def both(matrix: Matrix, tmp_path: Path, source: str, destination: str) -> Iterator[Pair]:
    """The same with an index."""
    with PLACES[destination](tmp_path / "place") as place:
        yield Pair(matrix.source(source, "OCI index"), place)


def pairs(function: Callable[..., None]) -> Callable[..., None]:
    """From every transport to every transport that can be written to."""
    to = pytest.mark.parametrize("destination", WRITTEN)
    return to(pytest.mark.parametrize("source", PLACES)(function))


def index_pairs(function: Callable[..., None]) -> Callable[..., None]:
    """The same for transports that hold indexes."""
    to = pytest.mark.parametrize("destination", HOLDERS)
    sources = [name for name, place in PLACES.items() if place.indexes]
    return to(pytest.mark.parametrize("source", sources)(function))


def last_layer(pair: Pair) -> tuple[Digest, bytes]:
    """A blob of the source, and its bytes."""
    source = get(pair.origin)
    digest = parse_image(source.raw).layers[1].digest
    return digest, source.blobs[digest]


def flipped(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pairs
def test_0_blobs_come_before_the_manifest_and_the_commit_comes_last(pair: Pair) -> None:
    pair.copy()
    steps = pair.watch.steps
    assert steps[:2] == ["open_source", "read_manifest"]
    first = steps.index("open_destination")
    assert "open_blob" not in steps[:first]
    manifest = steps.index("write_manifest")
    assert "settle" in steps[:manifest]
    assert not {"write_blob", "open_blob", "wrote_blob"} & set(steps[manifest:])
    assert steps.count("commit") == 1
    assert steps[-1] == "commit"


@index_pairs
def test_0_members_come_before_their_index(both: Pair) -> None:
    both.copy(instances="all")
    *members, top = [entry[2] for entry in both.watch.asked("write_manifest")]
    assert top is None
    assert len(members) == 2
    assert None not in members


@pairs
def test_1_a_blob_that_is_not_what_it_is_called_is_never_visible(pair: Pair) -> None:
    digest, data = last_layer(pair)
    pair.watch.lies[digest] = flipped(data)
    pair.fails(DigestMismatchError)
    blob = next(b for b in parse_image(get(pair.origin).raw).layers if b.digest == digest)
    with pair.place.reference.open_destination() as destination:
        assert destination.reuse_blobs([hint_of(blob)]) == [False]


@pairs
def test_2_nothing_is_fetched_or_begun_before_the_image_is_admitted(pair: Pair) -> None:
    class Nobody(TrustPolicy):
        def check(self, image: UnparsedImage) -> str:
            raise PolicyRejectedError("nobody")

    pair.fails(PolicyRejectedError, policy=Nobody())
    assert set(pair.watch.steps) <= {"open_source", "read_manifest"}


@index_pairs
def test_2_every_member_is_asked_about(both: Pair) -> None:
    second = INDEXES["OCI index"][1][1].raw.digest

    class NotTheSecond(TrustPolicy):
        def check(self, image: UnparsedImage) -> str:
            if image.member is not None and image.member.digest == second:
                raise PolicyRejectedError("not this one")
            return "fine"

    both.fails(PolicyRejectedError, policy=NotTheSecond(), instances="all")
    assert both.watch.asked("open_blob") == both.watch.asked("open_destination") == []


@pairs
def test_3_an_unchanged_manifest_keeps_its_bytes(pair: Pair) -> None:
    read = get(pair.origin).raw
    result = pair.copy()
    ((_, written, _),) = pair.watch.asked("write_manifest")
    assert result.raw == written
    if written.media_type == read.media_type and not pair.place.transport.startswith("docker-d"):
        assert written.data == read.data
    if pair.place.manifests:
        assert pair.got().raw == written


@pairs
@pytest.mark.parametrize(
    "change",
    [{}, {"compression": "zstd", "force_compression": True}, {"manifest_type": mt.DOCKER_MANIFEST}],
    ids=["as it is", "compressed", "converted"],
)
def test_4_a_digest_that_must_stay_does_or_the_copy_is_refused(
    pair: Pair, change: dict[str, object]
) -> None:
    read = get(pair.origin).raw
    before = pair.place.visible()
    try:
        pair.copy(preserve_digests=True, **change)
    except UnsupportedError:
        assert pair.place.visible() == before
        assert pair.watch.asked("write_blob") == []
        return
    assert pair.watch.asked("write_manifest")[0][1] == read
    if pair.place.manifests:
        assert pair.got().raw == read


@pairs
def test_5_only_what_was_found_out_here_is_remembered(pair: Pair) -> None:
    known, source = Known(), get(pair.origin)
    digest, data = last_layer(pair)
    pair.watch.lies[digest] = flipped(data)
    pair.fails(IntegrityError, compression="gzip", force_compression=True, facts=known)
    assert digest not in known.facts
    pair.watch.lies.clear()
    pair.copy(compression="gzip", force_compression=True, facts=known)
    blobs = {**source.blobs, **pair.got().blobs}
    for fact in known.facts.values():
        if fact.digest in blobs:
            assert fact.diff_id == Digest.of(unpacked(blobs[fact.digest]))
            assert (fact.size, fact.compression) == (
                len(blobs[fact.digest]),
                detect(blobs[fact.digest]),
            )


@pairs
@pytest.mark.parametrize("step", ["write_blob", "settle", "write_manifest", "commit"])
def test_6_only_the_commit_makes_a_name_point_to_something(pair: Pair, step: str) -> None:
    pair.watch.fails[step] = RemoteError("now")
    pair.fails(RemoteError)
    pair.watch.fails.clear()
    pair.copy()
    assert pair.place.is_there()


@pytest.mark.parametrize("source", PLACES)
@pytest.mark.parametrize("destination", [name for name in WRITTEN if PLACES[name].replaced])
def test_6_a_failure_leaves_the_old_image_under_its_name(pair: Pair) -> None:
    memory = Memory({"old": OLD})
    copy_image(memory.reference("old"), pair.place.reference, AcceptAnything())
    held = pair.got()
    pair.watch.fails["commit"] = RemoteError("now")
    pair.fails(RemoteError)
    assert pair.got() == held


@pairs
@pytest.mark.parametrize("more", [b"x", None], ids=["longer", "shorter"])
def test_7_more_or_fewer_bytes_than_declared_are_an_error(pair: Pair, more: bytes | None) -> None:
    digest, data = last_layer(pair)
    pair.watch.lies[digest] = data[:-1] if more is None else data + more
    pair.fails(IntegrityError)


@pairs
@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_8_the_type_of_a_layer_is_what_its_bytes_are(pair: Pair, kind: Kind) -> None:
    before = pair.place.visible()
    try:
        pair.copy(compression=kind, force_compression=True)
    except UnsupportedError:
        assert pair.place.visible() == before
        return
    got = pair.got()
    for layer in parse_image(got.raw).layers:
        assert detect(got.blobs[layer.digest]) == mt.layer_compression(layer.media_type)


@pairs
def test_9_no_more_of_a_blob_is_read_than_was_declared(pair: Pair) -> None:
    digest, data = last_layer(pair)
    pair.watch.endless[digest] = 0
    pair.fails(IntegrityError)
    assert 0 < pair.watch.endless[digest] <= len(data) + 2 * CHUNK


@index_pairs
def test_11_a_source_answers_only_for_what_it_was_asked(both: Pair) -> None:
    first, second = [member.raw for member in INDEXES["OCI index"][1]]
    both.watch.manifests[first.digest] = second
    both.fails(DigestMismatchError, instances="all")
    assert both.watch.asked("open_blob") == []


@pairs
def test_12_one_failure_stops_the_others_and_leaves_no_litter(pair: Pair) -> None:
    pair.watch.fails["open_blob"] = RemoteError("on fire")
    pair.fails(RemoteError)
    assert pair.watch.asked("wrote_blob") == []


@pytest.mark.parametrize("transport", [name for name in WRITTEN if name != "kstore"])
def test_13_two_that_copy_the_same_image_both_succeed_or_one_comes_too_late(
    place: Place, transport: str
) -> None:
    """A store belongs to the thread that opened it: see the other test of this number."""
    image = IMAGES["Docker, plain"]

    def one(number: int) -> Exception | None:
        memory = Memory({"app": image})
        try:
            copy_image(memory.reference("app"), place.reference, AcceptAnything())
        except ConflictError as late:
            return late
        return None

    with ThreadPoolExecutor(2) as pool:
        failures = [failure for failure in pool.map(one, range(2)) if failure is not None]
    assert len(failures) <= (0 if place.replaced else 1)
    assert parse_image(get(place.reference).raw).config.digest == Digest.of(image.config)
