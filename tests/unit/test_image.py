"""What an opened image tells, and what it would be after a change."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.app import App, RegistryOptions
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    InvalidInputError,
    InvalidManifestError,
    SizeMismatchError,
    UnsupportedError,
)
from kstore.image import Image, ManifestUpdate, open_image
from kstore.manifest import Manifest, parse_image
from kstore.reference import Named
from kstore.settings import load
from kstore.signing.policy import AcceptAnything
from kstore.transports import Transports
from tests.support.faultserver import FaultServer
from tests.support.images import TestImage, index_of, random_image, write_oci_layout
from tests.support.legacy import legacy_image

MODERN = random_image(1, labels={"a": "b"})
OLD = legacy_image(2)
DIFF_IDS = [Digest.parse(text) for text in json.loads(OLD.config)]

Open = Callable[..., Image]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server


@pytest.fixture
def transports(server: FaultServer, tmp_path: Path) -> Iterator[Transports]:
    def no_store() -> None:
        raise AssertionError("no store is needed")

    app = App(load({}, root=tmp_path / "root"))
    with app.transports(no_store, RegistryOptions(tls_verify=False)) as transports:  # type: ignore[arg-type]
        yield transports


@pytest.fixture
def opened(server: FaultServer, transports: Transports) -> Iterator[Open]:
    """Opens images of a registry; they are closed in the end."""
    images: list[Image] = []

    def open_it(image: TestImage) -> Image:
        for data in image.blobs.values():
            server.add_blob(data)
        server.add_manifest(image.raw.data, image.raw.media_type, tag="v1")
        reference = transports.parse(f"docker://{server.host}/team/app:v1")
        images.append(open_image(reference, AcceptAnything()))
        return images[-1]

    yield open_it
    for image in images:
        image.close()


@pytest.fixture
def index(tmp_path: Path, transports: Transports) -> Iterator[Image]:
    raw = index_of([MODERN])
    write_oci_layout(tmp_path / "layout", {"v1": (raw, [MODERN])})
    reference = transports.parse(f"oci:{tmp_path / 'layout'}:v1")
    with open_image(reference, AcceptAnything()) as image:
        yield image


def replacements(image: TestImage) -> list[Descriptor]:
    """Layers to take the place of the image's."""
    return [
        Descriptor(mt.OCI_LAYER_ZSTD, Digest.of(f"new {n}".encode()), 100 + n)
        for n in range(len(image.layers))
    ]


# ---- what it tells


def test_an_image_tells_what_it_consists_of(opened: Open) -> None:
    image = opened(MODERN)
    assert str(image.reference.docker_reference).endswith("/team/app:v1")
    assert not image.is_multi_image
    assert image.config_info is not None
    assert image.config_info.digest == Digest.of(MODERN.config)
    assert image.read_config() == MODERN.config
    assert [(layer.digest, layer.size, layer.index) for layer in image.layers] == [
        (layer.digest, layer.size, number) for number, layer in enumerate(MODERN.layers)
    ]
    assert image.size == sum(map(len, MODERN.blobs.values()))


def test_a_layer_that_is_there_twice_takes_its_room_once(opened: Open) -> None:
    document = json.loads(MODERN.raw.data)
    document["layers"].append(document["layers"][0])
    data = json.dumps(document).encode()
    raw = type(MODERN.raw).receive(data, mt.OCI_MANIFEST)
    image = opened(TestImage(raw, MODERN.blobs, MODERN.config, MODERN.layers, MODERN.platform))
    assert len(image.layers) == 3
    assert image.size == sum(map(len, MODERN.blobs.values()))


def test_an_image_is_inspected(opened: Open) -> None:
    info = opened(MODERN).inspect()
    assert info.created == dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert (info.os, info.architecture, dict(info.labels)) == ("linux", "amd64", {"a": "b"})
    assert (info.tag, info.docker_version) == (None, None)
    assert info.layers == tuple(layer.digest for layer in MODERN.layers)


def test_a_schema_1_image_is_inspected(opened: Open) -> None:
    info = opened(OLD).inspect()
    assert (info.tag, info.docker_version, dict(info.labels)) == ("v1", "1.9.1", {"old": "yes"})
    assert info.layers == tuple(layer.digest for layer in OLD.layers)
    assert info.created == dt.datetime(2015, 1, 2, 3, 4, 2, tzinfo=dt.UTC)


def test_a_schema_1_image_asks_its_source_how_large_layers_are(opened: Open) -> None:
    image = opened(OLD)
    assert image.config_info is None
    assert [layer.size for layer in image.layers] == [layer.size for layer in OLD.layers]
    assert image.size == sum(layer.size for layer in OLD.layers)
    with pytest.raises(InvalidManifestError, match="no config of its own"):
        image.read_config()


def test_what_nobody_knows_is_not_added_up(opened: Open, server: FaultServer) -> None:
    image = opened(OLD)
    del server.blobs["team/app"][str(OLD.layers[0].digest)]
    assert image.layers[0].size is None
    assert image.size is None


def test_an_index_is_no_image(index: Image) -> None:
    assert index.is_multi_image
    assert (index.size, index.config_info) == (None, None)
    for ask in (index.inspect, index.read_config, lambda: index.layers, lambda: index.config):
        with pytest.raises(InvalidManifestError, match="an index|no config"):
            ask()


