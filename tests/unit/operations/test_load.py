"""Loading: every format, every name, and what becomes of names that meant something else."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from kstore.errors import (
    BlobNotFoundError,
    ConflictError,
    ImageNotFoundError,
    IntegrityError,
    InvalidManifestError,
    KstoreError,
    NotFoundError,
    UnsupportedError,
)
from kstore.operations.load import Loaded, LoadOptions, MovedName, NotLoaded, load_images
from kstore.operations.save import SaveFormat, SaveOptions, save_images
from kstore.platforms import Platform, host_platform
from kstore.store import Store
from kstore.transports import Transports
from tests.support.dockertars import (
    Files,
    legacy_docker,
    middle_docker,
    modern_docker,
    tar_of,
)
from tests.support.images import TestImage, index_of, layer_tar, random_image, write_oci_layout
from tests.support.stores import named, put_image, put_index

PLAIN = random_image(1, compression="none")
OTHER = random_image(2, compression="none")
THIRD = random_image(3)
ELSEWHERE = random_image(4, platform=Platform("linux", "s390x"))
HERE = random_image(5, platform=host_platform())


def load(
    store: Store, transports: Transports, source: object, *, clobber: bool = True
) -> list[Loaded]:
    results = list(load_images(store, transports, source, LoadOptions(clobber=clobber)))  # type: ignore[arg-type]
    assert all(isinstance(result, Loaded) for result in results), results
    return results  # type: ignore[return-value]


def as_file(tmp_path: Path, data: bytes) -> Path:
    (tmp_path / "file").write_bytes(data)
    return tmp_path / "file"


def packed(directory: Path) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as tar:
        for path in sorted(directory.rglob("*")):
            tar.add(path, str(path.relative_to(directory)), recursive=False)
    return output.getvalue()


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("version", ["2.0.0", "1", "10.0.0"])
def test_a_layout_of_another_version_is_refused_by_its_name(
    store: Store, transports: Transports, tmp_path: Path, version: str, archived: bool
) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": PLAIN})
    (layout / "oci-layout").write_text(json.dumps({"imageLayoutVersion": version}))
    source = as_file(tmp_path, packed(layout)) if archived else layout
    with pytest.raises(UnsupportedError, match=f"imageLayoutVersion '{version}'"):
        load(store, transports, source)
    assert store.images() == []


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("mark", ["", None, '{"imageLayoutVersion": "1.1.0-rc.1", "more": 1}'])
def test_a_layout_that_says_nothing_or_is_newer_within_version_1_is_loaded(
    store: Store, transports: Transports, tmp_path: Path, mark: str | None, archived: bool
) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": PLAIN})
    if mark is None:
        (layout / "oci-layout").unlink()
    else:
        (layout / "oci-layout").write_text(mark)
    assert (
        len(load(store, transports, as_file(tmp_path, packed(layout)) if archived else layout)) == 1
    )


@pytest.mark.parametrize("mark", ["[]", "{}", '{"imageLayoutVersion": 1}', "{"])
def test_a_layout_whose_mark_makes_no_sense_is_refused(
    store: Store, transports: Transports, tmp_path: Path, mark: str
) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": PLAIN})
    (layout / "oci-layout").write_text(mark)
    with pytest.raises(InvalidManifestError, match="oci-layout"):
        load(store, transports, layout)


@pytest.mark.parametrize("form", [modern_docker, middle_docker, legacy_docker])
def test_archives_of_every_docker_are_loaded_with_all_their_images_and_names(
    store: Store,
    transports: Transports,
    tmp_path: Path,
    form: Callable[[dict[str, TestImage]], Files],
) -> None:
    tar = tar_of(form({"app:1 quay.io/me/app:1": PLAIN, "app:2": OTHER}))
    loaded = load(store, transports, as_file(tmp_path, tar))
    names = [["docker.io/library/app:1", "quay.io/me/app:1"], ["docker.io/library/app:2"]]
    assert [sorted(map(str, image.names)) for image in loaded] == names
    for image in loaded:
        for name in image.names:
            assert store.find_image(str(name)).image.id == image.image_id
    if form is not legacy_docker:  # whose configs are made here
        assert [image.image_id for image in loaded] == [PLAIN.id, OTHER.id]


def test_an_archive_that_is_an_oci_layout_too_keeps_the_manifest(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    [loaded] = load(store, transports, as_file(tmp_path, tar_of(modern_docker({"a:1": PLAIN}))))
    assert loaded.manifest == PLAIN.raw.digest


@pytest.mark.parametrize("tags", ["", "app:1"])
def test_an_image_without_names_is_known_by_its_id(
    store: Store, transports: Transports, tmp_path: Path, tags: str
) -> None:
    [loaded] = load(store, transports, as_file(tmp_path, tar_of(middle_docker({tags: PLAIN}))))
    assert (loaded.image_id, len(loaded.names)) == (PLAIN.id, len(tags.split()))
    assert store.find_image(PLAIN.id).image.id == PLAIN.id


def test_an_oci_layout_is_loaded_as_a_directory_and_as_an_archive(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"quay.io/me/app:1": THIRD, "v1": OTHER, "quay.io/me/app:2": THIRD})
    for source in (layout, as_file(tmp_path, packed(layout))):
        third, other = load(store, transports, source)
        assert (third.manifest, other.manifest) == (THIRD.raw.digest, OTHER.raw.digest)
        assert [str(name) for name in third.names] == ["quay.io/me/app:1", "quay.io/me/app:2"]
        # A word alone is a name of this machine, as it is for podman.
        assert [str(name) for name in other.names] == ["localhost/v1:latest"]


def test_the_name_that_containerd_notes_counts_first(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    write_oci_layout(tmp_path / "layout", {"1.2": THIRD})
    index = tmp_path / "layout/index.json"
    document = json.loads(index.read_bytes())
    document["manifests"][0]["annotations"]["io.containerd.image.name"] = (
        "docker.io/library/app:1.2"
    )
    index.write_text(json.dumps(document))
    [loaded] = load(store, transports, tmp_path / "layout")
    assert [str(name) for name in loaded.names] == ["docker.io/library/app:1.2"]


@pytest.mark.parametrize("ref", ["Not/A/Name", f"quay.io/app@sha256:{'0' * 64}"])
def test_what_is_no_name_of_the_image_is_not_given_to_it(
    store: Store, transports: Transports, tmp_path: Path, ref: str
) -> None:
    write_oci_layout(tmp_path / "layout", {ref: THIRD})
    [loaded] = load(store, transports, tmp_path / "layout")
    assert (loaded.image_id, loaded.names) == (THIRD.id, ())


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir", "docker-dir"])
def test_what_was_saved_is_loaded_as_the_same_image(
    store: Store, transports: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    image = random_image(8, docker=form == "docker-dir")
    put_image(store, image, "app:1")
    place = tmp_path / "saved"
    save_images(store, transports, ["app:1"], str(place), SaveOptions(format=form))
    store.remove_image(image.id, force=True)
    [loaded] = load(store, transports, place)
    assert (loaded.image_id, loaded.manifest) == (image.id, image.raw.digest)
    assert [str(name) for name in loaded.names] == (
        [] if form == "docker-dir" else ["docker.io/library/app:1"]
    )


@pytest.mark.parametrize(
    "compress",
    [
        gzip.compress,
        zstandard.ZstdCompressor().compress,
        bytes,
    ],
    ids=["gzip", "zstd", "plain"],
)
def test_a_stream_is_loaded_compressed_or_not(
    store: Store, transports: Transports, compress: Callable[[bytes], bytes]
) -> None:
    reading, writing = os.pipe()
    data = compress(tar_of(middle_docker({"app:1": PLAIN})))

    def feed() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    feeder = threading.Thread(target=feed)
    feeder.start()
    with os.fdopen(reading, "rb") as stream:
        [loaded] = load(store, transports, stream)
    feeder.join(20)
    assert loaded.image_id == PLAIN.id


def test_an_index_is_loaded_whole(store: Store, transports: Transports, tmp_path: Path) -> None:
    index = index_of([HERE, ELSEWHERE])
    write_oci_layout(tmp_path / "layout", {"app:1": (index, [HERE, ELSEWHERE])})
    [loaded] = load(store, transports, tmp_path / "layout")
    assert (loaded.image_id, loaded.manifest) == (HERE.id, index.digest)
    record = store.name(named("localhost/app:1"))
    assert record is not None
    assert record.target == index.digest


def test_of_a_sparse_index_the_image_for_this_machine_is_loaded(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    index = index_of([HERE, ELSEWHERE])
    write_oci_layout(tmp_path / "layout", {"app:1": (index, [HERE])})
    [loaded] = load(store, transports, tmp_path / "layout")
    assert (loaded.image_id, loaded.manifest) == (HERE.id, HERE.raw.digest)
    record = store.name(named("localhost/app:1"))
    assert record is not None
    assert record.via == index.digest


def test_a_name_that_moves_is_told(store: Store, transports: Transports, tmp_path: Path) -> None:
    put_image(store, OTHER, "app:1")
    put_image(store, THIRD, "app:2", "app:three")
    tar = tar_of(middle_docker({"app:1 app:2 app:new": PLAIN}))
    [loaded] = load(store, transports, as_file(tmp_path, tar))
    assert sorted(loaded.moved, key=lambda move: str(move.name)) == [
        MovedName(named("app:1"), OTHER.id, nameless=True),
        MovedName(named("app:2"), THIRD.id, nameless=False),
    ]
    [again] = load(store, transports, tmp_path / "file")
    assert again.moved == ()


def test_without_clobber_a_taken_name_refuses_the_whole_archive(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    put_image(store, THIRD, "app:2")
    tar = tar_of(middle_docker({"app:1": PLAIN, "app:2": OTHER}))
    with pytest.raises(ConflictError, match=r"docker\.io/library/app:2"):
        load(store, transports, as_file(tmp_path, tar), clobber=False)
    assert [str(record.name) for record in store.names()] == ["docker.io/library/app:2"]
    assert store.find_image("app:2").image.id == THIRD.id


def test_without_clobber_an_archive_that_gives_a_name_twice_is_refused(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    files = middle_docker({"app:1": PLAIN, "app:2": OTHER})
    listed = json.loads(files["manifest.json"])  # type: ignore[arg-type]
    listed[1]["RepoTags"] = ["app:1"]
    files["manifest.json"] = json.dumps(listed).encode()
    with pytest.raises(ConflictError):
        load(store, transports, as_file(tmp_path, tar_of(files)), clobber=False)
    assert store.names() == []


def test_without_clobber_the_same_image_may_be_loaded_again(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    for form in (modern_docker, middle_docker):  # two manifests of one image
        tar = tar_of(form({"app:1": PLAIN}))
        load(store, transports, as_file(tmp_path, tar), clobber=False)
    index = index_of([HERE, ELSEWHERE])
    put_index(store, index, [HERE, ELSEWHERE], "localhost/multi:1")
    write_oci_layout(tmp_path / "layout", {"multi:1": (index, [HERE, ELSEWHERE])})
    load(store, transports, tmp_path / "layout", clobber=False)


def test_a_damaged_image_leaves_the_others_loaded(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    files = modern_docker({"app:1": PLAIN, "app:2": OTHER, "app:3": THIRD})
    name = f"blobs/sha256/{OTHER.layers[0].digest.hex}"
    data = files[name]
    assert isinstance(data, bytes)
    files[name] = data[:-1] + b"?"
    first, second, third = load_images(store, transports, as_file(tmp_path, tar_of(files)))
    assert isinstance(first, Loaded)
    assert isinstance(third, Loaded)
    assert isinstance(second, NotLoaded)
    assert isinstance(second.error, IntegrityError)
    assert [str(name) for name in second.names] == ["docker.io/library/app:2"]
    assert [record.name.tag for record in store.names()] == ["1", "3"]


def test_the_only_image_that_is_damaged_is_an_error(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    write_oci_layout(tmp_path / "layout", {"app:1": THIRD})
    (tmp_path / "layout/blobs/sha256" / THIRD.layers[0].digest.hex).unlink()
    with pytest.raises(BlobNotFoundError):
        list(load_images(store, transports, tmp_path / "layout"))
    assert store.names() == []


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        (layer_tar({"etc/motd": b"hello"}), IntegrityError, "holds no images"),
        (b"what is this?" * 100, IntegrityError, "is not a tar"),
        (b"", IntegrityError, "is empty"),
        (tar_of({"manifest.json": b"[]"}), ImageNotFoundError, "holds no image"),
        (None, NotFoundError, "no such file"),
    ],
    ids=["root file system", "noise", "nothing", "no image", "missing"],
)
def test_what_holds_no_image_is_said(
    store: Store,
    transports: Transports,
    tmp_path: Path,
    content: bytes | None,
    error: type[KstoreError],
    words: str,
) -> None:
    source = tmp_path / "file" if content is None else as_file(tmp_path, content)
    with pytest.raises(error, match=words):
        list(load_images(store, transports, source))


def test_a_directory_of_something_else_is_told_apart(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    (tmp_path / "directory/etc").mkdir(parents=True)
    with pytest.raises(IntegrityError, match="neither an OCI layout"):
        list(load_images(store, transports, tmp_path / "directory"))


def test_another_store_is_loaded_like_any_layout(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    with Store.open(tmp_path / "other") as other:
        put_image(other, THIRD, "quay.io/me/app:1")
        other.refresh_index()
    [loaded] = load(store, transports, tmp_path / "other")
    assert [str(name) for name in loaded.names] == ["quay.io/me/app:1"]
