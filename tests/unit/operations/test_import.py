"""Making an image out of a tar."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import (
    CancelledError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
)
from kstore.manifest import Manifest, parse
from kstore.operations.import_ import ImportOptions, ImportResult, import_tar
from kstore.operations.inspect import inspect_image
from kstore.platforms import Platform
from kstore.store import Store
from kstore.streams import Cancel
from tests.support.dockertars import tar_of
from tests.support.images import compress, layer_tar

NOISE = random.Random(1).randbytes(4096)
TAR = layer_tar({"etc/motd": b"hello\n", "bin/tool": bytes(range(256)) * 2000})


def bring(store: Store, data: bytes, name: str | None = "base") -> ImportResult:
    return import_tar(store, "-", name, stdin=io.BytesIO(data))


def layer_of(store: Store, result: ImportResult) -> tuple[str, bytes]:
    """Media type and bytes of the only layer."""
    manifest = parse(store.read_manifest(result.manifest))
    assert isinstance(manifest, Manifest)
    [layer] = manifest.layers
    return layer.media_type, store.read_blob(layer.digest, cap=1 << 20)


def test_a_plain_tar_is_compressed_and_its_diff_id_is_the_tars(store: Store) -> None:
    result = bring(store, TAR)
    media_type, data = layer_of(store, result)
    assert (media_type, gzip.decompress(data)) == (mt.OCI_LAYER_GZIP, TAR)
    assert result.size == len(data)
    assert inspect_image(store, "base").config.diff_ids == (Digest.of(TAR),)


@pytest.mark.parametrize(
    ("compression", "media_type"), [("gzip", mt.OCI_LAYER_GZIP), ("zstd", mt.OCI_LAYER_ZSTD)]
)
def test_a_compressed_tar_is_kept_byte_for_byte(
    store: Store, compression: str, media_type: str
) -> None:
    packed = compress(TAR, compression)
    result = bring(store, packed)
    assert layer_of(store, result) == (media_type, packed)
    assert inspect_image(store, "base").config.diff_ids == (Digest.of(TAR),)
    assert not store.check(deep=True).problems


@pytest.mark.parametrize(
    ("data", "error", "sentence"),
    [
        (b"", InvalidInputError, "standard input is empty"),
        (b"hello\n", InvalidInputError, "standard input is not a tar archive"),
        (NOISE, InvalidInputError, "standard input is not a tar archive"),
        (
            gzip.compress(b"no tar", mtime=0),
            InvalidInputError,
            "standard input is not a tar archive",
        ),
        (gzip.compress(TAR, mtime=0)[:-100], IntegrityError, "standard input cannot be unpacked"),
        (TAR[:-700], InvalidInputError, "standard input is a tar archive that was cut off"),
        (lzma.compress(TAR)[:-20], IntegrityError, "standard input cannot be unpacked"),
        (bz2.compress(TAR)[:-20], IntegrityError, "standard input cannot be unpacked"),
        (lzma.compress(TAR) + b"more", IntegrityError, "standard input cannot be unpacked"),
        (lzma.compress(b"no tar"), InvalidInputError, "standard input is not a tar archive"),
    ],
)
def test_what_is_no_tar_leaves_nothing_behind(
    store: Store, data: bytes, error: type[KstoreError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        bring(store, data)
    store.prune(all_unused_partials=True)
    facts = store.facts()
    assert (facts.images, facts.names, facts.blobs, facts.partial_downloads) == (0, 0, 0, 0)


@pytest.mark.parametrize(("source", "code"), [("http://:1/y.tar", 2), ("nothing.tar", 3), ("", 2)])
def test_a_source_that_cannot_be_read_is_one_sentence(store: Store, source: str, code: int) -> None:
    with pytest.raises(KstoreError) as caught:
        import_tar(store, source, "base")
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    "packed", [lzma.compress(TAR), bz2.compress(TAR[:512]) + bz2.compress(TAR[512:])]
)
def test_a_tar_in_a_compression_no_layer_has_becomes_gzip(store: Store, packed: bytes) -> None:
    result = bring(store, packed)
    media_type, data = layer_of(store, result)
    assert (media_type, gzip.decompress(data)) == (mt.OCI_LAYER_GZIP, TAR)
    assert inspect_image(store, "base").config.diff_ids == (Digest.of(TAR),)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_a_tar_beyond_the_limit_is_given_up(store: Store, pack: Callable[[bytes], bytes]) -> None:
    def bring_at_most(size: int) -> ImportResult:
        options = ImportOptions(max_size=size)
        return import_tar(store, "-", "base", options, stdin=io.BytesIO(pack(TAR)))

    with pytest.raises(IntegrityError, match=f"limit of {len(TAR) - 1} bytes, unpacked"):
        bring_at_most(len(TAR) - 1)
    assert store.images() == []
    assert bring_at_most(len(TAR)).name is not None


def test_a_name_that_is_wrong_shows_before_anything_is_read(store: Store) -> None:
    stdin = io.BytesIO(TAR)
    with pytest.raises(InvalidInputError):
        import_tar(store, "-", "Not A Name", stdin=stdin)
    assert stdin.tell() == 0


def test_settings_date_platform_and_comment_go_into_the_config(
    store: Store, tmp_path: Path
) -> None:
    file = tmp_path / "rootfs.tar"
    file.write_bytes(TAR)
    os.utime(file, (1_700_000_000, 1_700_000_000))
    options = ImportOptions(
        changes=['CMD ["/bin/sh"]', "LABEL a=b"],
        message="from the test",
        platform=Platform("linux", "arm", "v7"),
    )
    import_tar(store, str(file), "base", options)
    document = inspect_image(store, "base").to_json()
    assert document["Config"] == {"Cmd": ["/bin/sh"], "Labels": {"a": "b"}}
    assert document["Created"] == "2023-11-14T22:13:20Z"
    assert (document["Os"], document["Architecture"], document["Variant"]) == ("linux", "arm", "v7")
    assert document["Comment"] == "from the test"


def test_the_same_file_makes_the_same_image(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "rootfs.tar"
    file.write_bytes(TAR)
    first, second = (import_tar(store, str(file), name) for name in ("one", "two"))
    assert (first.image_id, first.manifest) == (second.image_id, second.manifest)


def test_without_a_name_the_image_is_known_by_its_id(store: Store) -> None:
    result = bring(store, TAR, None)
    assert (result.name, store.image(result.image_id).names) == (None, ())


def test_a_file_name_that_is_no_text_is_kept_as_far_as_it_is(store: Store, tmp_path: Path) -> None:
    file = os.fsdecode(os.fsencode(tmp_path) + b"/base-\xff.tar")
    Path(file).write_bytes(TAR)
    import_tar(store, file, "base")
    assert inspect_image(store, "base").to_json()["Comment"] == "imported from base-\ufffd.tar"


@pytest.mark.parametrize(
    "options", [ImportOptions(message="\udcff"), ImportOptions(changes=["LABEL a=\udcff"])]
)
def test_settings_that_are_no_text_are_refused(store: Store, options: ImportOptions) -> None:
    with pytest.raises(InvalidInputError, match="is not UTF-8"):
        import_tar(store, "-", "base", options, stdin=io.BytesIO(TAR))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_progress_adds_up_to_what_was_read(store: Store, compression: str) -> None:
    told: list[int] = []
    data = compress(TAR, compression)
    import_tar(store, "-", "base", stdin=io.BytesIO(data), progress=told.append)
    assert sum(told) == len(data)


def test_a_cancelled_import_makes_no_image(store: Store) -> None:
    cancel = Cancel()
    with pytest.raises(CancelledError):
        import_tar(
            store,
            "-",
            "base",
            stdin=io.BytesIO(TAR),
            progress=lambda _: cancel.cancel(),
            cancel=cancel,
        )
    assert (store.images(), store.names()) == ([], [])


def test_the_config_is_an_image_config_other_tools_read(store: Store) -> None:
    result = bring(store, TAR)
    data = store.read_blob(Digest("sha256", result.image_id), cap=1 << 20)
    document = json.loads(data)
    assert document["rootfs"] == {"type": "layers", "diff_ids": [str(Digest.of(TAR))]}
    assert len(document["history"]) == 1


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (["blobs/sha256/00", "index.json"], True),
        (["./oci-layout"], True),
        ([f"{'0a' * 32}.tar", "manifest.json"], True),
        (["etc/motd", "manifest.json"], False),
        (["blobs.txt"], False),
    ],
)
def test_an_archive_of_images_is_imported_with_a_warning(
    store: Store, names: list[str], warned: bool
) -> None:
    said: list[str] = []
    data = gzip.compress(tar_of(dict.fromkeys(names, b"x")))
    import_tar(store, "-", "base", stdin=io.BytesIO(data), warn=said.append)
    assert [text for text in said if "'kstore load' brings" in text] == said
    assert bool(said) == warned


def test_an_address_of_another_kind_is_no_file(store: Store) -> None:
    with pytest.raises(InvalidInputError, match="'ftp://example.com/x.tar' is no address of http"):
        import_tar(store, "ftp://example.com/x.tar", "base")
