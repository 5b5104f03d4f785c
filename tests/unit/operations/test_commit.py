"""A working container as an image."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.compression import decompressor
from kstore.errors import (
    CancelledError,
    ConflictError,
    ImageNotFoundError,
    IntegrityError,
    InvalidInputError,
    InvalidReferenceError,
    StoreDamagedError,
    UnsupportedError,
)
from kstore.manifest import parse_image
from kstore.operations.commit import CommitOptions, CommitResult, commit_container
from kstore.operations.configure import ConfigEdits, configure_container
from kstore.operations.inspect import inspect_image
from kstore.operations.working import make_container
from kstore.store import ContainerRecord, Store
from kstore.streams import Cancel
from tests.support.images import random_image
from tests.support.stores import listing, put_image
from tests.support.trees import content, made, make_tree, members

MOMENT = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.UTC)
DATED = CommitOptions(timestamp=MOMENT)


def container(store: Store, image: Any = None, **traits: Any) -> ContainerRecord:
    put_image(store, image or random_image(1, **traits), "base")
    return make_container(store, "base", "box")


def layers(store: Store, result: CommitResult) -> list[Any]:
    document: list[Any] = json.loads(store.read_manifest(result.manifest).data)["layers"]
    return document


def config(store: Store, result: CommitResult) -> dict[str, Any]:
    digest = parse_image(store.read_manifest(result.manifest)).config.digest
    document: dict[str, Any] = json.loads(store.read_blob(digest, cap=1 << 20))
    return document


def test_base_layers_stay_and_what_changed_is_one_more(store: Store) -> None:
    image = random_image(1)
    record = container(store, image)
    make_tree(record.upper, {"etc/new": b"hi", "files/.wh.0": b""})
    result = commit_container(store, "box", "app:2")
    assert [layer["digest"] for layer in layers(store, result)[:2]] == [
        str(layer.digest) for layer in image.layers
    ]
    assert result.layer is not None
    assert layers(store, result)[2] == result.layer.to_json()
    assert str(store.image(result.image_id).names[0].name) == "localhost/app:2"
    plain = gzip.decompress(store.read_blob(result.layer.digest, cap=1 << 20))
    assert list(members(plain)) == ["etc", "etc/new", "files", "files/.wh.0"]
    assert not store.check(deep=True).problems
    assert record.upper.is_dir(), "the container stays"


def test_without_changes_there_is_no_new_layer(store: Store) -> None:
    container(store)
    configure_container(store, "box", ConfigEdits(user="me"))
    result = commit_container(store, "box")
    assert (result.layer, result.name, len(layers(store, result))) == (None, None, 2)
    assert config(store, result)["history"][-1]["empty_layer"] is True
    assert config(store, result)["config"]["User"] == "me"


def test_an_image_from_scratch_has_one_layer_even_if_it_is_empty(store: Store) -> None:
    make_container(store, "scratch", "box")
    result = commit_container(store, "box", "nothing")
    assert len(layers(store, result)) == len(config(store, result)["rootfs"]["diff_ids"]) == 1
    assert not store.check(deep=True).problems


def test_the_config_is_the_bases_with_what_was_set(store: Store) -> None:
    image = random_image(1, labels={"keep": "it"})
    record = container(store, image)
    path = record.directory / "kstore.json"
    document = json.loads(path.read_bytes())
    document["config"]["x-later"] = {"kept": True}
    path.write_text(json.dumps(document))
    edits = ConfigEdits(
        author="me", labels=["new=1"], created_by="make", comment="why", annotations=["a=b"]
    )
    configure_container(store, "box", edits)
    make_tree(record.upper, {"x": b""})
    result = commit_container(store, "box", "app", DATED)
    made_config, base = config(store, result), json.loads(image.config)
    assert made_config["x-later"] == {"kept": True}
    assert made_config["config"]["Labels"] == {"keep": "it", "new": "1"}
    assert made_config["created"] == "2024-05-06T07:08:09Z"
    assert made_config["history"][:-1] == (base.get("history") or [])
    assert made_config["history"][-1] == {
        "created": "2024-05-06T07:08:09Z",
        "created_by": "make",
        "author": "me",
        "comment": "why",
    }
    assert made_config["rootfs"]["diff_ids"][:-1] == base["rootfs"]["diff_ids"]
    assert inspect_image(store, "app").manifest.annotations == {"a": "b"}
    message = CommitOptions(message="said now")
    again = commit_container(store, "box", None, message)
    assert config(store, again)["history"][-1]["comment"] == "said now"


def test_with_a_date_the_same_files_make_the_same_image(store: Store) -> None:
    put_image(store, random_image(1), "base")
    made_of = []
    for name in ("one", "two"):
        record = make_container(store, "base", name)
        (record.upper / "etc").mkdir()
        (record.upper / "etc/file").write_bytes(b"same")
        made_of.append(commit_container(store, name, None, DATED))
    assert made_of[0] == made_of[1]
    assert made_of[0].layer is not None
    plain = gzip.decompress(store.read_blob(made_of[0].layer.digest, cap=1 << 20))
    assert {member.mtime for member in members(plain).values()} == {int(MOMENT.timestamp())}


@pytest.mark.parametrize("base", ["oci", "docker"])
@pytest.mark.parametrize("form", ["oci", "docker"])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_every_format_and_compression(store: Store, base: str, form: Any, compression: Any) -> None:
    record = container(store, docker=base == "docker")
    make_tree(record.upper, {"x": b"y" * 5000})
    options = CommitOptions(form=form, compression=compression)
    if (form, compression) == ("docker", "zstd"):
        with pytest.raises(UnsupportedError, match="zstd cannot go into a docker image"):
            commit_container(store, "box", "app", options)
        assert [str(name.name) for name in store.names()] == ["docker.io/library/base:latest"]
        return
    result = commit_container(store, "box", "app", options)
    raw = store.read_manifest(result.manifest)
    assert raw.media_type == (mt.DOCKER_MANIFEST if form == "docker" else mt.OCI_MANIFEST)
    manifest = parse_image(raw)
    types = [mt.layer_type(raw.media_type, kind) for kind in ("gzip", "gzip", compression)]
    assert [layer.media_type for layer in manifest.layers] == types
    assert result.layer is not None
    plain = decompressor(compression, store.open_blob(result.layer.digest), max_output=1 << 20)
    assert content(made(plain), "x") == b"y" * 5000
    plain.close()
    assert not store.check(deep=True).problems


def test_a_zstd_base_cannot_become_a_docker_image_but_squashed(store: Store) -> None:
    record = container(store, compression="zstd")
    make_tree(record.upper, {"x": b""})
    with pytest.raises(UnsupportedError, match="zstd"):
        commit_container(store, "box", None, CommitOptions(form="docker"))
    result = commit_container(store, "box", None, CommitOptions(form="docker", squash=True))
    assert len(layers(store, result)) == 1


def test_squashed_everything_is_one_layer(store: Store) -> None:
    record = container(store)
    make_tree(record.upper, {"etc/new": b"hi", "files/.wh.0": b""})
    result = commit_container(store, "box", "app", CommitOptions(squash=True, timestamp=MOMENT))
    assert result.layer is not None
    plain = gzip.decompress(store.read_blob(result.layer.digest, cap=1 << 20))
    assert sorted(members(plain)) == ["etc", "etc/new", "files", "files/1"]
    found = config(store, result)
    assert len(found["rootfs"]["diff_ids"]) == 1
    assert [bool(entry.get("empty_layer")) for entry in found["history"]] == [
        *(True for _ in found["history"][:-1]),
        False,
    ]
    assert not store.check(deep=True).problems
    assert commit_container(store, "box", "app", CommitOptions(squash=True, timestamp=MOMENT)) == (
        result
    )


def test_what_was_committed_can_be_begun_with_again(store: Store) -> None:
    record = container(store)
    make_tree(record.upper, {"one": b"1"})
    commit_container(store, "box", "step:1")
    second = make_container(store, "localhost/step:1", "next")
    make_tree(second.upper, {"two": b"2"})
    result = commit_container(store, "next", "step:2")
    assert len(layers(store, result)) == 4
    assert not store.check(deep=True).problems


def test_progress_adds_up_to_the_layers_tar(store: Store) -> None:
    record = container(store)
    make_tree(record.upper, {"x": b"y" * 3_000_000})
    told: list[int] = []
    result = commit_container(store, "box", None, progress=told.append)
    assert result.layer is not None
    plain = gzip.decompress(store.read_blob(result.layer.digest, cap=1 << 24))
    assert sum(told) == len(plain)


# ---- failures


def failed(store: Store, record: ContainerRecord) -> None:
    """Nothing of a commit is visible."""
    assert [str(name.name) for name in store.names()] == ["docker.io/library/base:latest"]
    assert len(store.images()) == 1
    assert listing(store.root / "ingest") == []


def test_a_wrong_name_shows_before_anything_is_done(store: Store) -> None:
    with pytest.raises(InvalidReferenceError):
        commit_container(store, "nobody", "Not A Name")
    with pytest.raises(InvalidInputError, match="the message"):
        commit_container(store, "nobody", None, CommitOptions(message="caf\udce9"))


def test_a_cancelled_commit_makes_no_image(store: Store) -> None:
    record = container(store)
    make_tree(record.upper, {"x": b"y" * 3_000_000})
    cancel = Cancel()
    with pytest.raises(CancelledError):
        commit_container(store, "box", "app", progress=lambda _: cancel.cancel(), cancel=cancel)
    failed(store, record)


def test_a_file_that_changes_meanwhile_makes_no_image(store: Store) -> None:
    record = container(store)
    make_tree(record.upper, {"x": b"y" * 3_000_000})

    def grow(_: int) -> None:
        with (record.upper / "x").open("ab") as file:
            file.write(b"more")

    with pytest.raises(ConflictError, match="x changed while it was read"):
        commit_container(store, "box", "app", progress=grow)
    failed(store, record)


def test_a_container_whose_image_is_gone_says_so(store: Store) -> None:
    record = container(store)
    assert record.image_id is not None
    store.remove_image(record.image_id, force=True)
    with pytest.raises(ImageNotFoundError, match="of container box is gone") as caught:
        commit_container(store, "box", "app")
    assert caught.value.exit_code == 3


def test_a_container_without_its_files_says_so(store: Store) -> None:
    record = container(store)
    record.upper.rmdir()
    with pytest.raises(StoreDamagedError, match="cannot read the files of container box"):
        commit_container(store, "box", "app")
    failed(store, record)


def test_a_base_with_a_damaged_layer_makes_no_image(store: Store) -> None:
    image = random_image(1)
    record = container(store, image)
    blob = store.root / "blobs" / "sha256" / image.layers[0].digest.hex
    blob.chmod(0o600)
    blob.write_bytes(b"\x1f\x8bnot a layer any more")
    make_tree(record.upper, {"x": b""})
    for squash in (False, True):
        with pytest.raises((StoreDamagedError, IntegrityError)):
            commit_container(store, "box", "app", CommitOptions(squash=squash))
    assert store.name(parse_name("localhost/app:latest")) is None


def parse_name(text: str) -> Any:
    from kstore.reference import Named

    return Named.parse(text)


def test_a_removal_that_is_none_is_named(store: Store, tmp_path: Path) -> None:
    record = container(store)
    make_tree(record.upper, {".wh.x": b"not empty"})
    with pytest.raises(InvalidInputError, match=r"upper/\.wh\.x is no removal"):
        commit_container(store, "box", "app")
    failed(store, record)
