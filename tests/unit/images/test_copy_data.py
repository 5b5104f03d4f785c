"""The settings of an image to come, and the image that they make."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.app import App
from kstore.compression import decompressor
from kstore.copier import copy_image
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    DigestMismatchError,
    ImageNotFoundError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
    ManifestNotFoundError,
    NotFoundError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.images import (
    OCI_V1_IMAGE_MANIFEST,
    CopyRef,
    get_container_copy_data,
    get_image_copy_data,
    import_copy_data_from_image,
)
from kstore.interfaces import ImageSource
from kstore.manifest import RawManifest, parse_image
from kstore.operations.working import make_container
from kstore.platforms import host_platform
from kstore.signing.policy import AcceptAnything
from kstore.store import ContainerRecord, Store
from kstore.streams import VerifiedStream, read_limited
from tests.support.fixturestore import FixtureStore
from tests.support.images import random_image
from tests.support.layers import image_of
from tests.support.stores import listing, put_image

SIGNATURE = b"\x89 anything: nobody looks inside"
MOMENT = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)


def blob(source: ImageSource, descriptor: Any) -> bytes:
    """A blob of the source, which must be what the manifest says."""
    with VerifiedStream(source.open_blob(descriptor), descriptor) as stream:
        return read_limited(stream, 1 << 20, "blob")


def config_of(ref: CopyRef) -> dict[str, Any]:
    with ref.open_image() as image:
        document: dict[str, Any] = json.loads(image.read_config())
        return document


def plain(data: bytes, kind: str) -> bytes:
    class Stream(io.BytesIO):
        def readinto(self, buffer: Any, /) -> int:
            return super().readinto(buffer)

    return read_limited(decompressor(kind, Stream(data), max_output=1 << 20), 1 << 20, "layer")


@pytest.fixture
def box(own: FixtureStore) -> ContainerRecord:
    record = make_container(own.store, "foobar", "box")
    (record.upper / "new").write_text("made in the container")
    return record


# ---- 3.16 to 3.20: where settings come from


def test_the_settings_of_an_image_are_its_own(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    assert (data.image, data.image_id) == ("localhost/foobar:latest", own.b.id)
    assert (data.config, data.manifest) == (own.b.config, own.b.raw.data)
    assert (data.container, data.container_id, data.mount_point) == (None, None, None)
    assert data.annotations == {"letter": "b"}
    assert data.created_by is None
    assert (data.os, data.architecture, data.work_dir) == ("linux", "amd64", "/")
    assert data.view.author == "maker of b"


def test_settings_of_an_image_cannot_be_saved(own: FixtureStore) -> None:
    with pytest.raises(InvalidInputError, match="belongs to no container"):
        get_image_copy_data(own.store, "foobar").save()


def test_the_settings_of_a_container_are_those_it_was_given(
    own: FixtureStore, box: ContainerRecord
) -> None:
    data = get_container_copy_data(own.store, "box")
    assert (data.container, data.container_id) == ("box", box.id)
    assert (data.image_id, data.mount_point) == (own.b.id, box.upper)
    assert (data.config, data.type) == (own.b.config, "kstore container 1")
    data.os, data.architecture, data.work_dir = "plan9", "mips", "/srv"
    data.annotations = {"new": "one"}
    data.created_by = "a test"
    data.save()
    again = get_container_copy_data(own.store, box.id[:12])
    assert (again.os, again.architecture, again.work_dir) == ("plan9", "mips", "/srv")
    assert (again.annotations, again.created_by) == ({"new": "one"}, "a test")
    path = box.directory / "kstore.json"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_copy_of_the_annotations_changes_nothing(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    data.annotations["x"] = "y"
    assert data.annotations == {"letter": "b"}


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("", InvalidInputError, "which container"),
        ("nosuch", NotFoundError, "no container 'nosuch'"),
    ],
    ids=["3.18 no name", "3.18 an unknown name"],
)
def test_a_container_must_be_there(
    own: FixtureStore, name: str, error: type[KstoreError], message: str
) -> None:
    with pytest.raises(error, match=message):
        get_container_copy_data(own.store, name)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, StoreDamagedError, "cannot read kstore.json of container box"),
        (b"{}", IntegrityError, "unknown type None"),
        (b'{"type": "kpod 0.0.1"}', IntegrityError, "unknown type 'kpod 0.0.1'"),
        (b"not JSON", IntegrityError, "kstore.json of container box"),
        (b'{"type": "kstore container 1", "config": []}', IntegrityError, "not a JSON object"),
    ],
    ids=["gone", "empty", "of another program", "no JSON", "of a wrong shape"],
)
def test_a_damaged_description_is_an_error(
    own: FixtureStore,
    box: ContainerRecord,
    content: bytes | None,
    error: type[KstoreError],
    message: str,
) -> None:
    path = box.directory / "kstore.json"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(error, match=message):
        get_container_copy_data(own.store, "box")


def test_an_image_must_be_named_and_there(own: FixtureStore) -> None:
    with pytest.raises(InvalidInputError, match="which image"):
        get_image_copy_data(own.store, "")
    with pytest.raises(ImageNotFoundError):
        get_image_copy_data(own.store, "nosuch")


def test_settings_are_imported_by_a_full_id(own: FixtureStore) -> None:
    data = import_copy_data_from_image(own.store, own.a.id)
    assert (data.image, data.image_id) == ("docker.io/library/alpine:latest", own.a.id)
    assert import_copy_data_from_image(own.store, f"sha256:{own.c.id}").image is None
    for text in (own.a.id[:12], "alpine"):
        with pytest.raises(ImageNotFoundError, match="no image with the ID"):
            import_copy_data_from_image(own.store, text)


def test_without_an_id_there_is_nothing_but_this_machine(own: FixtureStore) -> None:
    data = import_copy_data_from_image(own.store, "")
    host = host_platform()
    assert (data.os, data.architecture, data.work_dir) == (host.os, host.architecture, "/")
    assert (data.image, data.image_id, data.config, data.manifest) == (None, None, None, None)
    config = config_of(data.make_image_ref(timestamp=MOMENT))
    assert (config["created"], config["rootfs"]["diff_ids"]) == ("2024-05-06T07:08:09Z", [])


def test_settings_are_imported_into_a_container(own: FixtureStore, box: ContainerRecord) -> None:
    import_copy_data_from_image(own.store, own.a.id, "box").save()
    data = get_container_copy_data(own.store, "box")
    assert (data.container_id, data.view.author) == (box.id, "maker of a")
    with pytest.raises(NotFoundError, match="nosuch"):
        import_copy_data_from_image(own.store, own.a.id, "nosuch")


def test_a_container_whose_image_is_gone_keeps_its_settings(
    own: FixtureStore, box: ContainerRecord
) -> None:
    own.store.remove_image(own.b.id, force=True, all_names=True)
    data = get_container_copy_data(own.store, "box")
    assert (data.image_id, data.config, data.view.author) == (own.b.id, None, "maker of b")
    with pytest.raises(ImageNotFoundError, match="of container box is gone"):
        data.make_image_ref()


@pytest.mark.parametrize("value", ["a\0b", "\udcff"], ids=["a zero byte", "no UTF-8"])
def test_a_setting_that_no_config_can_hold_is_refused(own: FixtureStore, value: str) -> None:
    data = get_image_copy_data(own.store, "foobar")
    for attribute in ("os", "architecture", "work_dir", "created_by"):
        with pytest.raises(InvalidInputError, match="zero byte|not UTF-8"):
            setattr(data, attribute, value)
    with pytest.raises(InvalidInputError, match="zero byte|not UTF-8"):
        data.annotations = {"key": value}
    with pytest.raises(InvalidInputError, match="zero byte|not UTF-8"):
        data.make_image_ref(names=[value])


# ---- 3.17 and 3.21: the image that settings make


def test_nothing_changed_means_no_byte_changed(own: FixtureStore) -> None:
    ref = get_image_copy_data(own.store, "foobar").make_image_ref()
    with ref.open_source() as source:
        assert source.read_manifest().data == own.b.raw.data
        manifest = parse_image(own.b.raw)
        for descriptor in manifest.blobs:
            assert blob(source, descriptor) == own.b.blobs[descriptor.digest]
        assert list(source.read_signatures()) == []
        with pytest.raises(ManifestNotFoundError):
            source.read_manifest(own.a.raw.digest)
        missing = own.a.layers[0]
        with pytest.raises(BlobNotFoundError, match=str(missing.digest)):
            source.open_blob(missing)


def test_signatures_stay_with_the_manifest_they_are_of(own: FixtureStore) -> None:
    own.store.add_signatures(own.b.raw.digest, [SIGNATURE])
    data = get_image_copy_data(own.store, "foobar")
    with data.make_image_ref().open_image() as image:
        assert list(image.signatures) == [SIGNATURE]
    with data.make_image_ref(mt.DOCKER_MANIFEST).open_image() as image:
        assert list(image.signatures) == []


def test_another_manifest_type_leaves_config_and_layers_as_they_are(own: FixtureStore) -> None:
    ref = get_image_copy_data(own.store, "foobar").make_image_ref(mt.DOCKER_MANIFEST)
    with ref.open_image() as image:
        assert image.raw.media_type == mt.DOCKER_MANIFEST
        assert image.read_config() == own.b.config
        assert [layer.digest for layer in image.layers] == [layer.digest for layer in own.b.layers]


def test_a_setting_changes_the_config_and_nothing_else(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    data.work_dir = "/srv"
    ref = data.make_image_ref()
    data.work_dir = "/later"
    changed = config_of(ref)
    assert changed["config"].pop("WorkingDir") == "/srv", "as it was when the reference was made"
    assert changed == json.loads(own.b.config), "keys that nobody knows are there, too"
    with ref.open_source() as source:
        assert parse_image(source.read_manifest()).layers == parse_image(own.b.raw).layers


def test_annotations_go_into_an_oci_manifest(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    data.annotations = {"other": "text"}
    with data.make_image_ref().open_source() as source:
        manifest = parse_image(source.read_manifest())
        assert dict(manifest.annotations) == {"other": "text"}
        assert manifest.config == parse_image(own.b.raw).config
    with data.make_image_ref(mt.DOCKER_MANIFEST).open_source() as source:
        assert dict(parse_image(source.read_manifest()).annotations) == {}


def test_a_date_is_the_image_s(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    assert config_of(data.make_image_ref(timestamp=MOMENT))["created"] == "2024-05-06T07:08:09Z"
    with pytest.raises(InvalidInputError, match="no time zone"):
        data.make_image_ref(timestamp=MOMENT.replace(tzinfo=None))


@pytest.mark.parametrize("kind", ["none", "gzip", "zstd"])
def test_layers_are_compressed_as_asked(own: FixtureStore, kind: str) -> None:
    ref = get_image_copy_data(own.store, "localhost:5000/team/app:v1").make_image_ref(compress=kind)
    with ref.open_image() as image:
        assert image.read_config() == own.d.config, "what layers unpack to is the same"
        diff_ids = image.config.diff_ids
    with ref.open_source() as source:
        layers = parse_image(source.read_manifest()).layers
        assert {layer.media_type for layer in layers} == {mt.layer_type(mt.OCI_MANIFEST, kind)}
        for layer, diff_id in zip(layers, diff_ids, strict=True):
            assert Digest.of(plain(blob(source, layer), kind)) == diff_id
            assert blob(source, layer) == blob(source, layer), "as often as one likes"


def test_a_blob_is_read_from_the_middle(own: FixtureStore) -> None:
    ref = get_image_copy_data(own.store, "foobar").make_image_ref(compress="zstd")
    with ref.open_source() as source:
        manifest = parse_image(source.read_manifest())
        for descriptor in manifest.blobs:
            whole = blob(source, descriptor)
            with contextlib.closing(source.open_blob(descriptor, 7)) as stream:
                assert stream.offset == 7
                assert read_limited(stream, 1 << 20, "rest") == whole[7:]


def test_a_layer_that_is_not_what_the_config_says_is_not_passed_on(own: FixtureStore) -> None:
    image = image_of(b"\0" * 1024, name="wrong")
    wrong = image_of(b"\0" * 2048, name="wrong")
    document = json.loads(image.raw.data)
    document["layers"] = json.loads(wrong.raw.data)["layers"]
    mixed = RawManifest.receive(json.dumps(document).encode(), mt.OCI_MANIFEST)
    blobs = {**image.blobs, **wrong.blobs}
    put_image(own.store, type(image)(mixed, blobs, image.config, wrong.layers, image.platform), "w")
    ref = get_image_copy_data(own.store, "w").make_image_ref(compress="none")
    with pytest.raises(DigestMismatchError, match="but the config says"):
        ref.open_source()


@pytest.mark.parametrize(
    ("manifest_type", "compress", "message"),
    [
        (mt.DOCKER_SCHEMA1, None, "cannot be made as"),
        ("nonsense", None, "cannot be made as a 'nonsense'"),
        (mt.DOCKER_MANIFEST, "zstd", "can be compressed with 'zstd'"),
        (OCI_V1_IMAGE_MANIFEST, "bzip2", "cannot be compressed with 'bzip2'"),
        (OCI_V1_IMAGE_MANIFEST, "xz", "cannot be compressed with 'xz'"),
        (OCI_V1_IMAGE_MANIFEST, "", "cannot be compressed with ''"),
    ],
    ids=["schema 1", "no type", "zstd for docker", "bzip2", "xz", "no compression"],
)
def test_what_images_cannot_have_is_refused(
    own: FixtureStore, manifest_type: str, compress: str | None, message: str
) -> None:
    data = get_image_copy_data(own.store, "foobar")
    with pytest.raises(UnsupportedError, match=message):
        data.make_image_ref(manifest_type, compress).open_source()


def test_the_topmost_layer_can_be_chosen(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "localhost:5000/team/app:v1")
    by_digest = config_of(data.make_image_ref(layer_id=own.d.layers[0].digest))
    diff_id = data.view.diff_ids[0]
    assert by_digest == config_of(data.make_image_ref(layer_id=diff_id))
    assert by_digest["rootfs"]["diff_ids"] == [str(diff_id)]
    assert [entry["created_by"] for entry in by_digest["history"]] == ["ADD layer 0"]
    with pytest.raises(NotFoundError, match="has no layer"):
        data.make_image_ref(layer_id=Digest.of(b"other")).open_source()


def test_a_container_s_files_are_one_layer_more(own: FixtureStore, box: ContainerRecord) -> None:
    data = get_container_copy_data(own.store, "box")
    data.created_by = "a test"
    ref = data.make_image_ref(timestamp=MOMENT)
    config = config_of(ref)
    assert config["history"][-1] == {
        "created": "2024-05-06T07:08:09Z",
        "created_by": "a test",
        "author": "maker of b",
    }
    with ref.open_source() as source:
        *base, new = parse_image(source.read_manifest()).layers
        assert base == list(own.b.layers)
        tar = plain(blob(source, new), "gzip")
    assert str(Digest.of(tar)) == config["rootfs"]["diff_ids"][-1]
    with tarfile.open(fileobj=io.BytesIO(tar)) as layer:
        assert layer.getnames() == ["new"]
        first = source.read_manifest()
    os.utime(box.upper / "new", (2_000_000_000, 2_000_000_000))
    with ref.open_source() as source:
        assert source.read_manifest() == first, "no file is younger than the image"


def test_a_container_without_changes_is_its_image(own: FixtureStore) -> None:
    make_container(own.store, "foobar", "clean")
    with get_container_copy_data(own.store, "clean").make_image_ref().open_source() as source:
        assert source.read_manifest().data == own.b.raw.data


def test_a_container_from_scratch_has_one_layer(own: FixtureStore) -> None:
    record = make_container(own.store, "scratch", "bare")
    (record.upper / "only").write_text("file")
    ref = get_container_copy_data(own.store, "bare").make_image_ref()
    with ref.open_image() as image:
        assert len(image.layers) == len(image.config.diff_ids) == 1
        assert image.config.history[0].created_by == "kstore commit"


def test_a_made_image_can_be_copied(own: FixtureStore, app: App, box: ContainerRecord) -> None:
    ref = get_container_copy_data(own.store, "box").make_image_ref(timestamp=MOMENT)
    with app.transports(own.store) as transports:
        for text in ("kstore:made:1", f"oci:{own.store.root.parent / 'layout'}:made"):
            copy_image(ref, transports.parse(text), AcceptAnything())
    with ref.open_source() as source:
        assert own.store.find_image("made:1").manifest == source.read_manifest().digest
    assert own.store.check(deep=True).problems == ()


def test_making_an_image_leaves_no_files_behind(own: FixtureStore, box: ContainerRecord) -> None:
    def files() -> list[Path]:
        return [path for path in own.store.root.rglob("*") if path.parent.name != "db"]

    ref = get_container_copy_data(own.store, "box").make_image_ref(compress="zstd")
    before = files()
    with ref.open_source():
        pass
    own.store.root.joinpath("blobs", "sha256", own.b.layers[0].digest.hex).unlink()
    with pytest.raises(KstoreError):
        ref.open_source()
    assert len(before) - 1 == len(files())
    own.store.prune()
    assert listing(own.store.root / "staging") == []


def test_the_base_is_kept_while_it_is_read(own: FixtureStore) -> None:
    ref = get_image_copy_data(own.store, "foobar").make_image_ref()
    with ref.open_source() as source:
        with Store.open(own.store.root, command="other") as other:
            other.remove_image(own.b.id, all_names=True)
        for layer in own.b.layers:
            assert blob(source, layer) == own.b.blobs[layer.digest]
    with pytest.raises(ImageNotFoundError):
        ref.open_source()


# ---- 3.21, method by method


def test_a_made_image_is_called_by_its_first_full_name(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    full = data.make_image_ref(names=["quay.io/a/b:1", "other"])
    assert (str(full.docker_reference), full.within_transport) == ("quay.io/a/b:1",) * 2
    short = data.make_image_ref(names=["b:1"])
    assert (short.docker_reference, short.within_transport) == (None, "b:1")
    nameless = data.make_image_ref()
    assert (nameless.docker_reference, nameless.within_transport) == (None, "")
    assert (nameless.transport, nameless.policy_identity) == ("kstore", "")
    assert nameless.policy_namespaces == ()


def test_a_made_image_cannot_be_written_and_need_not_be_deleted(own: FixtureStore) -> None:
    ref = get_image_copy_data(own.store, "foobar").make_image_ref()
    with pytest.raises(UnsupportedError, match="only be read"):
        ref.open_destination()
    ref.delete()
    assert len(own.store.images()) == 5


def test_an_image_with_a_name_by_digest_is_not_checked_against_it(own: FixtureStore) -> None:
    data = get_image_copy_data(own.store, "foobar")
    data.work_dir = "/x"
    name = f"quay.io/a/b@{own.b.raw.digest}"
    with data.make_image_ref(names=[name]).open_image() as image:
        assert image.raw.digest != own.b.raw.digest


def test_an_image_that_no_config_dates_can_be_made(own: FixtureStore) -> None:
    image = random_image(9, created=None)
    put_image(own.store, image, "undated")
    data = get_image_copy_data(own.store, "undated")
    with data.make_image_ref().open_source() as source:
        assert source.read_manifest().data == image.raw.data
    data.architecture = "arm64"
    assert "created" not in config_of(data.make_image_ref())
