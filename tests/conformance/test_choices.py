"""Copies of a part of an index, and copies that compress layers anew, to every transport."""

from __future__ import annotations

import pytest

from kstore import mediatypes as mt
from kstore.compression import Kind
from kstore.copier import CopyOptions, copy_image
from kstore.errors import ManifestNotFoundError, NotFoundError, UnsupportedError
from kstore.manifest import ImageConfig, Index, parse, parse_image
from kstore.signing.policy import AcceptAnything
from tests.conformance.daemon import unpacked
from tests.conformance.images import IMAGES, INDEXES
from tests.conformance.outcomes import Matrix, expected
from tests.conformance.transports import PLACES, Place
from tests.support.images import ARM64
from tests.support.sessions import get, read_blob

WRITTEN = [name for name, place in PLACES.items() if place.written]
HOLDERS = [name for name in WRITTEN if PLACES[name].indexes]
EVERY = pytest.mark.parametrize("transport", WRITTEN)
INDEX = pytest.mark.parametrize("form", INDEXES)


@INDEX
@EVERY
@pytest.mark.parametrize("source", HOLDERS)
def test_one_platform_of_an_index_arrives_as_an_image(
    matrix: Matrix, source: str, form: str, place: Place, transport: str
) -> None:
    origin, member = matrix.source(source, form), INDEXES[form][1][1]
    want = expected(member.raw, place.traits())
    result = copy_image(
        origin, place.reference, AcceptAnything(), CopyOptions(platform=ARM64, parallel=2)
    )
    got = get(place.reference)
    assert result.raw.media_type == want.type
    assert parse_image(got.raw).config.digest == parse_image(member.raw).config.digest
    if place.manifests:
        assert got.raw == (member.raw if want.exact else result.raw)


@INDEX
@pytest.mark.parametrize("transport", HOLDERS)
def test_some_platforms_arrive_under_an_index_of_their_own(
    matrix: Matrix, form: str, place: Place, transport: str
) -> None:
    image = INDEXES[form][1][1]
    want = expected(image.raw, place.traits())
    options = CopyOptions(instances="platforms", platforms=(ARM64,))
    copy_image(matrix.source("oci", form), place.reference, AcceptAnything(), options)
    got = get(place.reference)
    index = parse(got.raw)
    assert isinstance(index, Index)
    assert [entry.platform for entry in index.manifests] == [ARM64]
    (member,) = got.members
    assert parse_image(member).config.digest == parse_image(image.raw).config.digest
    if want.exact:
        assert member == image.raw


@INDEX
@pytest.mark.parametrize("transport", HOLDERS)
def test_a_sparse_index_keeps_its_bytes_and_its_gaps(
    matrix: Matrix, form: str, place: Place, transport: str
) -> None:
    raw, (here, missing) = INDEXES[form][0], reversed(INDEXES[form][1])
    want = expected(raw, place.traits())
    options = CopyOptions(instances="platforms", platforms=(ARM64,), sparse=True)
    origin = matrix.source("oci", form)
    if not want.exact:  # members that are not copied cannot be converted
        with pytest.raises(UnsupportedError, match="without all of its members"):
            copy_image(origin, place.reference, AcceptAnything(), options)
        return
    result = copy_image(origin, place.reference, AcceptAnything(), options)
    assert result.raw == raw
    with place.reference.open_source() as source:
        if not place.sparse:  # the name leads to the image that is there
            assert source.read_manifest() == here.raw
            return
        assert source.read_manifest() == raw
        assert source.read_manifest(here.raw.digest) == here.raw
        assert read_blob(source, parse_image(here.raw).config) == here.config
        with pytest.raises(ManifestNotFoundError):
            source.read_manifest(missing.raw.digest)


@pytest.mark.parametrize("transport", [name for name in WRITTEN if name not in HOLDERS])
def test_where_no_index_can_be_none_is_begun(matrix: Matrix, place: Place, transport: str) -> None:
    before = place.visible()
    for options in (
        CopyOptions(instances="all"),
        CopyOptions(instances="index-only"),
        CopyOptions(instances="platforms", platforms=(ARM64,)),
    ):
        with pytest.raises(UnsupportedError, match="not an index"):
            copy_image(
                matrix.source("oci", "OCI index"), place.reference, AcceptAnything(), options
            )
    assert place.visible() == before


@EVERY
@pytest.mark.parametrize("form", ["OCI, plain", "OCI, gzip", "OCI, zstd", "Docker, gzip"])
@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_layers_that_are_compressed_anew_unpack_to_the_same(
    matrix: Matrix, place: Place, transport: str, form: str, kind: Kind
) -> None:
    image = IMAGES[form]
    options = CopyOptions(compression=kind, force_compression=True)
    copy_image(matrix.source("dir", form), place.reference, AcceptAnything(), options)
    got = get(place.reference)
    manifest = parse_image(got.raw)
    assert got.blobs[manifest.config.digest] == image.config
    config = ImageConfig.parse(image.config)
    for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
        assert diff_id.of(unpacked(got.blobs[layer.digest])) == diff_id
        if place.manifests:
            assert mt.layer_compression(layer.media_type) == kind


@EVERY
def test_a_digest_that_is_to_be_preserved_is_kept_or_the_copy_refused(
    matrix: Matrix, place: Place, transport: str
) -> None:
    options = CopyOptions(preserve_digests=True)
    image = IMAGES["Docker, gzip"]
    want, before = expected(image.raw, place.traits()), place.visible()
    source = matrix.source("kstore", "Docker, gzip")
    if want.exact:
        result = copy_image(source, place.reference, AcceptAnything(), options)
        assert result.raw == image.raw
        return
    with pytest.raises(UnsupportedError, match="digest is to be preserved"):
        copy_image(source, place.reference, AcceptAnything(), options)
    assert place.visible() == before
    with pytest.raises(NotFoundError):
        place.reference.open_source()
