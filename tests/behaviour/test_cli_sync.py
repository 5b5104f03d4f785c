"""``sync``, as the command line does it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Result, run
from tests.support.faultserver import FaultServer
from tests.support.images import TestImage, random_image
from tests.support.stores import listing

ONE, TWO = random_image(1), random_image(2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        offer(server, ONE, "1.0.0")
        offer(server, TWO, "2.0.0")
        yield server


def offer(server: FaultServer, image: TestImage, tag: str) -> None:
    for data in image.blobs.values():
        server.add_blob(data, "team/app")
    server.add_manifest(image.raw.data, image.raw.media_type, "team/app", tag)


def sync(root: Path, *args: object) -> Result:
    return run("--root", root, "sync", "--tls-verify=false", *args)


def test_a_line_for_each_image_tells_what_became_of_it(
    root: Path, server: FaultServer, tmp_path: Path
) -> None:
    source, place = f"docker://{server.host}/team/app", f"oci:{tmp_path}/layout"

    def lines(status: str) -> str:
        return "".join(
            f"{source}:{tag} -> {place}:app:{tag} {image.raw.digest} ({status})\n"
            for tag, image in (("1.0.0", ONE), ("2.0.0", TWO))
        )

    assert sync(root, "-q", "--dry-run", source, place) == Result(0, lines("would be copied"), "")
    assert listing(tmp_path) == []
    first = sync(root, source, place)
    assert (first.code, first.out) == (0, lines("copied"))
    assert first.err.splitlines()[-1] == "2 images: 2 copied"
    assert sync(root, "-q", source, place) == Result(0, lines("unchanged"), "")


def test_results_are_json_when_that_is_asked_for(
    root: Path, server: FaultServer, tmp_path: Path
) -> None:
    server.add_manifest(b"{}", ONE.raw.media_type, "team/app", "3.0.0")
    ends = (f"docker://{server.host}/team/app", f"dir:{tmp_path}/disk")
    result = sync(root, "-q", "--keep-going", "--format", "json", *ends)
    assert result.code == 5
    records = json.loads(result.out)
    assert [record["Status"] for record in records] == ["copied", "copied", "failed"]
    assert records[0]["Digest"] == str(ONE.raw.digest)
    assert (records[0]["Error"], records[2]["Digest"]) == (None, None)
    assert result.err.startswith(f"kstore: docker://{server.host}/team/app:3.0.0: ")
    template = sync(root, "-q", "--format", "{{.Status}}", *ends, "--tag-glob", "[12]*")
    assert template.out == "unchanged\nunchanged\n"


def test_a_failure_ends_it_with_its_exit_code(
    root: Path, server: FaultServer, tmp_path: Path
) -> None:
    server.add_manifest(b"{}", ONE.raw.media_type, "team/app", "0.9.0")
    ends = (f"docker://{server.host}/team/app", f"dir:{tmp_path}/disk")
    stopped = sync(root, "-q", "--parallel", "1", *ends)
    assert stopped.code == 5
    [line] = stopped.out.splitlines()
    assert "app:0.9.0 (failed: " in line
    going = sync(root, "--keep-going", *ends)
    assert going.code == 5
    assert going.err.splitlines()[-1] == "3 images: 2 copied, 1 failed"


def test_skopeos_way_of_saying_it_is_understood(
    root: Path, server: FaultServer, tmp_path: Path
) -> None:
    options = ("-q", "--src", "docker", "--dest", "dir", "--scoped", "--tag-semver", "<2")
    result = sync(root, *options, f"{server.host}/team/app", tmp_path / "disk")
    assert result.code == 0, result.err
    place = tmp_path / "disk" / server.host / "team"
    assert listing(place) == ["app:1.0.0"]
    assert (place / "app:1.0.0/manifest.json").read_bytes() == ONE.raw.data


def test_what_is_no_pattern_is_said_before_anything_is_asked(
    root: Path, server: FaultServer
) -> None:
    for option in ("--tag-semver=latest", "--tag-regex=(", "--format={{.Nothing}}"):
        result = sync(root, option, f"docker://{server.host}/team/app", "kstore:")
        assert (result.code, result.out) == (2, "")
    assert server.requests == []
    assert not root.exists()
