"""``kstore check --repair`` as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.cli import run
from tests.support.faultserver import FaultServer
from tests.support.images import random_artifact, random_image, write_oci_layout
from tests.support.stores import put_artifact, put_image

IMAGE, OTHER = random_image(1), random_image(2)
LAYER = IMAGE.layers[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "root", command="test") as store:
        put_image(store, IMAGE, "localhost/app", "localhost/team/app:1")
        put_image(store, OTHER, "localhost/other")
    return tmp_path / "root"


def rot(root: Path) -> None:
    blob = root / "blobs" / "sha256" / LAYER.digest.hex
    blob.chmod(0o600)
    blob.write_bytes(bytes(LAYER.size))


def test_a_repair_of_a_healthy_store_finds_nothing_to_do(root: Path) -> None:
    result = run("--root", root, "check", "--repair")
    assert (result.code, result.err) == (0, "")
    assert result.out == "Checked 2 images and 8 blobs: no damage\n"


def test_a_repair_says_what_was_wrong_and_where_the_good_bytes_came_from(
    root: Path, tmp_path: Path
) -> None:
    rot(root)
    layout = tmp_path / "layout"
    write_oci_layout(layout, {"v1": IMAGE})
    result = run("--root", root, "check", "--repair", "--from", layout, "--progress", "none")
    assert result.code == 0, result
    assert f"Repaired: blob {LAYER.digest} (2.247 kB, " in result.out
    assert f"from {layout})" in result.out
    again = run("--root", root, "check", "--deep")
    assert (again.code, again.out.splitlines()[-1][-9:]) == (0, "no damage")


def test_a_repair_from_the_registry_an_image_came_from(tmp_path: Path) -> None:
    root = tmp_path / "pulled"
    with FaultServer() as server:
        for data in IMAGE.blobs.values():
            server.add_blob(data)
        server.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, tag="v1")
        pulled = run("--root", root, "pull", "--tls-verify=false", f"{server.host}/team/app:v1")
        assert pulled.code == 0, pulled
        rot(root)
        result = run("--root", root, "check", "--repair", "--tls-verify=false", "--json")
    assert result.code == 0, result
    document = json.loads(result.out)
    assert document["damaged"] is False
    assert document["problems"][0]["kind"] == "wrong-digest"
    assert document["rebuilt"] is None
    assert document["repair"] == {
        "fetched": [
            {"digest": str(LAYER.digest), "size": LAYER.size, "place": f"{server.host}/team/app"}
        ],
        "mended": [],
        "failed": [],
        "remaining": [],
    }


def test_what_cannot_be_repaired_is_named_with_what_to_do(root: Path) -> None:
    rot(root)
    result = run("--root", root, "check", "--repair")
    assert result.code == 10
    told = result.out.splitlines()
    at = told.index(f"Not repaired: blob {LAYER.digest}")
    assert told[at + 1] == (
        f"    image {IMAGE.id[:12]} (localhost/app:latest, localhost/team/app:1)"
    )
    assert told[at + 2] == "    nothing tells where it came from"
    assert result.err.splitlines() == [
        "hint: kstore check --repair --from SOURCE: a store, an archive or docker://NAME has them",
        f"hint: or do without: kstore rmi --force {IMAGE.id[:12]}",
    ]
    assert run("--root", root, "inspect", "other").code == 0
    assert json.loads(run("--root", root, "check", "--repair", "--json").out)["damaged"] is True


def test_the_summary_says_how_much_of_the_damage_is_repaired(root: Path, tmp_path: Path) -> None:
    rot(root)
    manifest = root / "blobs" / "sha256" / OTHER.raw.digest.hex
    manifest.unlink()
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE})
    words = ("check", "--repair", "--progress", "none", "--from", tmp_path / "layout")
    result = run("--root", root, *words)
    assert result.code == 10
    assert result.out.splitlines()[-1].endswith(": 2 problems in 2 images; 1 repaired, 1 not")
    assert result.err.splitlines()[-1] == f"hint: or do without: kstore rmi --force {OTHER.id[:12]}"
    manifest.write_bytes(OTHER.raw.data)
    rot(root)
    result = run("--root", root, *words)
    assert result.code == 0
    assert result.out.splitlines()[-1].endswith(": 1 problem in 1 image; all repaired")


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
@pytest.mark.parametrize("database", ["as it was", "made anew"])
def test_one_bad_image_prevents_no_use_of_another(
    root: Path, tmp_path: Path, what: str, database: str
) -> None:
    digits = {"manifest": IMAGE.raw.digest.hex, "config": IMAGE.id, "layer": LAYER.digest.hex}
    (root / "blobs" / "sha256" / digits[what]).unlink()
    if database == "made anew":
        shutil.rmtree(root / "db")
    assert run("--root", root, "check", "--repair").code == 10
    for words in (
        ["images"],
        ["images", "--filter", "label=x"],
        ["inspect", "other"],
        ["history", "other"],
        ["save", "-q", "-o", tmp_path / "saved.tar", "other"],
        ["push", "-q", "other", f"dir:{tmp_path / 'pushed'}"],
        ["from", "--name", "box", "other"],
        ["commit", "-q", "box", "committed"],
        ["tag", "other", "new"],
        ["untag", "new"],
        ["df"],
        ["prune"],
        ["load", "-q", "-i", tmp_path / "saved.tar"],
        ["rm", "box"],
        ["rmi", "other"],
    ):
        result = run("--root", root, *words)
        assert result.code == 0, (words, result)
    listed = run("--root", root, "images", "--format", "{{.Repository}}:{{.Tag}}").out.split()
    assert {"localhost/app:latest", "localhost/team/app:1"} <= set(listed)
    result = run("--root", root, "rmi", "--force", IMAGE.id)
    assert result.code == 0, result
    assert run("--root", root, "check", "--deep").code == 0


def test_what_stands_for_damage_that_is_no_image_is_named(root: Path) -> None:
    artifact = random_artifact(1)
    with Store.open(root) as store:
        put_artifact(store, artifact, "localhost/signature:1")
    (root / "blobs" / "sha256" / artifact.raw.digest.hex).unlink()
    result = run("--root", root, "check")
    assert result.code == 10
    assert "has no file; localhost/signature:1 needs it" in result.out
    result = run("--root", root, "check", "--repair")
    assert result.code == 10
    assert result.err.startswith("hint: kstore check --repair --from SOURCE")


@pytest.mark.parametrize("damage", ["lost", "scribbled"])
def test_a_database_that_is_gone_is_made_anew_and_every_command_says_so(
    root: Path, damage: str
) -> None:
    before = run("--root", root, "images", "--no-trunc").out
    if damage == "lost":
        shutil.rmtree(root / "db")
    else:
        (root / "db" / "kstore.db").write_bytes(b"x" * 8192)
    for command in (["images"], ["inspect", "app"], ["tag", "app", "new"], ["check"]):
        result = run("--root", root, *command)
        assert (result.code, result.err.splitlines()[-1]) == (10, "hint: kstore check --repair")
    result = run("--root", root, "check", "--repair")
    assert result.code == 0, result
    assert result.out.splitlines() == [
        "Rebuilt the database: 2 images, 3 names (from index.json), 8 blobs",
        "Checked 2 images and 8 blobs: no damage",
    ]
    assert "making it anew" in result.err
    assert run("--root", root, "images", "--no-trunc").out == before


def test_a_lost_database_and_a_damaged_blob_are_repaired_in_one_go(
    root: Path, tmp_path: Path
) -> None:
    rot(root)
    shutil.rmtree(root / "db")
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE})
    result = run("--root", root, "check", "--repair", "--from", tmp_path / "layout", "--json")
    assert result.code == 0, result
    document = json.loads(result.out)
    assert document["rebuilt"]["unusable_blobs"] == 1
    assert document["repair"]["fetched"][0]["digest"] == str(LAYER.digest)
    assert run("--root", root, "check", "--deep").code == 0


def test_a_check_with_little_time_says_what_is_left(root: Path) -> None:
    result = run("--root", root, "check", "--max-time", "0.000001")
    assert result.code == 0
    left = [f"{n} blob{'s' * (n > 1)} left for another time" for n in range(4, 8)]
    assert any(text in result.out for text in left), result.out


def test_repairs_with_little_time_each_get_to_every_blob_in_the_end(
    root: Path, tmp_path: Path
) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE})
    blob = root / "blobs" / "sha256" / LAYER.digest.hex
    facts, good = blob.stat(), blob.read_bytes()
    rot(root)
    os.utime(blob, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert run("--root", root, "check").code == 0, "nothing shows but to who reads it"
    words = ("check", "--repair", "--max-time", "0.000001", "--from", tmp_path / "layout")
    ended = {run("--root", root, *words).code for _ in range(8)}
    assert ended == {0}
    assert blob.read_bytes() == good


@pytest.mark.parametrize(
    "wrong",
    [
        ["--from", "x"],
        ["--max-time", "0"],
        ["--max-time", "soon"],
        ["--json", "--format", "{{.damaged}}"],
    ],
    ids=" ".join,
)
def test_wrong_words_are_refused(root: Path, wrong: list[str]) -> None:
    assert run("--root", root, "check", *wrong).code == 2


def test_files_that_are_not_the_stores_are_told_and_do_no_harm(root: Path) -> None:
    (root / "notes.txt").write_text("mine")
    result = run("--root", root, "check")
    assert (result.code, result.err) == (0, "")
    assert "odd-file: notes.txt is none of the store's files" in result.out
