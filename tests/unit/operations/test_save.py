"""Saving images of the store: every format, every name, and nothing left of a failure."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
from pathlib import Path

import pytest

from kstore.app import App
from kstore.errors import (
    CancelledError,
    ConflictError,
    ImageNotFoundError,
    InvalidInputError,
    NotFoundError,
    StorageError,
    StoreDamagedError,
)
from kstore.manifest import RawManifest, parse_image
from kstore.mediatypes import DOCKER_LAYER, DOCKER_MANIFEST
from kstore.operations.import_ import import_tar
from kstore.operations.save import SaveFormat, SaveOptions, SaveResult, save_images
from kstore.settings import load
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import Transports
from tests.support.disks import files_no_larger_than
from tests.support.images import ARM64, compress, index_of, layer_tar, random_image
from tests.support.stores import listing, put_image, put_index

ONE, TWO, ARM = random_image(1), random_image(2, docker=True), random_image(3, platform=ARM64)
SHARED = random_image(1, labels={"other": "config"})  # the layers of ONE
ARCHIVES: tuple[SaveFormat, ...] = ("docker-archive", "oci-archive")
EVERY: tuple[SaveFormat, ...] = (*ARCHIVES, "oci-dir", "docker-dir")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


@pytest.fixture
def images(store: Store) -> Store:
    put_image(store, ONE, "app:1", "quay.io/me/app:stable")
    put_image(store, TWO, "app:2")
    put_image(store, SHARED, "app:shared")
    return store


def save(
    store: Store, transports: Transports, output: object, *names: str, **options: object
) -> SaveResult:
    settings = SaveOptions(**options)  # type: ignore[arg-type]
    return save_images(store, transports, names, str(output), settings)


def listed(archive: Path) -> list[dict[str, object]]:
    with tarfile.open(archive) as tar:
        member = tar.extractfile("manifest.json")
        assert member is not None
        result: list[dict[str, object]] = json.load(member)
        return result


def refs(index: bytes) -> list[str | None]:
    key = "org.opencontainers.image.ref.name"
    return [entry.get("annotations", {}).get(key) for entry in json.loads(index)["manifests"]]


def test_a_docker_archive_lists_every_image_with_every_name_it_was_given_by(
    images: Store, transports: Transports, out: Path
) -> None:
    names = ("app:1", "app:2", "quay.io/me/app:stable")
    result = save(images, transports, out / "x.tar", *names)
    assert set(result.manifests) == {ONE.raw.digest, TWO.raw.digest}
    assert [entry["RepoTags"] for entry in listed(out / "x.tar")] == [
        ["docker.io/library/app:1", "quay.io/me/app:stable"],
        ["docker.io/library/app:2"],
    ]


def test_an_image_given_by_id_has_no_name_there(
    images: Store, transports: Transports, out: Path
) -> None:
    save(images, transports, out / "x.tar", ONE.id[:12])
    assert [entry["RepoTags"] for entry in listed(out / "x.tar")] == [[]]
    save(images, transports, out / "layout", ONE.id, format="oci-dir")
    assert refs((out / "layout/index.json").read_bytes()) == [None]


@pytest.mark.parametrize("form", ARCHIVES)
def test_layers_that_images_share_are_there_once(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    save(images, transports, out / "x.tar", "app:1", "app:shared", format=form)
    with tarfile.open(out / "x.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    assert f"blobs/sha256/{ONE.layers[0].digest.hex}" in names


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_saving_twice_gives_the_same_bytes(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    for name in ("a", "b"):
        save(images, transports, out / name, "app:1", "app:2", format=form)
    assert (out / "a").read_bytes() == (out / "b").read_bytes()


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_the_order_of_an_images_names_does_not_matter_and_that_of_images_does(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    """``:@INDEX`` counts images."""
    names = ("quay.io/me/app:stable", "app:1")
    for place, order in {"a": names, "b": names[::-1]}.items():
        save(images, transports, out / place, *order, "app:2", format=form)
    save(images, transports, out / "c", "app:2", *names, format=form)
    assert (out / "a").read_bytes() == (out / "b").read_bytes() != (out / "c").read_bytes()


def test_an_oci_layout_has_every_name_and_the_manifests_as_they_are(
    images: Store, transports: Transports, out: Path
) -> None:
    save(images, transports, out / "layout", "app:1", "quay.io/me/app:stable", format="oci-dir")
    assert refs((out / "layout/index.json").read_bytes()) == [
        "docker.io/library/app:1",
        "quay.io/me/app:stable",
    ]
    blob = out / "layout/blobs/sha256" / ONE.raw.digest.hex
    assert blob.read_bytes() == ONE.raw.data
    assert listing(out) == ["layout"]


def test_a_docker_directory_has_a_docker_manifest(
    images: Store, transports: Transports, out: Path
) -> None:
    save(images, transports, out / "image", "app:1", format="docker-dir")
    raw = RawManifest.receive((out / "image/manifest.json").read_bytes())
    assert raw.media_type == DOCKER_MANIFEST
    assert parse_image(raw).config.digest.hex == ONE.id


def test_layers_are_compressed_anew_when_that_is_asked_for(
    images: Store, transports: Transports, out: Path
) -> None:
    put_image(images, random_image(7, compression="zstd"), "z:1")
    save(images, transports, out / "image", "z:1", format="docker-dir", compression="gzip")
    raw = RawManifest.receive((out / "image/manifest.json").read_bytes())
    assert {layer.media_type for layer in parse_image(raw).layers} == {DOCKER_LAYER}


def test_a_level_of_compression_is_heard(images: Store, transports: Transports, out: Path) -> None:
    text = b" ".join(str(number).encode() for number in range(20_000))
    tar = compress(layer_tar({"text": text}), "zstd")
    import_tar(images, "-", "text:1", stdin=io.BytesIO(tar))
    sizes = []
    for level in (1, 9):
        to = out / str(level)
        save(images, transports, to, "text:1", compression="gzip", compression_level=level)
        sizes.append(to.stat().st_size)
    assert sizes[0] > sizes[1]


def test_an_index_is_saved_whole_where_the_format_has_a_word_for_it(
    store: Store, transports: Transports, out: Path
) -> None:
    index = index_of([ONE, ARM])
    put_index(store, index, [ONE, ARM], "multi:1")
    oci = save(store, transports, out / "layout", "multi:1", format="oci-dir")
    assert oci.manifests == (index.digest,)
    assert (out / "layout/blobs/sha256" / ARM.layers[0].digest.hex).exists()
    docker = save(store, transports, out / "x.tar", "multi:1")
    assert docker.manifests == (store.find_image("multi:1").manifest,)


@pytest.mark.parametrize("form", EVERY)
def test_what_is_there_already_is_refused_and_not_touched(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    place = out / "taken"
    if form.endswith("dir"):
        place.mkdir()
        (place / "file").write_text("mine")
    else:
        place.write_text("mine")
    with pytest.raises(ConflictError, match="exists already"):
        save(images, transports, place, "app:1", format=form)
    assert (place / "file" if form.endswith("dir") else place).read_text() == "mine"
    assert listing(out) == ["taken"]


@pytest.mark.parametrize("form", EVERY)
def test_a_missing_image_is_noticed_before_anything_is_made(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    with pytest.raises(ImageNotFoundError):
        save(images, transports, out / "x", "app:none", format=form)
    assert listing(out) == []


@pytest.mark.parametrize("form", EVERY)
def test_of_a_damaged_image_nothing_is_left(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    (images.root / "blobs/sha256" / TWO.layers[1].digest.hex).unlink()
    names = ("app:2",) if form == "docker-dir" else ("app:1", "app:2")
    with pytest.raises(StoreDamagedError):
        save(images, transports, out / "x", *names, format=form)
    assert listing(out) == []


@pytest.mark.parametrize("form", EVERY)
def test_on_a_full_disk_nothing_is_left(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    with files_no_larger_than(1000), pytest.raises(StorageError):
        save(images, transports, out / "x", "app:1", format=form)
    assert listing(out) == []


@pytest.mark.parametrize("form", EVERY)
def test_a_stop_leaves_nothing(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    cancel = Cancel()
    cancel.cancel()
    options = SaveOptions(format=form)
    with pytest.raises(CancelledError):
        save_images(images, transports, ["app:1"], str(out / "x"), options, cancel=cancel)
    assert listing(out) == []


def test_a_directory_cannot_go_to_standard_output(images: Store, transports: Transports) -> None:
    with pytest.raises(InvalidInputError, match="standard output"):
        save(images, transports, "-", "app:1", format="oci-dir")


def test_a_docker_directory_holds_one_image(
    images: Store, transports: Transports, out: Path
) -> None:
    with pytest.raises(InvalidInputError, match="one image"):
        save(images, transports, out / "x", "app:1", "app:2", format="docker-dir")
    save(images, transports, out / "x", "app:1", "quay.io/me/app:stable", format="docker-dir")


@pytest.mark.parametrize("form", EVERY)
def test_a_missing_directory_is_named(
    images: Store, transports: Transports, out: Path, form: SaveFormat
) -> None:
    with pytest.raises(NotFoundError):
        save(images, transports, out / "none/x", "app:1", format=form)


def test_an_image_elsewhere_is_not_saved_but_copied(images: Store, transports: Transports) -> None:
    with pytest.raises(InvalidInputError) as caught:
        save(images, transports, "-", "docker://busybox")
    assert caught.value.hint == "kstore copy docker://busybox DESTINATION"


def test_standard_output_gets_what_a_file_gets(images: Store, out: Path) -> None:
    stdout = io.BytesIO()
    app = App(load({}, root=images.root))
    with app.transports(images, stdout=stdout) as transports:
        save(images, transports, "-", "app:1")
        save(images, transports, out / "x", "app:1")
    assert stdout.getvalue() == (out / "x").read_bytes()


def test_a_closed_pipe_is_an_error(images: Store) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    app = App(load({}, root=images.root))
    with (
        os.fdopen(writing, "wb", buffering=0) as stdout,
        app.transports(images, stdout=stdout) as transports,
        pytest.raises(StorageError, match="standard output"),
    ):
        save(images, transports, "-", "app:1")


def test_a_named_pipe_gets_the_archive(images: Store, transports: Transports, out: Path) -> None:
    os.mkfifo(out / "pipe")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((out / "pipe").read_bytes()))
    reader.start()
    save(images, transports, out / "pipe", "app:1")
    reader.join(20)
    save(images, transports, out / "x", "app:1")
    assert got == [(out / "x").read_bytes()]


def test_what_a_killed_save_left_of_a_layout_goes_with_the_next_one(
    images: Store, transports: Transports, out: Path
) -> None:
    left = out / ".layout.0123456789abcdef"
    save(images, transports, left, "app:2", format="oci-dir")
    save(images, transports, out / "other", "app:1", format="oci-dir")
    assert left.exists()
    save(images, transports, out / "layout", "app:1", format="oci-dir")
    assert listing(out) == ["layout", "other"]
