"""The store of five images, in kstore and in podman; and images that settings make, for peers."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kstore import images
from kstore import mediatypes as mt
from kstore.app import App
from kstore.copier import copy_image
from kstore.errors import ImageNotFoundError
from kstore.operations.save import SaveOptions, save_images
from kstore.operations.working import make_container
from kstore.settings import load
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from tests.support.bigimages import build
from tests.support.fixturestore import NAMES, FixtureStore, fill_store
from tests.support.podman import Podman
from tests.support.programs import require_program

pytestmark = pytest.mark.peer

MOMENT = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)


@dataclass
class Both:
    """The five images here and there."""

    shelf: FixtureStore
    podman: Podman

    def inspect(self, text: str) -> dict[str, Any]:
        """What podman says of an image."""
        document: dict[str, Any] = json.loads(self.podman.run("image", "inspect", text))[0]
        return document


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    place = tmp_path_factory.mktemp("five")
    with Store.open(place / "root") as store, Podman(place / "podman") as podman:
        shelf = fill_store(store)
        with App(load({}, root=store.root)).transports(store) as transports:
            for letter, names in NAMES.items():
                texts = list(names) or [shelf.image(letter).id]
                archive = place / f"{letter}.tar"
                save_images(store, transports, texts, str(archive), SaveOptions())
                podman.run("load", "--input", str(archive))
        yield Both(shelf, podman)


@pytest.mark.parametrize("letter", NAMES)
def test_podman_says_the_same_about_an_image(both: Both, letter: str) -> None:
    data = images.get_data(both.shelf.store, both.shelf.image(letter).id)
    theirs = both.inspect(data.id)
    assert theirs["Id"] == data.id
    assert sorted(theirs["RepoTags"]) == sorted(data.tags)
    assert theirs["Author"] == data.author
    assert (theirs["Os"], theirs["Architecture"]) == (data.os, data.architecture)
    assert dt.datetime.fromisoformat(theirs["Created"]) == data.created
    assert theirs["RootFS"]["Layers"] == [str(digest) for digest in data.diff_ids]
    assert {k: v for k, v in theirs["Config"].items() if v} == dict(data.config)
    newest = theirs["History"][-1]
    assert (newest["comment"], newest["created_by"]) == (data.comment, data.created_by)


@pytest.mark.parametrize(
    "text",
    [
        *("alpine", "alpine:latest", "library/alpine", "docker.io/alpine", "alpine:3.20"),
        *("foobar", "foobar:latest", "localhost/foobar", "localhost:5000/team/app:v1"),
        *("{a}", "sha256:{a}", "c3d", "quay.io/other/myalpine"),
    ],
)
def test_podman_finds_the_same_image(both: Both, text: str) -> None:
    text = both.shelf.fill(text)
    assert both.inspect(text)["Id"] == images.find_image(both.shelf.store, text).id


@pytest.mark.parametrize("text", ["alpine:9", "localhost:5000/team/app", "nosuch"])
def test_podman_finds_as_little(both: Both, text: str) -> None:
    with pytest.raises(ImageNotFoundError):
        images.find_image(both.shelf.store, text)
    with pytest.raises(AssertionError, match=r"no such|not known"):
        both.inspect(text)


FORMS: list[tuple[str, str | None]] = [
    *((mt.OCI_MANIFEST, kind) for kind in (None, "none", "gzip", "zstd")),
    *((mt.DOCKER_MANIFEST, kind) for kind in (None, "none", "gzip")),
]


@pytest.mark.parametrize(("manifest_type", "kind"), FORMS)
def test_peers_read_an_image_that_settings_make(
    both: Both, tmp_path: Path, manifest_type: str, kind: str | None
) -> None:
    skopeo = require_program("skopeo")
    with Store.open(tmp_path / "root") as store:
        fill_store(store)
        record = make_container(store, "foobar", "box")
        (record.upper / "new").write_text("made in the container")
        data = images.get_container_copy_data(store, "box")
        data.work_dir, data.created_by = "/srv", "a test"
        ref = data.make_image_ref(manifest_type, kind, timestamp=MOMENT)
        with App(load({}, root=store.root)).transports(store) as transports:
            copy_image(ref, transports.parse(f"dir:{tmp_path / 'out'}"), AcceptAnything())
        with ref.open_image() as image:
            digest, config = image.raw.digest, image.read_config()
    command = [skopeo, "inspect", "--config", "--raw", f"dir:{tmp_path / 'out'}"]
    assert subprocess.run(command, check=True, capture_output=True, timeout=60).stdout == config
    with Podman(tmp_path / "podman") as podman:
        podman.run("pull", "--quiet", f"dir:{tmp_path / 'out'}")
        theirs = json.loads(podman.run("image", "inspect", podman.run("images", "-q").strip()))[0]
    assert (theirs["Digest"], theirs["ManifestType"]) == (str(digest), manifest_type)
    assert theirs["Config"]["WorkingDir"] == "/srv"
    assert theirs["History"][-1]["created_by"] == "a test"
    assert len(theirs["RootFS"]["Layers"]) == 2


@pytest.mark.parametrize(
    "name",
    [
        "sixty-layers",
        pytest.param("debian", marks=pytest.mark.slow),
        pytest.param("python-app", marks=pytest.mark.slow),
    ],
)
def test_an_image_as_large_as_real_ones_goes_through_the_api(tmp_path: Path, name: str) -> None:
    built = build(name, tmp_path)
    app = App(load({}, root=tmp_path / "root"))
    with app.open_store("test") as store:
        (image,) = images.pull_image(store, app, f"oci:{built.layout}")
        data = images.get_data(store, image.id)
        assert (image.id, str(data.digest)) == (built.image_id, built.digest)
        assert data.size == sum(built.blobs.values())
        images.push_image(store, app, image.id, f"oci:{tmp_path / 'same'}:app")
        ref = images.get_image_copy_data(store, image.id).make_image_ref(compress="zstd")
        with ref.open_image() as made:
            assert made.config.diff_ids == data.diff_ids
    same = json.loads((tmp_path / "same" / "index.json").read_bytes())
    assert [entry["digest"] for entry in same["manifests"]] == [built.digest]
