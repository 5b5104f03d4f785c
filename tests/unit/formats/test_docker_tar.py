"""What is read out of archives of every generation of ``docker save``."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import (
    AmbiguousNameError,
    DigestMismatchError,
    ImageNotFoundError,
    IntegrityError,
    InvalidManifestError,
    KstoreError,
    UnsupportedError,
)
from kstore.formats.archive import open_archive
from kstore.formats.docker_image import ArchivedImage, OpenedImage, open_image
from kstore.formats.docker_tar import choose_image, list_images
from kstore.manifest import ImageConfig, parse_image
from kstore.reference import Named
from tests.support.dockertars import (
    Files,
    Link,
    dump,
    legacy_docker,
    middle_docker,
    modern_docker,
    tar_of,
)
from tests.support.images import TestImage, compress, random_image

ONE = random_image(1, compression="none")
TWO = random_image(2, compression="none", layers=3)
FORMS: dict[str, Callable[[dict[str, TestImage]], Files]] = {
    "modern": modern_docker,
    "middle": middle_docker,
    "legacy": legacy_docker,
}


def listed(files: Files) -> tuple[ArchivedImage, ...]:
    with open_archive(io.BytesIO(tar_of(files)), spool_dir=Path("/tmp"), what="it") as archive:
        return list_images(archive)


def opened(files: Files, position: int = 0) -> tuple[OpenedImage, dict[Digest, bytes]]:
    """The manifest of an image, and the bytes of its blobs."""
    with open_archive(io.BytesIO(tar_of(files)), spool_dir=Path("/tmp"), what="it") as archive:
        image = open_image(archive, list_images(archive)[position])
        blobs = {
            digest: archive.read(content, 1 << 20) if isinstance(content, str) else content
            for digest, content in image.contents.items()
        }
    return image, blobs


def check_whole(image: OpenedImage, blobs: dict[Digest, bytes]) -> ImageConfig:
    """Every blob is there, and is what the manifest says; the layers are the config's."""
    manifest = parse_image(image.raw)
    assert set(blobs) == {blob.digest for blob in manifest.blobs}
    for blob in manifest.blobs:
        assert Digest.of(blobs[blob.digest]) == blob.digest
        assert len(blobs[blob.digest]) == blob.size
    config = ImageConfig.parse(blobs[manifest.config.digest])
    assert len(config.diff_ids) == len(manifest.layers)
    return config


def changed(files: Files, name: str, change: Callable[[Any], None]) -> Files:
    content = files[name]
    assert isinstance(content, bytes)
    document = json.loads(content)
    change(document)
    return {**files, name: dump(document)}


def edited(files: Files, key: str, value: object) -> Files:
    """The files with another ``key`` of the first image in manifest.json."""

    def change(document: Any) -> None:
        document[0][key] = value

    return changed(files, "manifest.json", change)


@pytest.mark.parametrize("form", FORMS)
def test_every_generation_gives_every_image_and_layer(form: str) -> None:
    files = FORMS[form]({"one:1 again:2": ONE, "two:1": TWO})
    one, two = listed(files)
    assert [str(named) for named in one.names] == [
        "docker.io/library/one:1",
        "docker.io/library/again:2",
    ]
    assert [str(named) for named in two.names] == ["docker.io/library/two:1"]
    for position, wanted in enumerate((ONE, TWO)):
        image, blobs = opened(files, position)
        config = check_whole(image, blobs)
        assert config.diff_ids == ImageConfig.parse(wanted.config).diff_ids
        assert [layer.digest for layer in parse_image(image.raw).layers] == list(config.diff_ids)
        assert config.run.cmd == ("/bin/sh",)


@pytest.mark.parametrize("form", ["middle", "legacy"])
def test_a_made_manifest_is_docker_schema_2_and_the_same_each_time(form: str) -> None:
    files = FORMS[form]({"two:1": TWO})
    image, _ = opened(files)
    again, _ = opened(dict(reversed(files.items())))
    assert image.raw == again.raw
    assert image.raw.media_type == mt.DOCKER_MANIFEST
    manifest = parse_image(image.raw)
    assert manifest.config.media_type == mt.DOCKER_CONFIG
    assert {layer.media_type for layer in manifest.layers} == {mt.DOCKER_LAYER_TAR}