@pytest.mark.parametrize(
    ("name", "conflicts"),
    [("x.io/library/old:v1", False), ("x.io/library/old:v2", True), ("x.io/other:v1", True)],
)
def test_a_schema_1_image_says_what_it_is_called(opened: Open, name: str, conflicts: bool) -> None:
    assert opened(OLD).embedded_name_conflicts(Named.parse(name)) is conflicts


def test_no_other_image_says_what_it_is_called(opened: Open, index: Image) -> None:
    for image in (opened(MODERN), index):
        assert not image.embedded_name_conflicts(Named.parse("any/name"))


def test_a_config_of_another_size_is_not_believed(tmp_path: Path, transports: Transports) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": MODERN})
    (tmp_path / "layout" / "blobs" / "sha256" / MODERN.id).write_bytes(MODERN.config + b" ")
    reference = transports.parse(f"oci:{tmp_path / 'layout'}:v1")
    with open_image(reference, AcceptAnything()) as image, pytest.raises(SizeMismatchError):
        image.read_config()


# ---- what it would be


def test_nothing_to_change_is_the_same_image(opened: Open) -> None:
    image = opened(MODERN)
    assert image.updated(ManifestUpdate()) is image
    assert image.updated(ManifestUpdate(manifest_type=mt.OCI_MANIFEST)) is image
    old = opened(OLD)
    assert old.updated(ManifestUpdate()) is old


def test_another_type_keeps_config_and_layers(opened: Open) -> None:
    image = opened(MODERN)
    update = ManifestUpdate(manifest_type=mt.DOCKER_MANIFEST)
    assert not image.needs_diff_ids(update)
    changed = image.updated(update)
    assert changed.raw.media_type == mt.DOCKER_MANIFEST
    assert changed.read_config() == MODERN.config
    assert changed.inspect() == image.inspect()
    assert image.raw.data == MODERN.raw.data, "the image itself stays as it is"


def test_other_layers_are_in_the_manifest_and_only_there(opened: Open) -> None:
    new = replacements(MODERN)
    changed = opened(MODERN).updated(ManifestUpdate(layers=new))
    assert isinstance(changed.document, Manifest)
    assert [(layer.digest, layer.size) for layer in changed.document.layers] == [
        (layer.digest, layer.size) for layer in new
    ]
    assert {layer.media_type for layer in changed.document.layers} == {mt.OCI_LAYER_ZSTD}
    assert changed.read_config() == MODERN.config
    assert changed.size == len(MODERN.config) + 100 + 101


def test_a_schema_1_image_needs_to_know_what_its_layers_unpack_to(opened: Open) -> None:
    image = opened(OLD)
    update = ManifestUpdate(OLD.layers, mt.OCI_MANIFEST, DIFF_IDS)
    assert image.needs_diff_ids(update)
    assert not image.needs_diff_ids(ManifestUpdate())
    changed = image.updated(update)
    assert changed.config.diff_ids == tuple(DIFF_IDS)
    assert [layer.digest for layer in parse_image(changed.raw).layers] == [
        layer.digest for layer in OLD.layers
    ]
    assert changed.config_info is not None
    assert changed.config_info.digest == Digest.of(changed.read_config())
    assert changed.inspect().docker_version == "1.9.1"
    assert not changed.needs_diff_ids(ManifestUpdate(manifest_type=mt.DOCKER_MANIFEST))


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (ManifestUpdate(replacements(MODERN)[:1]), InvalidInputError, "2 layers, but 1 were"),
        (
            ManifestUpdate(replacements(MODERN), mt.DOCKER_MANIFEST),
            UnsupportedError,
            "compressed with zstd",
        ),
        (ManifestUpdate(manifest_type="nonsense"), UnsupportedError, "cannot become a 'nonsense'"),
    ],
    ids=["too few layers", "a compression the type has no word for", "no type"],
)
def test_what_an_image_cannot_become(
    opened: Open, update: ManifestUpdate, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(MODERN).updated(update)


@pytest.mark.parametrize(
    ("update", "error", "message"),
    [
        (ManifestUpdate(manifest_type=mt.OCI_MANIFEST), InvalidInputError, "layers and diff_ids"),
        (ManifestUpdate(OLD.layers, mt.OCI_MANIFEST), InvalidInputError, "layers and diff_ids"),
        (ManifestUpdate(OLD.layers), UnsupportedError, "never written"),
        (
            ManifestUpdate(OLD.layers, mt.OCI_MANIFEST, DIFF_IDS[:1]),
            InvalidManifestError,
            "2 layers got 1",
        ),
        (ManifestUpdate(OLD.layers, mt.OCI_INDEX, DIFF_IDS), UnsupportedError, "cannot become"),
    ],
    ids=["nothing known", "no diffIDs", "no other type", "too few diffIDs", "an index"],
)
def test_what_a_schema_1_image_cannot_become(
    opened: Open, update: ManifestUpdate, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        opened(OLD).updated(update)


def test_a_layer_that_is_there_twice_cannot_become_two(opened: Open) -> None:
    document = json.loads(MODERN.raw.data)
    document["layers"][1] = document["layers"][0]
    raw = type(MODERN.raw).receive(json.dumps(document).encode(), mt.OCI_MANIFEST)
    image = opened(TestImage(raw, MODERN.blobs, MODERN.config, MODERN.layers, MODERN.platform))
    with pytest.raises(InvalidInputError, match="cannot become two"):
        image.updated(ManifestUpdate(replacements(MODERN)))


def test_an_index_is_not_updated(index: Image) -> None:
    with pytest.raises(UnsupportedError, match="its members are updated"):
        index.updated(ManifestUpdate(manifest_type=mt.DOCKER_MANIFEST))
