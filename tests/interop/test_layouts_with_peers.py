"""skopeo, umoci and podman read what kstore writes, and kstore reads what they write."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.interfaces import ImageReference
from kstore.transports.dir import DirTransport
from kstore.transports.oci import OciTransport
from kstore.transports.oci_archive import OciArchiveTransport
from tests.support.images import (
    AMD64,
    ARM64,
    TestImage,
    index_of,
    random_image,
    write_oci_layout,
)
from tests.support.podman import Podman
from tests.support.sessions import get, put, put_index

pytestmark = pytest.mark.peer

IMAGES = {
    "gzip": random_image(1),
    "zstd": random_image(2, compression="zstd"),
    "many": random_image(4, layers=20, layer_size=100),
}
BOTH = [random_image(5), random_image(6, platform=ARM64)]
INDEX = index_of(BOTH)
KINDS = ["oci", "oci-archive", "dir"]

Program = Callable[[str], str]


def reference(kind: str, path: Path, ref: str) -> ImageReference:
    text = str(path) if kind == "dir" else f"{path}:{ref}"
    if kind == "oci-archive":
        return OciArchiveTransport(path.parent).parse_reference(text)
    return (OciTransport() if kind == "oci" else DirTransport()).parse_reference(text)


def named(kind: str, path: Path, ref: str) -> str:
    return f"{kind}:{path}" if kind == "dir" else f"{kind}:{path}:{ref}"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_skopeo_reads_what_kstore_writes(
    tmp_path: Path, require_program: Program, kind: str, name: str
) -> None:
    skopeo, image = require_program("skopeo"), IMAGES[name]
    put(reference(kind, tmp_path / "x", "v1"), image)
    run(skopeo, "copy", "-q", named(kind, tmp_path / "x", "v1"), f"dir:{tmp_path / 'out'}")
    assert (tmp_path / "out/manifest.json").read_bytes() == image.raw.data
    for digest, data in image.blobs.items():
        assert (tmp_path / "out" / digest.hex).read_bytes() == data


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_kstore_reads_what_skopeo_writes(
    tmp_path: Path, require_program: Program, kind: str, name: str
) -> None:
    skopeo, image = require_program("skopeo"), IMAGES[name]
    write_oci_layout(tmp_path / "in", {"v1": image})
    run(skopeo, "copy", "-q", f"oci:{tmp_path / 'in'}:v1", named(kind, tmp_path / "x", "v2"))
    got = get(reference(kind, tmp_path / "x", "v2"))
    assert got.raw == image.raw
    assert got.blobs == image.blobs


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_travels_both_ways(tmp_path: Path, require_program: Program, kind: str) -> None:
    skopeo = require_program("skopeo")
    put_index(reference(kind, tmp_path / "ours", "all"), INDEX, BOTH)
    run(
        *(skopeo, "copy", "-q", "--all", "--preserve-digests"),
        *(named(kind, tmp_path / "ours", "all"), named(kind, tmp_path / "theirs", "all")),
    )
    got = get(reference(kind, tmp_path / "theirs", "all"))
    assert got.raw == INDEX
    assert got.members == tuple(image.raw for image in BOTH)
    assert got.blobs == {**BOTH[0].blobs, **BOTH[1].blobs}


def test_skopeo_and_kstore_write_into_one_layout(tmp_path: Path, require_program: Program) -> None:
    skopeo, one, two = require_program("skopeo"), IMAGES["gzip"], IMAGES["many"]
    write_oci_layout(tmp_path / "in", {"v1": one})
    put(reference("oci", tmp_path / "x", "ours"), two)
    run(skopeo, "copy", "-q", f"oci:{tmp_path / 'in'}:v1", f"oci:{tmp_path / 'x'}:theirs")
    put(reference("oci", tmp_path / "x", "again"), one)
    wanted = {"ours": two, "theirs": one, "again": one}
    for ref, image in wanted.items():
        assert get(reference("oci", tmp_path / "x", ref)).blobs == image.blobs
        shown = run(skopeo, "inspect", "--override-arch=amd64", f"oci:{tmp_path / 'x'}:{ref}")
        assert json.loads(shown)["Digest"] == str(image.raw.digest)


def test_umoci_lists_and_unpacks_what_kstore_writes(
    tmp_path: Path, require_program: Program
) -> None:
    umoci = require_program("umoci")
    for ref, image in {"v1": IMAGES["gzip"], "v2": IMAGES["many"]}.items():
        put(reference("oci", tmp_path / "x", ref), image)
    assert run(umoci, "list", "--layout", str(tmp_path / "x")).split() == ["v1", "v2"]
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    run(umoci, "unpack", *rootless, "--image", f"{tmp_path / 'x'}:v1", str(tmp_path / "bundle"))
    assert (tmp_path / "bundle/rootfs/files/0").stat().st_size == 2000


def test_kstore_reads_and_writes_a_layout_that_umoci_made(
    tmp_path: Path, require_program: Program
) -> None:
    umoci, layout = require_program("umoci"), tmp_path / "x"
    run(umoci, "init", "--layout", str(layout))
    run(umoci, "new", "--image", f"{layout}:theirs")
    theirs = get(reference("oci", layout, "theirs"))
    put(reference("oci", layout, "ours"), IMAGES["gzip"])
    assert get(reference("oci", layout, "theirs")) == theirs
    run(umoci, "gc", "--layout", str(layout))
    assert get(reference("oci", layout, "ours")).blobs == IMAGES["gzip"].blobs
    reference("oci", layout, "ours").delete()
    assert run(umoci, "list", "--layout", str(layout)).split() == ["theirs"]
    assert get(reference("oci", layout, "theirs")) == theirs


def own_image(seed: int) -> TestImage:
    """An image podman will unpack, of this machine's kind as podman sees it."""
    return random_image(seed, platform=AMD64)


def test_podman_loads_an_archive_of_kstore_and_kstore_reads_what_podman_saves(
    tmp_path: Path, require_program: Program
) -> None:
    require_program("podman")
    image = own_image(7)
    put(reference("oci-archive", tmp_path / "ours.tar", "localhost/app:1"), image)
    with Podman(tmp_path / "podman") as podman:
        podman.run("load", "-i", str(tmp_path / "ours.tar"))
        shown = json.loads(podman.run("image", "inspect", "localhost/app:1"))
        assert shown[0]["Id"] == image.id
        for kind, form in [
            ("oci-archive", "oci-archive"),
            ("oci", "oci-dir"),
            ("dir", "docker-dir"),
        ]:
            target = tmp_path / f"saved-{kind}"
            podman.run("save", "-q", "--format", form, "-o", str(target), "localhost/app:1")
            got = get(reference(kind, target, "localhost/app:1"))
            if kind != "dir":  # docker-dir converts the manifest
                assert image.id in {digest.hex for digest in got.blobs}
            assert len(got.blobs) == 3


def test_the_tar_program_and_kstore_agree_on_an_archive(
    tmp_path: Path, require_program: Program
) -> None:
    tar, image = require_program("tar"), IMAGES["gzip"]
    put(reference("oci-archive", tmp_path / "ours.tar", "v1"), image)
    (tmp_path / "layout").mkdir()
    run(tar, "-C", str(tmp_path / "layout"), "-xf", str(tmp_path / "ours.tar"))
    assert get(reference("oci", tmp_path / "layout", "v1")).blobs == image.blobs
    run(tar, "-C", str(tmp_path / "layout"), "-czf", str(tmp_path / "theirs.tar"), ".")
    assert get(reference("oci-archive", tmp_path / "theirs.tar", "v1")).blobs == image.blobs
