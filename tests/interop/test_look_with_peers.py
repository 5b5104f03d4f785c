"""What kstore and podman say about the same images."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kstore.store import Store
from tests.support.cli import run
from tests.support.images import TestImage, random_image, write_oci_layout
from tests.support.layers import directory, file, hardlink, image_of, layer, symlink
from tests.support.podman import Podman
from tests.support.stores import put_image

pytestmark = pytest.mark.peer

BASE = layer(
    directory("etc"),
    file("etc/passwd", b"root"),
    file("etc/gone"),
    file("etc/same", b"same"),
    directory("opt"),
    directory("opt/tool"),
    file("opt/tool/run"),
    directory("usr"),
    directory("usr/bin"),
    file("usr/bin/sh", b"shell"),
    file("usr/bin/touched"),
    directory("var"),
    directory("var/mode"),
    file("var/becomes-directory"),
    symlink("var/link", "mode"),
)
# A file that becomes a directory has nothing in it: podman 4 cannot tell the changes then.
TOP = layer(
    directory("etc"),
    file("etc/passwd", b"another"),
    file("etc/.wh.gone"),
    file(".wh.opt"),
    directory("usr"),
    directory("usr/bin"),
    file("usr/bin/sh", b"SHELL"),
    file("usr/bin/touched", mtime=5000),
    directory("var"),
    directory("var/mode", mode=0o700),
    directory("var/becomes-directory"),
    symlink("var/link", "elsewhere"),
    directory("srv"),
    file("srv/index", b"hello"),
    hardlink("srv/again", "srv/index"),
    symlink("srv/link", "index"),
)
CHANGED = image_of(BASE, TOP)
DATED = random_image(5, labels={"vendor": "acme"})
LATER = random_image(6, labels={"vendor": "other"}, created="2024-06-01T00:00:00Z", layers=3)


@dataclass
class Scene:
    """The same images in a store and in podman's storage."""

    root: Path
    podman: Podman

    def kstore(self, *args: str) -> str:
        result = run("--root", self.root, *args)
        assert (result.code, result.err) == (0, "")
        return result.out


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("look")
    images = {"changed": CHANGED, "dated": DATED, "later": LATER}
    with Store.open(directory / "root") as store:
        for name, image in images.items():
            put_image(store, image, f"localhost/{name}")
    with Podman(directory / "podman") as podman:
        for name, image in images.items():
            # Podman makes a name of a layout's path, which may hold what no name may; not so here.
            write_oci_layout(directory / name, {f"localhost/{name}:latest": image})
            archive = shutil.make_archive(str(directory / name), "tar", directory / name)
            podman.run("load", "-q", "-i", archive)
        yield Scene(directory / "root", podman)


def test_diff_tells_the_same_changes(scene: Scene) -> None:
    ours = scene.kstore("diff", "changed").splitlines()
    assert sorted(ours) == sorted(scene.podman.run("diff", CHANGED.id).split("\n")[:-1])


def test_diff_as_json_has_the_same_lists(scene: Scene) -> None:
    ours = json.loads(scene.kstore("diff", "--format", "json", "changed"))
    theirs = json.loads(scene.podman.run("diff", "--format", "json", CHANGED.id))
    assert {key: sorted(paths) for key, paths in ours.items()} == {
        key: sorted(paths) for key, paths in theirs.items()
    }


@pytest.mark.parametrize("image", [CHANGED, DATED], ids=["changed", "dated"])
def test_inspect_says_the_same_in_the_fields_both_have(scene: Scene, image: TestImage) -> None:
    ours = _only(scene.kstore("inspect", image.id))
    theirs = _only(scene.podman.run("image", "inspect", image.id))
    common = ("Id", "Digest", "Parent", "Comment", "Created", "Version", "Author", "Architecture")
    for key in (*common, "Os", "RootFS", "Annotations", "ManifestType", "User"):
        assert ours[key] == theirs[key], key
    assert ours["Labels"] == (theirs["Labels"] or {})
    assert [step["created_by"] for step in ours["History"]] == [
        step["created_by"] for step in theirs["History"]
    ]


@pytest.mark.parametrize("image", [CHANGED, DATED], ids=["changed", "dated"])
def test_history_has_the_same_steps(scene: Scene, image: TestImage) -> None:
    form = ("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", image.id)
    assert scene.kstore(*form) == scene.podman.run(*form)