@pytest.mark.parametrize("form", ["modern", "middle"])
def test_the_config_is_the_archives_own(form: str) -> None:
    image, blobs = opened(FORMS[form]({"one:1": ONE}))
    assert blobs[parse_image(image.raw).config.digest] == ONE.config


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_manifest_beside_the_list_is_served_byte_for_byte(compression: str) -> None:
    wanted = random_image(5, compression=compression)
    image, blobs = opened(modern_docker({"one:1": ONE, "five:1": wanted}), 1)
    assert image.raw == wanted.raw
    assert blobs == dict(wanted.blobs)


def test_of_two_manifests_of_one_config_the_named_one_is_served() -> None:
    docker, oci = random_image(7, docker=True), random_image(7)
    assert docker.config == oci.config
    files = modern_docker({"docker:1": docker, "oci:1": oci})
    assert opened(files, 0)[0].raw == docker.raw
    assert opened(files, 1)[0].raw == oci.raw


def test_a_manifest_inside_a_nested_index_is_found_although_members_are_missing() -> None:
    def nest(index: Any) -> None:
        gone = {**index["manifests"][0], "digest": str(TWO.raw.digest)}
        inner = dump(
            {
                "schemaVersion": 2,
                "mediaType": mt.OCI_INDEX,
                "manifests": [gone, *index["manifests"]],
            }
        )
        files[f"blobs/sha256/{Digest.of(inner).hex}"] = inner
        digest = {"digest": str(Digest.of(inner)), "size": len(inner)}
        index["manifests"] = [{"mediaType": mt.OCI_INDEX, **digest}]

    files = modern_docker({"one:1": ONE})
    nested = changed(files, "index.json", nest)
    assert opened({**files, "index.json": nested["index.json"]})[0].raw == ONE.raw


def test_a_manifest_beside_that_shows_other_files_is_left_alone() -> None:
    files = modern_docker({"one:1": ONE})
    layers = [f"blobs/sha256/{layer.digest.hex}" for layer in ONE.layers]
    moved: Files = {**files, "elsewhere": files[layers[0]]}
    image, _ = opened(edited(moved, "Layers", ["elsewhere", layers[1]]))
    assert image.raw.media_type == mt.DOCKER_MANIFEST


def test_a_changed_manifest_beside_the_list_is_refused() -> None:
    files = modern_docker({"one:1": ONE})
    files[f"blobs/sha256/{ONE.raw.digest.hex}"] = ONE.raw.data + b" "
    with pytest.raises(DigestMismatchError):
        opened(files)


@pytest.mark.parametrize(
    ("compression", "manifest_type", "layer_type"),
    [
        ("gzip", mt.DOCKER_MANIFEST, mt.DOCKER_LAYER),
        ("zstd", mt.OCI_MANIFEST, mt.OCI_LAYER_ZSTD),
    ],
)
def test_compressed_layers_are_kept_as_they_are(
    compression: str, manifest_type: str, layer_type: str
) -> None:
    files = middle_docker({"one:1": ONE})
    packed = {
        name: compress(content, compression)
        if name.endswith("layer.tar") and isinstance(content, bytes)
        else content
        for name, content in files.items()
    }
    image, blobs = opened(packed)
    manifest = parse_image(image.raw)
    assert image.raw.media_type == manifest_type
    assert {layer.media_type for layer in manifest.layers} == {layer_type}
    assert check_whole(image, blobs).diff_ids == ImageConfig.parse(ONE.config).diff_ids


def test_layers_that_are_links_and_layers_listed_twice_are_one_file() -> None:
    files = middle_docker({"one:1": ONE, "same:1": ONE})
    files["linked.tar"] = Link(json.loads(files["manifest.json"])[0]["Layers"][0], hard=True)  # type: ignore[arg-type]
    layers = json.loads(files["manifest.json"])[0]["Layers"]  # type: ignore[arg-type]
    image, blobs = opened(edited(files, "Layers", ["./linked.tar", layers[1]]))
    check_whole(image, blobs)
    assert [layer.digest for layer in parse_image(image.raw).layers] == [
        layer.digest for layer in ONE.layers
    ]


@pytest.mark.parametrize("tags", [None, []])
def test_an_image_without_tags_has_no_names(tags: object) -> None:
    (image,) = listed(edited(middle_docker({"one:1": ONE}), "RepoTags", tags))
    assert image.names == ()


