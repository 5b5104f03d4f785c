"""Hostile archives and registries, through the commands a user would run, with little memory."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from tests.faults.hostile import ARCHIVES, MANIFESTS, OFFERED
from tests.faults.scenes import Place, Scene, State
from tests.support.cli import run
from tests.support.faultserver import Bearer, Fault
from tests.support.forkserver import Run

#: Bytes of memory and of any file that a command may use on top of what it is born with.
_MEMORY, _FILE = 300 << 20, 200 << 20


def limited(place: Place, *words: object) -> Run:
    born = int(Path(f"/proc/{place.scene.forks.pid}/statm").read_text().split()[0])
    return place.scene.forks.run(
        *("--root", place.root, *words),
        limits={"RLIMIT_AS": born * os.sysconf("SC_PAGESIZE") + _MEMORY, "RLIMIT_FSIZE": _FILE},
    )


def judge(place: Place, before: State, done: Run, codes: frozenset[int]) -> None:
    assert done.code in codes, done
    assert "Traceback" not in done.err
    assert "internal error" not in done.err
    assert "\x1b" not in done.err + done.out
    if done.code != 0:
        assert place.state() == before
        assert done.err.startswith("kstore: ")
    assert place.violations() == []


@pytest.mark.parametrize("row", ARCHIVES)
def test_a_hostile_archive_is_refused_or_does_no_harm(row: str, scene: Scene) -> None:
    with scene.place() as place:
        before = place.state()
        path = place.outside.parent / "hostile.tar"
        path.write_bytes(ARCHIVES[row].make())
        done = limited(place, "load", "-q", path)
        judge(place, before, done, ARCHIVES[row].codes)
        canaries = [*place.outside.parent.rglob("*canary*"), *Path("/etc").glob("*canary*")]
        assert canaries == []


@pytest.mark.parametrize("row", MANIFESTS)
def test_a_hostile_manifest_is_refused_before_any_blob_is_asked_for(row: str, scene: Scene) -> None:
    for data in OFFERED.blobs.values():
        scene.server.add_blob(data, "team/hostile")
    scene.server.manifests["team/hostile"] = {"v1": (mt.OCI_MANIFEST, MANIFESTS[row])}
    with scene.place() as place:
        before, asked = place.state(), len(scene.server.requests)
        name = f"{scene.server.host}/team/hostile:v1"
        done = limited(place, "pull", "-q", "--tls-verify=false", name)
        judge(place, before, done, frozenset({5, 6}))
        seen = [request.target for request in scene.server.requests[asked:]]
        assert not [target for target in seen if "/blobs/" in target]


@pytest.mark.parametrize(
    ("target", "fault"),
    [
        ("/manifests/", Fault(endless=True)),
        ("/manifests/", Fault(endless=True, status=500)),
        ("/blobs/", Fault(endless=True)),
        ("/blobs/", Fault(endless=True, status=404)),
        ("/token", Fault(endless=True)),
        ("/v2/", Fault(endless=True, status=401)),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.status),
)
def test_an_answer_without_end_is_cut_off(target: str, fault: Fault, scene: Scene) -> None:
    scene.server.auth = Bearer() if target == "/token" else None
    scene.server.fault(fault, "GET", target, times=100)
    try:
        with scene.place() as place:
            before = place.state()
            name = f"{scene.server.host}/team/app:v1"
            done = limited(place, "pull", "-q", "--tls-verify=false", name)
            judge(place, before, done, frozenset({3, 5, 8, 9}))
    finally:
        scene.server.auth = None
        scene.server.forgive()


def test_a_layer_that_is_a_bomb_is_stored_as_it_is_and_not_unpacked(scene: Scene) -> None:
    """What arrives is what was asked for; only who wants to look inside has to stop in time."""
    bomb = gzip.compress(bytes(400 << 20), 1)
    config = json.loads(OFFERED.config)
    config["rootfs"]["diff_ids"] = [str(Digest.of(b"something else"))]
    data = json.dumps(config).encode()
    server = scene.server
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": server.add_blob(data, "team/bomb", mt.OCI_CONFIG).to_json(),
        "layers": [server.add_blob(bomb, "team/bomb", mt.OCI_LAYER_GZIP).to_json()],
    }
    server.add_manifest(json.dumps(document).encode(), mt.OCI_MANIFEST, "team/bomb", "v1")
    with scene.place() as place:
        name = f"{server.host}/team/bomb:v1"
        assert limited(place, "pull", "-q", "--tls-verify=false", name).code == 0
        for words in (("tree", name), ("save", "-q", "-o", place.outside / "bomb.tar", name)):
            done = limited(place, *words)
            assert done.code in (0, 5), done
            assert "internal error" not in done.err
        assert limited(place, "rmi", name).code == 0
        assert place.violations() == []


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_what_fails_a_hundred_times_leaves_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "hostile.tar"
    path.write_bytes(ARCHIVES["a layer of other bytes"].make())
    root = tmp_path / "store"
    assert run("--root", root, "load", "-q", path).code == 5
    before = open_files()
    for _ in range(100):
        assert run("--root", root, "load", "-q", path).code == 5
    assert open_files() <= before
