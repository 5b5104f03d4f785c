"""What is promised of every source (``kstore.interfaces.ImageSource``)."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    ManifestNotFoundError,
    NotFoundError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.manifest import ImageConfig, parse_image
from tests.conformance.daemon import unpacked
from tests.conformance.images import FORMS, IMAGES, INDEXES
from tests.conformance.outcomes import Matrix, forms_of
from tests.conformance.transports import PLACES, Place
from tests.support.images import TestImage
from tests.support.sessions import get, read_blob

EVERY = pytest.mark.parametrize("transport", PLACES)
FILLED = pytest.mark.parametrize(
    ("transport", "form"), [(name, form) for name in PLACES for form in forms_of(name)]
)
NOWHERE = Digest.of(b"nowhere")


@EVERY
def test_a_missing_image_is_not_found_and_nothing_is_made(place: Place, transport: str) -> None:
    before = place.visible()
    with pytest.raises(NotFoundError):
        place.reference.open_source()
    assert place.visible() == before


@pytest.mark.parametrize("transport", [name for name, place in PLACES.items() if place.named])
def test_another_name_is_not_found_beside_an_image(place: Place, transport: str) -> None:
    place.fill(IMAGES[forms_of(transport)[0]])
    before = place.visible()
    with pytest.raises(NotFoundError):
        place.named_reference("team/other:2").open_source()
    assert place.visible() == before


@FILLED
def test_an_image_is_read_as_it_is(matrix: Matrix, transport: str, form: str) -> None:
    image: TestImage = IMAGES[form]
    got = get(matrix.source(transport, form))
    if PLACES[transport].manifests:
        assert got.raw == image.raw
        assert got.blobs == image.blobs
    manifest = parse_image(got.raw)
    config = ImageConfig.parse(got.blobs[manifest.config.digest])
    plain = [unpacked(got.blobs[layer.digest]) for layer in manifest.layers]
    assert plain == [unpacked(image.blobs[layer.digest]) for layer in image.layers]
    assert [Digest.of(data) for data in plain] == list(config.diff_ids)
    if transport != "tarball":  # which makes a config, because files have none
        assert got.blobs[manifest.config.digest] == image.config


@FILLED
def test_a_manifest_is_the_same_each_time(matrix: Matrix, transport: str, form: str) -> None:
    reference = matrix.source(transport, form)
    with reference.open_source() as source, reference.open_source() as other:
        first = source.read_manifest()
        assert source.read_manifest() == first == other.read_manifest()
        assert source.reference == reference
        assert source.named_digest in (None, first.digest)
        assert list(source.read_signatures()) == []


@EVERY
def test_what_is_not_there_is_not_found(matrix: Matrix, transport: str) -> None:
    reference = matrix.source(transport, forms_of(transport)[0])
    with reference.open_source() as source:
        with pytest.raises(ManifestNotFoundError):
            source.read_manifest(NOWHERE)
        missing = Descriptor("application/octet-stream", NOWHERE, 7)
        with pytest.raises((BlobNotFoundError, StoreDamagedError), match=NOWHERE.hex):
            source.open_blob(missing)
        assert source.blob_size(NOWHERE) is None


@EVERY
def test_a_blob_is_read_from_the_middle_or_from_the_start(matrix: Matrix, transport: str) -> None:
    reference = matrix.source(transport, forms_of(transport)[0])
    with reference.open_source() as source:
        for blob in parse_image(source.read_manifest()).blobs:
            whole = read_blob(source, blob)
            for offset in (0, 1, blob.size // 2, blob.size - 1):
                with contextlib.closing(source.open_blob(blob, offset)) as stream:
                    assert stream.offset in ((offset,) if source.traits.ranges else (0, offset))
                    assert stream.offset <= offset
                    buffer = memoryview(bytearray(blob.size + 1))
                    count = 0
                    while more := stream.readinto(buffer[count:]):
                        count += more
                    assert buffer[:count] == whole[stream.offset :]


@EVERY
def test_a_source_that_says_so_is_read_by_several_threads(matrix: Matrix, transport: str) -> None:
    reference = matrix.source(transport, forms_of(transport)[0])
    with reference.open_source() as source:
        if not source.traits.concurrent:
            return
        blobs = parse_image(source.read_manifest()).blobs * 8
        with ThreadPoolExecutor(6) as pool:
            read = list(pool.map(lambda blob: read_blob(source, blob), blobs))
        assert [Digest.of(data) for data in read] == [blob.digest for blob in blobs]


@pytest.mark.parametrize("form", INDEXES)
@pytest.mark.parametrize("transport", [name for name, place in PLACES.items() if place.indexes])
def test_an_index_is_read_with_its_members(matrix: Matrix, transport: str, form: str) -> None:
    raw, members = INDEXES[form]
    got = get(matrix.source(transport, form))
    assert got.raw == raw
    assert got.members == tuple(member.raw for member in members)


def test_a_place_to_read_from_is_not_always_one_to_write_to(matrix: Matrix) -> None:
    readers = [name for name, place in PLACES.items() if not place.written]
    for name in readers:
        with pytest.raises(UnsupportedError, match=name):
            matrix.source(name, next(iter(FORMS))).open_destination()