def test_tags_that_are_no_names_are_left_out() -> None:
    tags = ["<none>:<none>", "good:1", "Bad Name", "good:1", "bare"]
    (image,) = listed(edited(middle_docker({"one:1": ONE}), "RepoTags", tags))
    assert [named.familiar for named in image.names] == ["good:1", "bare:latest"]


def test_untagged_legacy_images_are_those_that_are_nobodys_parent() -> None:
    files = legacy_docker({"one:1": ONE, "": TWO})
    assert [bool(image.names) for image in listed(files)] == [True, False]
    del files["repositories"]
    one, two = listed(files)
    assert (len(one.layers), len(two.layers)) == (2, 3)


def test_a_legacy_tag_may_be_on_another_images_parent() -> None:
    files = legacy_docker({"two:1": TWO})
    folders = [name.removesuffix("/json") for name in files if name.endswith("/json")]
    files["repositories"] = dump({"two": {"1": folders[2]}, "base": {"1": folders[0]}})
    two, base = listed(files)
    assert (len(two.layers), len(base.layers)) == (3, 1)
    image, blobs = opened(files, 1)
    check_whole(image, blobs)


def test_a_legacy_config_has_the_history_and_no_layer_ids() -> None:
    image, blobs = opened(legacy_docker({"one:1": ONE}))
    data = blobs[parse_image(image.raw).config.digest]
    config, document = ImageConfig.parse(data), json.loads(data)
    assert [entry.created_by for entry in config.history] == [
        "/bin/sh -c step 0",
        "/bin/sh -c step 1",
    ]
    assert (config.platform.os, config.platform.architecture) == ("linux", "amd64")
    assert config.docker_version == "1.5.0"
    assert not {"id", "parent", "Size"} & document.keys()
    assert document["created"] == "2014-01-02T00:00:00Z"


def bad_archives() -> Iterator[tuple[str, Files, type[KstoreError], str]]:
    middle = middle_docker({"one:1": ONE})
    layers = json.loads(middle["manifest.json"])[0]["Layers"]  # type: ignore[arg-type]
    config = f"{ONE.id}.json"
    bad = InvalidManifestError
    yield "not docker", {"a": b""}, IntegrityError, "is not a docker archive"
    yield "no list", {**middle, "manifest.json": b"{}"}, bad, "is not a list of images"
    yield "no JSON", {**middle, "manifest.json": b"[{"}, bad, "manifest.json in it is not valid"
    yield "no object", {**middle, "manifest.json": b"[1]"}, bad, "image 0 of manifest.json in it"
    huge = {**middle, "manifest.json": b"[" + b" " * (2 << 20) + b"]"}
    yield "2 MiB of list", huge, IntegrityError, "'manifest.json' in it is larger than the limit"
    deep = {**middle, "manifest.json": b"[" * 1000 + b"]" * 1000}
    yield "deep list", deep, bad, "nested deeper"
    yield "no config", edited(middle, "Config", None), bad, "names no config"
    yield "bad layers", edited(middle, "Layers", "a"), bad, "Layers that are not a list of texts"
    yield "bad tags", edited(middle, "RepoTags", [1]), bad, "RepoTags that are not a list"
    yield "other config", edited(middle, "Config", "x.json"), bad, "names 'x.json', which is not in"
    yield "outside", edited(middle, "Config", "../../etc/passwd"), bad, "'../../etc/passwd', which"
    yield "absolute", edited(middle, "Layers", ["/etc/passwd"] * 2), bad, "'/etc/passwd', which"
    yield "fewer layers", edited(middle, "Layers", layers[:1]), bad, "speaks of 2 layers where .* 1"
    one_file = edited(middle, "Layers", [layers[0], layers[0]])
    yield "two digests for one file", one_file, bad, "two digests, sha256:.* and sha256:"
    yield "missing", {n: c for n, c in middle.items() if n != layers[1]}, bad, "is incomplete"
    circle: Files = {**middle, layers[0]: Link("../circle"), "circle": Link(layers[0])}
    yield "circle", circle, IntegrityError, "leads in a circle"
    yield "config no JSON", {**middle, config: b"xx"}, bad, f"config '{config}' in it"
    packed = {**middle, layers[0]: b"BZh91AY&SY"}
    yield "bzip2 layer", packed, UnsupportedError, "compressed with bzip2"
    other = {**middle, layers[0]: compress(b"other", "gzip")}
    yield "packed other layer", other, DigestMismatchError, "unpacks to sha256:"
    cut = {**middle, layers[0]: compress(b"other", "gzip")[:-3]}
    yield "packed cut layer", cut, IntegrityError, "gzip data ends early"
    more = {**middle, layers[0]: compress(b"other", "gzip") + b"x"}
    yield "packed layer with more", more, IntegrityError, "layer '.*layer.tar' in it: "
    yield from bad_legacy_archives()


