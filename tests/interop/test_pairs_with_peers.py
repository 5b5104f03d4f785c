"""Images of real size go to other tools, and come back from them, in every form both sides know.

The image ID is the same always; the manifest too, where the form has a place for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.compression import decompressor, detect
from kstore.copier import CopyOptions, copy_image
from kstore.interfaces import ImageReference
from kstore.platforms import Platform
from kstore.registry import RegistryClient
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.streams import Cancel, pump
from kstore.transports import Transports, TransportSettings
from tests.support.bigimages import Built, build
from tests.support.buildah import Buildah
from tests.support.podman import Podman
from tests.support.programs import require_program

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]

NAME = "localhost/team/app:1"
FORMS = ("oci", "oci-archive", "dir", "docker-archive")
BIG = pytest.param("python-app", marks=pytest.mark.slow)
#: For tools that unpack layers into a storage, and compress them again.
UNPACKED = ("sixty-layers", pytest.param("debian", marks=pytest.mark.slow), BIG)


@pytest.fixture(scope="module")
def made() -> Iterator[dict[str, Built]]:
    """The images that were made already, for all tests of this module."""
    with tempfile.TemporaryDirectory(prefix="ks-") as place:
        yield _Making(Path(place))


class _Making(dict[str, Built]):
    def __init__(self, place: Path) -> None:
        super().__init__()
        self._place = place

    def __missing__(self, name: str) -> Built:
        (self._place / name).mkdir()
        self[name] = build(name, self._place / name)
        return self[name]


@pytest.fixture
def built(made: dict[str, Built], image: str) -> Built:
    return made[image]


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder for big files, gone after the test; buildah makes a repository's name of it."""
    while True:
        with tempfile.TemporaryDirectory(prefix="ks-") as place:
            if place.rpartition("-")[2].isalnum():  # "-_" cannot be in that name
                yield Path(place)
                return


def written(form: str, path: Path, name: str = NAME) -> str:
    """How an image at ``path`` is called, by kstore and by the other tools."""
    return f"{form}:{path}" if form == "dir" else f"{form}:{path}:{name}"


ALL = CopyOptions(instances="all")


def kstore_copy(source: str, target: str, options: CopyOptions = ALL) -> None:
    """``kstore copy --all``, in this process."""

    def none(*_: object) -> Store | RegistryClient:
        raise AssertionError("neither a store nor a registry is needed")

    with Transports(TransportSettings(none, none, Cancel())) as transports:  # type: ignore[arg-type]
        ends: list[ImageReference] = [transports.parse(text) for text in (source, target)]
        copy_image(*ends, AcceptAnything(), options)


def original(built: Built) -> str:
    return f"oci:{built.layout}:latest"


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [require_program(program), *arguments], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, f"{program} {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def skopeo_copy(source: str, target: str, *options: str) -> None:
    run("skopeo", "--insecure-policy", "copy", "-q", *options, source, target)


def plain_digests(directory: Path, manifest: dict) -> list[str]:
    """The layers of a ``dir:`` image, unpacked."""
    found = []
    for layer in manifest["layers"]:
        with (directory / layer["digest"].removeprefix("sha256:")).open("rb") as file:
            kind = detect(file.read(6))
            file.seek(0)
            hasher = hashlib.sha256()
            pump(decompressor(kind, file, max_output=1 << 31), hasher.update)
        found.append(f"sha256:{hasher.hexdigest()}")
    return found


def check(directory: Path, built: Built, *, same_manifest: bool) -> None:
    """A ``dir:`` image is the one that was built, down to the bytes of its layers."""
    raw = (directory / "manifest.json").read_bytes()
    if same_manifest:
        assert raw == built.manifest
    manifest = json.loads(raw)
    if "manifests" in manifest:
        for member in manifest["manifests"]:
            name = member["digest"].removeprefix("sha256:")
            data = (directory / f"{name}.manifest.json").read_bytes()
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == member["digest"]
            check_layers(directory, json.loads(data))
        return
    assert manifest["config"]["digest"] == f"sha256:{built.image_id}"
    check_layers(directory, manifest)


def check_layers(directory: Path, manifest: dict) -> None:
    config = (directory / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(config).hexdigest()}" == manifest["config"]["digest"]
    assert plain_digests(directory, manifest) == json.loads(config)["rootfs"]["diff_ids"]


# --- skopeo -------------------------------------------------------------------------------------

