"""What is attached to images goes into files with them, and comes out of files again."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, UnsupportedError
from kstore.operations.load import Loaded, LoadOptions, NotLoaded, load_images
from kstore.operations.referrers import list_referrers
from kstore.operations.save import SaveFormat, SaveOptions, save_images
from kstore.settings import load as load_settings
from kstore.store import Store
from kstore.transports import Transports
from tests.support.images import index_of, random_artifact, random_image, write_oci_layout
from tests.support.referrers import ARM, BOTH, IMAGE, OF_ARM, OF_INDEX, OF_SBOM, SBOM, SIG, SIGNED
from tests.support.stores import listing, put_artifact, put_image, put_index

#: What is attached to the image, what to the others.
OF_IMAGE = {each.raw.digest for each in (SBOM, OF_SBOM, SIGNED)}
OF_OTHERS = {each.raw.digest for each in (OF_INDEX, OF_ARM)}
OCI: tuple[SaveFormat, ...] = ("oci-archive", "oci-dir")
DOCKER: tuple[SaveFormat, ...] = ("docker-archive", "docker-dir")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "root"
    with Store.open(path) as store:
        put_image(store, IMAGE, "app:1", "quay.io/me/app:stable")
        put_index(store, BOTH, [IMAGE, ARM], "both:1")
        for artifact in (SBOM, OF_SBOM, OF_INDEX, OF_ARM):
            put_artifact(store, artifact)
        put_artifact(store, SIGNED, f"app:{SIG}")
    return path


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Iterator[Store]:
    """A store with images, and with what is attached to them."""
    shutil.copytree(template, tmp_path / "root")
    with Store.open(tmp_path / "root", command="test") as store:
        yield store


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Transports]:
    """Transports of another, empty store."""
    with Store.open(tmp_path / "other", command="test") as store:
        app = App(load_settings({}, root=store.root))
        with app.transports(store, RegistryOptions()) as transports:
            yield transports


def save(
    transports: Transports, output: object, form: SaveFormat, *names: str, **options: object
) -> None:
    settings = SaveOptions(format=form, with_referrers=True, **options)  # type: ignore[arg-type]
    save_images(transports.storage.store, transports, names, str(output), settings)


def load(
    transports: Transports, source: object, *, with_referrers: bool = True
) -> list[Loaded | NotLoaded]:
    options = LoadOptions(with_referrers=with_referrers)
    return list(load_images(transports.storage.store, transports, source, options))  # type: ignore[arg-type]


def found(transports: Transports, text: str) -> set[Digest]:
    return {each.descriptor.digest for each in list_referrers(transports, text, recursive=True)}


@pytest.mark.parametrize("form", OCI)
def test_what_is_attached_is_saved_and_loaded_with_its_image(
    transports: Transports, other: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    save(transports, tmp_path / "out", form, "app:1", "quay.io/me/app:stable")
    (loaded,) = load(other, tmp_path / "out")
    assert isinstance(loaded, Loaded)
    assert [name.familiar for name in loaded.names] == ["app:1", "quay.io/me/app:stable"]
    assert found(other, "app:1") == found(other, "quay.io/me/app:stable") == OF_IMAGE
    assert not other.storage.store.check(deep=True).problems


@pytest.mark.parametrize("form", OCI)
def test_what_is_attached_to_an_index_and_to_its_members_goes_too(
    transports: Transports, other: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    save(transports, tmp_path / "out", form, "both:1")
    load(other, tmp_path / "out")
    store = other.storage.store
    assert found(other, "both:1") == OF_IMAGE | {OF_INDEX.raw.digest}
    assert [each.digest for each in store.referrers(ARM.raw.digest)] == [OF_ARM.raw.digest]


@pytest.mark.parametrize("form", OCI)
def test_what_is_attached_is_left_in_the_file_unless_it_is_wanted(
    transports: Transports, other: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    save(transports, tmp_path / "out", form, "app:1")
    results = load(other, tmp_path / "out", with_referrers=False)
    assert [type(result) for result in results] == [Loaded], "none of it is taken for an image"
    assert [record.name.familiar for record in other.storage.store.names()] == ["app:1"]
    assert found(other, "app:1") == set()


def test_an_archive_comes_through_a_pipe_with_all_of_it(
    transports: Transports, other: Transports, tmp_path: Path
) -> None:
    save(transports, tmp_path / "out", "oci-archive", "app:1", "both:1")
    load(other, io.BytesIO((tmp_path / "out").read_bytes()))
    assert found(other, "app:1") == OF_IMAGE
    assert found(other, "both:1") == OF_IMAGE | {OF_INDEX.raw.digest}


def test_saving_twice_gives_the_same_bytes(transports: Transports, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(transports, tmp_path / name, "oci-archive", "app:1", "both:1")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_index_json_tells_what_is_attached_as_other_tools_expect_it(
    transports: Transports, tmp_path: Path
) -> None:
    save(transports, tmp_path / "out", "oci-dir", "app:1")
    entries = json.loads((tmp_path / "out/index.json").read_bytes())["manifests"]
    told = {
        entry["digest"]: (
            entry.get("artifactType"),
            entry.get("annotations", {}).get("org.opencontainers.image.ref.name"),
        )
        for entry in entries
    }
    assert told == {
        str(IMAGE.raw.digest): (None, "docker.io/library/app:1"),
        str(SBOM.raw.digest): ("application/spdx+json", None),
        str(OF_SBOM.raw.digest): ("x/signature", None),
        str(SIGNED.raw.digest): (None, SIG),
    }


@pytest.mark.parametrize("form", DOCKER)
def test_a_format_without_room_is_refused_before_anything_is_written(
    transports: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(UnsupportedError, match="no room for what is attached") as raised:
        save(transports, tmp_path / "place/out", form, "app:1")
    assert "oci-archive" in str(raised.value.hint)
    assert listing(tmp_path / "place") == []


@pytest.mark.parametrize("form", DOCKER)
def test_a_format_without_attachments_is_refused_before_anything_is_loaded(
    transports: Transports, other: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    put_image(transports.storage.store, random_image(3), "third:1")
    names = ["app:1", "third:1"] if form == "docker-archive" else ["app:1"]
    save_images(
        transports.storage.store, transports, names, str(tmp_path / "out"), SaveOptions(format=form)
    )
    with pytest.raises(UnsupportedError, match="nothing can be attached"):
        load(other, tmp_path / "out")
    assert other.storage.store.images() == []


@pytest.mark.parametrize("form", OCI)
def test_a_digest_that_would_change_is_refused_and_nothing_is_left(
    transports: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(UnsupportedError, match="digest is to be preserved"):
        save(transports, tmp_path / "place/out", form, "app:1", compression="zstd")
    assert listing(tmp_path / "place") == []


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A layout in which only an index under a tag tells of what refers to the image."""
    listed = [SBOM, random_artifact(7, subject=ARM.raw.descriptor)]  # one is out of place
    tag = f"sha256-{IMAGE.raw.digest.hex}"
    write_oci_layout(tmp_path / "layout", {"app": IMAGE, tag: (index_of(listed), listed)})
    return tmp_path / "layout"