def bad_legacy_archives() -> Iterator[tuple[str, Files, type[KstoreError], str]]:
    bad = InvalidManifestError
    legacy = legacy_docker({"two:1": TWO})
    names = [name for name in legacy if name.endswith("/json")]
    first, top = names[0], names[-1].removesuffix("/json")

    def parent(value: object) -> Files:
        return changed(legacy, first, lambda document: document.update(parent=value))

    yield "parents in a circle", parent(top), bad, "go in a circle"
    yield "missing parent", parent("f" * 64), bad, "which is not in it"
    yield "parent elsewhere", parent("../../x"), bad, "which is not in it"
    yield "strange parent", parent(7), bad, "a parent that is not text"
    unknown = {**legacy, "repositories": dump({"a": {"b": "c"}})}
    yield "tag for nothing", unknown, bad, "gives the tag 'a:b' to 'c', which is not in it"
    strange = {**legacy, "repositories": dump({"a": {"b": 7}})}
    yield "strange tag", strange, bad, "names no layer"
    layer = names[1].replace("json", "layer.tar")
    yield "missing layer", {n: c for n, c in legacy.items() if n != layer}, bad, "incomplete"


BAD = {name: rest for name, *rest in bad_archives()}


@pytest.mark.parametrize("name", BAD)
def test_an_archive_that_contradicts_itself_is_refused_by_its_name(name: str) -> None:
    files, kind, message = BAD[name]
    with pytest.raises(kind, match=message) as caught:
        opened(files)  # type: ignore[arg-type]
    assert "it" in str(caught.value).replace("'", " ").replace(":", " ").split()


def test_a_wrong_plain_layer_is_announced_with_the_digest_the_config_gives() -> None:
    """So that whoever reads it finds that its bytes are others."""
    files = middle_docker({"one:1": ONE})
    layer = next(name for name in files if name.endswith("layer.tar"))
    files[layer] = b"other"
    image, blobs = opened(files)
    announced = parse_image(image.raw).layers[0]
    assert announced.digest == ONE.layers[0].digest
    assert Digest.of(blobs[announced.digest]) != announced.digest


def test_images_are_chosen_by_name_place_or_being_alone() -> None:
    one, two = images = listed(middle_docker({"one:1 x:1": ONE, "two:1": TWO}))
    assert choose_image(images, "it", Named.parse("x:1"), None) is one
    assert choose_image(images, "it", None, 1) is two
    assert choose_image(images[1:], "it", None, None) is two
    with pytest.raises(AmbiguousNameError, match=r"it has 2 images .* @0 \(one:1\), @1 \(two:1\)"):
        choose_image(images, "it", None, None)
    with pytest.raises(
        ImageNotFoundError, match="it has no image docker.io/library/y:1; it has @0"
    ):
        choose_image(images, "it", Named.parse("y:1"), None)
    with pytest.raises(ImageNotFoundError, match="it has no image @2"):
        choose_image(images, "it", None, 2)
    with pytest.raises(ImageNotFoundError, match="it has no image; it is empty"):
        choose_image((), "it", None, None)


def test_a_name_that_two_images_claim_is_ambiguous() -> None:
    images = listed(middle_docker({"one:1": ONE, "one:1 two:1": TWO}))
    with pytest.raises(AmbiguousNameError, match="2 images called docker.io/library/one:1"):
        choose_image(images, "it", Named.parse("one:1"), None)


def test_a_long_list_of_images_is_cut_in_messages() -> None:
    images = listed(middle_docker({f"i{n}:1": random_image(n) for n in range(15)}))
    with pytest.raises(AmbiguousNameError, match=r"@9 \(i9:1\) and 5 more"):
        choose_image(images, "it", None, None)