PAIRS = [
    pytest.param(form, image, marks=[pytest.mark.slow] if image == "python-app" else [])
    for form in FORMS
    for image in ("debian", "sixty-layers", "python-app", "two-platforms")
    if (form, image) != ("docker-archive", "two-platforms")  # one platform is all it holds
]


@pytest.mark.parametrize(("form", "image"), PAIRS)
def test_skopeo_reads_what_kstore_writes(room: Path, built: Built, form: str) -> None:
    place, read = written(form, room / "ours"), room / "read"
    kstore_copy(original(built), place)
    skopeo_copy(place, f"dir:{read}", "--all")
    # skopeo does not look at the OCI layout inside a docker archive
    check(read, built, same_manifest=form != "docker-archive")


@pytest.mark.parametrize(("form", "image"), PAIRS)
def test_kstore_reads_what_skopeo_writes(room: Path, built: Built, form: str) -> None:
    place, read = written(form, room / "theirs"), room / "read"
    skopeo_copy(original(built), place, "--all")
    kstore_copy(place, f"dir:{read}")
    check(read, built, same_manifest=form != "docker-archive")


# --- podman and buildah: a storage that unpacks layers ------------------------------------------


@pytest.mark.parametrize("image", UNPACKED)
@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_podman_loads_what_kstore_writes_and_kstore_reads_what_it_saves(
    room: Path, built: Built, form: str
) -> None:
    kstore_copy(original(built), written(form, room / "ours"))
    with Podman(room / "podman") as podman:
        podman.run("load", "-q", "-i", str(room / "ours"))
        assert podman.run("image", "inspect", "--format", "{{.Id}}", NAME).strip() == built.image_id
        podman.run("save", "-q", "--format", form, "-o", str(room / "theirs"), NAME)
    kstore_copy(written(form, room / "theirs"), f"dir:{room / 'read'}")
    check(room / "read", built, same_manifest=False)


@pytest.mark.parametrize("image", UNPACKED)
@pytest.mark.parametrize("form", FORMS)
def test_buildah_pulls_what_kstore_writes_and_kstore_reads_what_it_pushes(
    room: Path, built: Built, form: str
) -> None:
    kstore_copy(original(built), written(form, room / "ours"))
    with Buildah(room / "buildah") as buildah:
        pulled = buildah.run("pull", "-q", written(form, room / "ours")).split()[-1]
        assert pulled == built.image_id
        buildah.run("push", "-q", pulled, written(form, room / "theirs"))
    kstore_copy(written(form, room / "theirs"), f"dir:{room / 'read'}")
    check(room / "read", built, same_manifest=False)


#: Podman's words for the forms that are directories.
DIRECTORIES = {"oci": "oci-dir", "dir": "docker-dir"}


@pytest.mark.parametrize("image", UNPACKED)
@pytest.mark.parametrize("form", DIRECTORIES)
def test_podman_loads_directories_of_kstore_and_kstore_reads_those_it_saves(
    room: Path, built: Built, form: str
) -> None:
    kstore_copy(original(built), written(form, room / "ours"))
    with Podman(room / "podman") as podman:
        podman.run("load", "-q", "-i", str(room / "ours"))
        (loaded,) = podman.run("images", "-q", "--no-trunc").split()
        assert loaded == f"sha256:{built.image_id}"
        podman.run("save", "-q", "--format", DIRECTORIES[form], "-o", str(room / "theirs"), loaded)
    source = f"{form}:{room / 'theirs'}"  # without a name: it was saved by its ID
    kstore_copy(source, f"dir:{room / 'read'}")
    check(room / "read", built, same_manifest=False)


# --- indexes: this machine's image, and the whole of it -----------------------------------------

HOLDERS = [form for form in FORMS if form != "docker-archive"]
LIST = "localhost/list:1"


def check_members(place: str, room: Path, built: Built) -> None:
    """An index of another tool's making has the members of ours, byte for byte."""
    kstore_copy(place, f"dir:{room / 'read'}")
    check(room / "read", built, same_manifest=False)
    members = [
        {member["digest"] for member in json.loads(raw)["manifests"]}
        for raw in ((room / "read" / "manifest.json").read_bytes(), built.manifest)
    ]
    assert members[0] == members[1]