def test_referrers_that_only_an_index_lists_are_loaded_with_their_image(
    other: Transports, listed: Path
) -> None:
    (result,) = load(other, listed)
    assert isinstance(result, Loaded)
    assert found(other, "app") == found(other, f"oci:{listed}") == {SBOM.raw.digest}


def test_referrers_that_only_an_index_lists_are_no_images_and_go_with_theirs(
    other: Transports, listed: Path
) -> None:
    (result,) = load(other, listed, with_referrers=False)
    assert isinstance(result, Loaded)
    other.parse(f"oci:{listed}").delete()
    assert listing(listed / "blobs/sha256") == []


def test_an_artifact_of_nothing_is_still_told_of(other: Transports, tmp_path: Path) -> None:
    alone = random_artifact(9, subject=random_image(9).raw.descriptor)
    write_oci_layout(tmp_path / "layout", {"app": IMAGE, "alone": alone, "sbom": SBOM})
    results = load(other, tmp_path / "layout")
    assert [type(result) for result in results] == [Loaded, NotLoaded]
    assert found(other, "app") == {SBOM.raw.digest}


def test_an_image_that_refers_to_another_is_loaded_as_the_image_it_is(
    other: Transports, tmp_path: Path
) -> None:
    derived = random_image(8, subject=IMAGE.raw.descriptor)
    write_oci_layout(tmp_path / "layout", {"base": IMAGE, "derived": derived})
    load(other, tmp_path / "layout")
    assert {image.id for image in other.storage.store.images()} == {IMAGE.id, derived.id}


def test_a_tagged_attachment_of_an_image_without_a_name_is_not_lost_without_a_word(
    transports: Transports, other: Transports, tmp_path: Path
) -> None:
    save(transports, tmp_path / "out", "oci-archive", IMAGE.id)
    with pytest.raises(UnsupportedError, match="cannot be kept with an image without a name"):
        load(other, tmp_path / "out")


def test_an_attachment_that_is_missing_does_not_make_an_index_one_of_its_images(
    transports: Transports, other: Transports, tmp_path: Path
) -> None:
    place = tmp_path / "layout"
    save(transports, place, "oci-dir", "both:1")
    layer = OF_ARM.layers[0].digest
    (place / "blobs" / layer.algorithm / layer.hex).unlink()
    store = other.storage.store
    with pytest.raises(BlobNotFoundError, match=str(layer)):
        list(load_images(store, other, place, LoadOptions(with_referrers=True)))
    record = store.find_name("both:1")
    assert record is not None
    assert record.target == BOTH.digest