def test_history_as_json_has_the_same_dates_and_ids(scene: Scene) -> None:
    ours = json.loads(scene.kstore("history", "--format", "json", DATED.id))
    theirs = json.loads(scene.podman.run("history", "--format", "json", DATED.id))
    assert [(row["createdBy"], row["created"], row["comment"]) for row in ours] == [
        (row["CreatedBy"], row["created"], row.get("comment", "")) for row in theirs
    ]
    assert ours[0]["id"] == theirs[0]["id"]


@pytest.mark.parametrize(
    "template",
    [
        "{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}}",
        "{{.Names}} {{.RepoTags}} {{.RepoDigests}}",
        "{{.Dangling}} {{.Containers}} {{.ReadOnly}} {{.ParentId}}",
        "{{.History}}",
        '{{$s := ""}}{{range .RepoTags}}{{$s}}{{.}}{{$s = ", "}}{{end}}',
        "{{if .Labels.vendor}}{{.CreatedSince}} {{.Created}}{{end}}",
        '{{.Labels}} {{len .Labels}} {{json .Labels}} {{index .Labels "vendor"}}',
        "{{upper .Tag}} {{title .Tag}} {{pad .Tag 2 2}} {{truncate .Digest 12}}",
        '{{join .RepoTags ", "}} {{split .Tag "t"}} {{printf "%-8s|%5d" .Tag 7}}',
        "{{if .Dangling}}nameless{{else}}{{range .RepoTags}}<{{.}}>{{end}}{{end}}",
        '{{if eq .Tag "latest" "x"}}yes{{end}} {{lower "ABC"}} {{- " trimmed"}}',
        "table {{.Repository}}\t{{.Tag}}\t{{.ID}}",
        "{{$n := .Tag}}{{range $i, $t := .RepoTags}}{{$i}}={{$t}} {{$n}}{{end}}",
        "{{range $k, $v := .Labels}}{{$k}}={{$v}} {{else}}none{{end}}",
        "{{with $l := .Labels}}{{len $l}}{{.}}{{else}}none{{end}}",
        "table {{.Repository}} {{.ID}}",
    ],
)
def test_templates_of_a_listing_give_the_same_lines(scene: Scene, template: str) -> None:
    command = ("images", "--no-trunc", "--sort", "repository", "--format", template)

    def lines(text: str) -> list[list[str]]:
        """Without what podman puts before whole IDs, and how it fills columns."""
        return [line.split() for line in text.replace("sha256:", "").splitlines()]

    assert lines(scene.kstore(*command)) == lines(scene.podman.run(*command))


@pytest.mark.parametrize(
    "filters",
    [
        ["dangling=false"],
        ["dangling=true"],
        ["intermediate=true"],
        ["containers=false"],
        ["containers=true"],
        ["label=vendor"],
        ["label=vendor=acme"],
        ["label!=vendor=acme"],
        ["label=vendor", "before=localhost/later"],
        ["before=localhost/later"],
        ["since=localhost/dated", "label=vendor"],  # podman dates what has no date itself
        ["after=localhost/dated", "label=vendor"],
        ["until=2024-03-01T00:00:00Z", "label=vendor"],
        ["reference=dated"],
        ["reference=localhost/*"],
        ["reference=*hang*"],
        ["reference=dated", "reference=later"],
        ["reference!=dated"],
        [f"id={DATED.id}"],
    ],
    ids=" ".join,
)
def test_filters_choose_the_same_images(scene: Scene, filters: list[str]) -> None:
    options = [option for text in filters for option in ("--filter", text)]
    command = ("images", "-q", "--no-trunc", *options)
    theirs = scene.podman.run(*command, "--all").replace("sha256:", "")
    assert sorted(scene.kstore(*command).split()) == sorted(theirs.split())


@pytest.mark.parametrize("bad", ["nothing=1", "dangling", "dangling=maybe", "until=someday"])
def test_both_refuse_the_same_filters(scene: Scene, bad: str) -> None:
    assert run("--root", scene.root, "images", "--filter", bad).code == 2
    refused = subprocess.run(
        [*scene.podman.command, "images", "--filter", bad],
        env=scene.podman.environment(),
        capture_output=True,
        timeout=60,
    )
    assert refused.returncode != 0


def _only(text: str) -> dict[str, Any]:
    [found] = json.loads(text)
    return dict(found)