@pytest.mark.parametrize("image", ["two-platforms"])
@pytest.mark.parametrize("form", HOLDERS)
def test_podman_takes_an_index_of_kstore_in_part_and_whole_and_gives_it_back(
    room: Path, built: Built, form: str
) -> None:
    place = written(form, room / "ours")
    kstore_copy(original(built), place)
    with Podman(room / "podman") as podman:
        assert podman.run("pull", "-q", place).strip() == built.image_id
        podman.run("manifest", "create", "--all", LIST, place)
        podman.run("manifest", "push", "--all", LIST, written(form, room / "theirs"))
    check_members(written(form, room / "theirs"), room, built)


@pytest.mark.parametrize("image", ["two-platforms"])
@pytest.mark.parametrize("form", HOLDERS)
def test_buildah_takes_an_index_of_kstore_in_part_and_whole_and_gives_it_back(
    room: Path, built: Built, form: str
) -> None:
    place = written(form, room / "ours")
    kstore_copy(original(built), place)
    with Buildah(room / "buildah") as buildah:
        assert buildah.run("pull", "-q", place).split()[-1] == built.image_id
        buildah.run("manifest", "create", "--all", LIST, place)
        buildah.run("manifest", "push", "--all", LIST, written(form, room / "theirs"))
    check_members(written(form, room / "theirs"), room, built)


# --- umoci: one layout, two tools ---------------------------------------------------------------


@pytest.mark.parametrize("image", ["debian", "sixty-layers", BIG])
def test_umoci_unpacks_and_tags_what_kstore_writes_and_kstore_reads_it_back(
    room: Path, built: Built
) -> None:
    layout = room / "layout"
    kstore_copy(original(built), f"oci:{layout}:ours")
    shown = json.loads(run("umoci", "stat", "--image", f"{layout}:ours", "--json"))
    steps = [step for step in shown["history"] if not step.get("empty_layer")]
    assert len(steps) == len(built.blobs) - 1
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    run("umoci", "unpack", *rootless, "--image", f"{layout}:ours", str(room / "bundle"))
    assert any((room / "bundle" / "rootfs").iterdir())
    run("umoci", "tag", "--image", f"{layout}:ours", "theirs")
    kstore_copy(f"oci:{layout}:theirs", f"dir:{room / 'read'}")
    check(room / "read", built, same_manifest=True)


@pytest.mark.parametrize("image", ["two-platforms"])
def test_umoci_keeps_an_index_of_kstore_and_unpacks_its_images_by_tags_of_their_own(
    room: Path, built: Built
) -> None:
    layout, rootless = room / "layout", () if os.geteuid() == 0 else ("--rootless",)
    kstore_copy(original(built), f"oci:{layout}:all")
    refused = subprocess.run(
        [require_program("umoci"), "stat", "--image", f"{layout}:all"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode != 0  # it would not choose among several images
    assert "ambiguous" in refused.stdout + refused.stderr
    for arch in ("amd64", "arm64"):
        one = CopyOptions(platform=Platform("linux", arch))
        kstore_copy(f"oci:{layout}:all", f"oci:{layout}:{arch}", one)
        run("umoci", "unpack", *rootless, "--image", f"{layout}:{arch}", str(room / arch))
        assert any((room / arch / "rootfs").iterdir())
    assert run("umoci", "list", "--layout", str(layout)).split() == ["all", "amd64", "arm64"]
    run("umoci", "tag", "--image", f"{layout}:arm64", "theirs")
    for gone in ("amd64", "arm64", "theirs"):
        run("umoci", "rm", "--image", f"{layout}:{gone}")
    run("umoci", "gc", "--layout", str(layout))
    kstore_copy(f"oci:{layout}:all", f"dir:{room / 'read'}")
    check(room / "read", built, same_manifest=True)


def test_what_umoci_changes_is_read_and_what_it_made_alone_too(room: Path) -> None:
    layout = room / "layout"
    run("umoci", "init", "--layout", str(layout))
    run("umoci", "new", "--image", f"{layout}:new")
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    (room / "file").write_text("text")
    run("umoci", "insert", *rootless, "--image", f"{layout}:new", str(room / "file"), "/etc/file")
    for form in FORMS:
        kstore_copy(f"oci:{layout}:new", written(form, room / form))
        kstore_copy(written(form, room / form), f"oci:{room / 'back'}:{form}")
    index = json.loads((room / "back" / "index.json").read_bytes())
    theirs = json.loads((layout / "index.json").read_bytes())["manifests"]
    assert {entry["digest"] for entry in index["manifests"]} == {theirs[0]["digest"]}
