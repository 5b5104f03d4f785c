from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from kstore.digest import Digest
from kstore.platforms import Platform
from kstore.store import Store, layout
from tests.support.images import index_of, random_artifact, random_image
from tests.support.stores import named, put_artifact, put_image, put_index

FOREIGN = Platform("linux", "arm", "v7")
REF = "org.opencontainers.image.ref.name"


def shown(root: Path) -> list[dict[str, Any]]:
    document = json.loads((root / "index.json").read_text())
    assert document["schemaVersion"] == 2
    entries: list[dict[str, Any]] = document["manifests"]
    for entry in entries:
        blob = root / "blobs" / "sha256" / Digest.parse(entry["digest"]).hex
        assert blob.stat().st_size == entry["size"]
    return entries


def names(root: Path) -> list[str]:
    return [e["annotations"][REF] for e in shown(root) if REF in e.get("annotations", ())]


def test_every_name_is_an_entry_with_its_platform(root: Path) -> None:
    image = random_image(1, platform=FOREIGN)
    with Store.open(root) as store:
        put_image(store, image, "x", "localhost/y:v1")
        assert shown(root) == []  # refreshed once, at the end
    entries = shown(root)
    assert names(root) == ["docker.io/library/x:latest", "localhost/y:v1"]
    assert {entry["digest"] for entry in entries} == {str(image.raw.digest)}
    assert entries[0]["platform"] == {"architecture": "arm", "os": "linux", "variant": "v7"}
    assert entries[0]["mediaType"] == image.raw.media_type


def test_an_image_without_a_name_is_an_entry_without_one(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
        put_image(store, random_image(2))
    assert len(shown(root)) == 2
    assert names(root) == ["docker.io/library/x:latest"]


def test_a_complete_index_is_shown_and_its_members_are_not(root: Path) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN)]
    index = index_of(images)
    with Store.open(root) as store:
        put_index(store, index, images, "multi")
    (entry,) = shown(root)
    assert entry["digest"] == str(index.digest)
    assert "platform" not in entry


def test_an_index_with_absent_members_is_shown_as_the_image_it_leads_to(root: Path) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN)]
    with Store.open(root) as store:
        put_index(store, index_of(images), images[:1], "multi")
    (entry,) = shown(root)
    assert entry["digest"] == str(images[0].raw.digest)
    assert names(root) == ["docker.io/library/multi:latest"]


def test_an_artifact_with_a_name_is_shown(root: Path) -> None:
    with Store.open(root) as store:
        raw = put_artifact(store, random_artifact(1), "x")
    (entry,) = shown(root)
    assert entry["digest"] == str(raw.digest)


def test_reading_does_not_touch_the_file(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    before = (root / "index.json").stat()
    with Store.open(root) as store:
        store.find_image("x")
    assert (root / "index.json").stat().st_ino == before.st_ino


def test_every_change_of_names_is_shown(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    for change, expected in [
        (lambda s: s.tag(s.find_image("x"), [named("y")]), ["x", "y"]),
        (lambda s: s.untag(named("x")), ["y"]),
        (lambda s: s.remove_name(named("y")), []),
    ]:
        with Store.open(root) as store:
            change(store)
        assert names(root) == [f"docker.io/library/{name}:latest" for name in expected]


def test_a_file_that_is_behind_is_noticed_by_its_generation(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
        store.refresh_index()
        old = (root / "index.json").read_bytes()
        store.tag(store.find_image("x"), [named("y")])
    (root / "index.json").write_bytes(old)  # the process had died before its refresh
    with Store.open(root) as store:
        assert layout.shown_generation(store._session) != layout.generation_of(store._session)
        assert store.check().problems == ()
    assert len(names(root)) == 2


def test_in_a_big_store_the_file_may_lag_and_prune_catches_up(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    monkeypatch.setattr(layout, "MANY_NAMES", 0)
    with Store.open(root) as store:
        store.tag(store.find_image("x"), [named("y")])
    assert len(names(root)) == 1
    with Store.open(root) as store:
        store.prune()
    assert len(names(root)) == 2
    os.utime(root / "index.json", (time.time() - 60,) * 2)
    with Store.open(root) as store:
        store.tag(store.find_image("x"), [named("z")])
    assert len(names(root)) == 3


def test_the_generation_stands_in_the_first_bytes(root: Path) -> None:
    with Store.open(root) as store:
        for seed in range(30):
            put_image(store, random_image(seed, layers=1, layer_size=10), f"x{seed}")
        store.refresh_index()
        assert layout.shown_generation(store._session) == 30
        (root / "index.json").write_text("{}")
        assert layout.shown_generation(store._session) is None
        (root / "index.json").unlink()
        assert layout.shown_generation(store._session) is None
