"""tarball: an image made of tars, the same one each time, and the tars stay the user's."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    ManifestNotFoundError,
    NotFoundError,
    UnsupportedError,
)
from kstore.manifest import ImageConfig, Manifest, parse
from kstore.platforms import host_platform
from kstore.transports.tarball import TarballReference, TarballTransport
from tests.support.images import compress, layer_tar, random_image
from tests.support.sessions import get, read_blob

BASE, TOP = layer_tar({"bin/sh": b"#!"}), layer_tar({"app": b"x" * 5000})


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def transport(spool: Path) -> TarballTransport:
    return TarballTransport(spool)


def file(path: Path, data: bytes, mtime: int = 1_700_000_000) -> Path:
    path.write_bytes(data)
    os.utime(path, (mtime, mtime))
    return path


def of(transport: TarballTransport, *paths: Path | str) -> TarballReference:
    return transport.parse_reference(":".join(str(path) for path in paths))


def manifest_of(reference: TarballReference) -> Manifest:
    manifest = parse(get(reference).raw)
    assert isinstance(manifest, Manifest)
    return manifest


def config_of(reference: TarballReference) -> ImageConfig:
    return ImageConfig.parse(get(reference).blobs[manifest_of(reference).config.digest])


@pytest.mark.parametrize("text", ["a.tar", "a.tar:b.tar:a.tar", "-", "a.tar:-"])
def test_a_reference_comes_back_out_of_its_text(transport: TarballTransport, text: str) -> None:
    reference = transport.parse_reference(text)
    assert reference.within_transport == text
    assert transport.parse_reference(text) == reference
    assert reference.docker_reference is None


@pytest.mark.parametrize("text", ["", ":", "a:", ":a", "a::b", "-:-", "a\0", ":".join("a" * 128)])
def test_what_names_no_files_is_refused(transport: TarballTransport, text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        transport.parse_reference(text)


def test_no_scope_can_speak_of_it(transport: TarballTransport) -> None:
    assert of(transport, "/a", "/b").policy_identity == "/a:/b"
    assert of(transport, "/a").policy_namespaces == ()
    with pytest.raises(InvalidInputError):
        transport.validate_policy_scope("/a")


@pytest.mark.parametrize(
    ("kind", "media_type"),
    [("none", mt.OCI_LAYER), ("gzip", mt.OCI_LAYER_GZIP), ("zstd", mt.OCI_LAYER_ZSTD)],
)
def test_each_file_is_a_layer_as_it_is(
    tmp_path: Path, transport: TarballTransport, kind: str, media_type: str
) -> None:
    packed = compress(TOP, kind)
    reference = of(transport, file(tmp_path / "a", BASE), file(tmp_path / "b", packed))
    layers = manifest_of(reference).layers
    assert [layer.digest for layer in layers] == [Digest.of(BASE), Digest.of(packed)]
    assert [layer.media_type for layer in layers] == [mt.OCI_LAYER, media_type]
    assert get(reference).blobs[Digest.of(packed)] == packed
    assert config_of(reference).diff_ids == (Digest.of(BASE), Digest.of(TOP))


def test_padding_after_compressed_data_is_part_of_the_layer(
    tmp_path: Path, transport: TarballTransport
) -> None:
    padded = gzip.compress(BASE, mtime=0) + bytes(1 << 20)
    reference = of(transport, file(tmp_path / "a", padded))
    assert manifest_of(reference).layers[0].digest == Digest.of(padded)
    assert config_of(reference).diff_ids == (Digest.of(BASE),)


def test_config_and_history_tell_where_it_comes_from(
    tmp_path: Path, transport: TarballTransport
) -> None:
    newer, older = file(tmp_path / "new.tar", BASE), file(tmp_path / "old.tar", TOP, 1_600_000_000)
    config = config_of(of(transport, newer, older))
    assert config.platform == host_platform()
    assert str(config.created) == "2023-11-14 22:13:20+00:00"
    assert [entry.comment for entry in config.history] == [
        "imported from new.tar",
        "imported from old.tar",
    ]
    assert [str(entry.created) for entry in config.history] == [
        "2023-11-14 22:13:20+00:00",
        "2020-09-13 12:26:40+00:00",
    ]
    assert not any(entry.empty_layer for entry in config.history)


def test_the_same_files_make_the_same_image(tmp_path: Path, transport: TarballTransport) -> None:
    (tmp_path / "other").mkdir()
    one = of(transport, file(tmp_path / "a.tar", BASE))
    same = of(transport, file(tmp_path / "other" / "a.tar", BASE))
    touched = of(transport, file(tmp_path / "other" / "b.tar", BASE, 1))
    assert get(one).raw == get(same).raw
    assert get(one).raw != get(touched).raw


def test_one_file_twice_is_two_layers(tmp_path: Path, transport: TarballTransport) -> None:
    path = file(tmp_path / "a.tar", BASE)
    assert len(manifest_of(of(transport, path, path)).layers) == 2


def test_a_name_that_is_no_utf8_can_be_told(tmp_path: Path, transport: TarballTransport) -> None:
    path = file(tmp_path / os.fsdecode(b"a\xff.tar"), BASE)
    assert config_of(of(transport, path)).history[0].comment == "imported from a\ufffd.tar"


def test_a_layer_comes_from_a_pipe(tmp_path: Path, spool: Path) -> None:
    packed = gzip.compress(TOP, mtime=0)
    transport = TarballTransport(spool, stdin=io.BytesIO(packed))
    with of(transport, file(tmp_path / "a.tar", BASE), "-").open_source() as source:
        manifest = parse(source.read_manifest())
        assert isinstance(manifest, Manifest)
        assert manifest.layers[1].digest == Digest.of(packed)
        assert read_blob(source, manifest.layers[1]) == packed
        assert read_blob(source, manifest.layers[1], 7) == packed[7:]
        assert read_blob(source, manifest.config, 7)
        config = json.loads(read_blob(source, manifest.config))
    assert config["history"][1]["comment"] == "imported from standard input"
    assert list(spool.iterdir()) == []


def test_a_source_has_no_members_signatures_or_other_blobs(
    tmp_path: Path, transport: TarballTransport
) -> None:
    other = random_image(1)
    with of(transport, file(tmp_path / "a.tar", BASE)).open_source() as source:
        assert source.read_signatures() == ()
        with pytest.raises(ManifestNotFoundError):
            source.read_manifest(other.raw.digest)
        with pytest.raises(BlobNotFoundError, match=other.layers[0].digest.hex):
            source.open_blob(other.layers[0])


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"no tar at all" * 100, InvalidInputError, "is not a tar archive"),
        (b"short", InvalidInputError, "is not a tar archive"),
        (gzip.compress(b"no tar at all" * 100, mtime=0), InvalidInputError, "is not a tar archive"),
        (BASE[:-100], InvalidInputError, "cut off"),
        (gzip.compress(BASE, mtime=0)[:-20], IntegrityError, "cannot be unpacked"),
        (gzip.compress(BASE, mtime=0) + b"garbage", IntegrityError, "cannot be unpacked"),
        (lzma.compress(BASE), UnsupportedError, "compressed with xz"),
        (b"", IntegrityError, "is empty"),
    ],
)
def test_what_is_no_layer_is_refused(
    tmp_path: Path, transport: TarballTransport, data: bytes, error: type[Exception], text: str
) -> None:
    path = file(tmp_path / "a.tar", data)
    with pytest.raises(error, match=text):
        of(transport, path).open_source()


def test_a_missing_file_or_input_is_named(tmp_path: Path, transport: TarballTransport) -> None:
    with pytest.raises(NotFoundError, match=r"none\.tar"):
        of(transport, tmp_path / "none.tar").open_source()
    with pytest.raises(InvalidInputError, match="is a directory"):
        of(transport, tmp_path).open_source()
    with pytest.raises(InvalidInputError, match="standard input"):
        of(transport, "-").open_source()


def test_the_files_are_neither_written_nor_deleted(
    tmp_path: Path, transport: TarballTransport
) -> None:
    reference = of(transport, file(tmp_path / "a.tar", BASE))
    with pytest.raises(UnsupportedError):
        reference.open_destination()
    with pytest.raises(UnsupportedError):
        reference.delete()
    assert (tmp_path / "a.tar").read_bytes() == BASE
