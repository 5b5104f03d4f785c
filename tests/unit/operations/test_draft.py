"""The settings of a container, before they are an image's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kstore.errors import IntegrityError, InvalidInputError, KstoreError, StoreDamagedError
from kstore.operations.configure import ConfigEdits, configure_container
from kstore.operations.draft import Draft, DraftData
from kstore.operations.working import make_container
from kstore.platforms import host_platform
from kstore.store import ContainerRecord, Store
from tests.support.images import random_image
from tests.support.stores import put_image


@pytest.fixture
def box(store: Store) -> ContainerRecord:
    return make_container(store, "scratch", "box")


def changed(store: Store, **edits: Any) -> dict[str, Any]:
    """The ``config`` object after some edits."""
    data = configure_container(store, "box", ConfigEdits(**edits))
    assert data == Draft.of_container(store.containers.find("box")).data, "what is told was saved"
    return dict(data.config.get("config") or {})


def test_a_draft_from_scratch_is_for_this_machine(box: ContainerRecord) -> None:
    data = Draft.of_container(box).data
    assert (data.container_id, data.container_name) == (box.id, "box")
    assert (data.image, data.image_id, data.created_by) == (None, None, None)
    platform = host_platform()
    assert (data.view.platform.os, data.view.platform.architecture) == (
        platform.os,
        platform.architecture,
    )
    assert Draft.of_container(box).work_dir == "/"


def test_a_draft_of_an_image_knows_where_it_came_from(store: Store) -> None:
    image = random_image(1, labels={"a": "b"})
    put_image(store, image, "app")
    draft = Draft.of_image(store, store.find_image("app"))
    assert (draft.data.image, draft.data.image_id) == ("docker.io/library/app:latest", image.id)
    assert draft.data.config == json.loads(image.config)
    with pytest.raises(InvalidInputError, match="belongs to no container"):
        draft.save()


def test_a_snapshot_does_not_change_with_the_draft(box: ContainerRecord) -> None:
    draft = Draft.of_container(box)
    before = draft.data
    draft.author = "me"
    draft.annotations["x"] = "y"  # a copy: this changes nothing
    draft.set_annotation("k", "v")
    assert isinstance(before, DraftData)
    assert ("author" in before.config, dict(before.annotations)) == (False, {})
    assert draft.data.annotations == {"k": "v"}


@pytest.mark.parametrize("setting", ["os", "architecture", "author", "work_dir", "created_by"])
def test_what_is_set_is_there_after_saving(box: ContainerRecord, setting: str) -> None:
    draft = Draft.of_container(box)
    setattr(draft, setting, "/value")
    draft.save()
    assert getattr(Draft.of_container(box), setting) == "/value"


def test_keys_that_nobody_knows_survive(store: Store, box: ContainerRecord) -> None:
    path = box.directory / "kstore.json"
    document = json.loads(path.read_bytes())
    document["later"] = {"a": [1]}
    document["config"]["x-tool"] = [None, 1.5, 2**60 + 1]
    document["config"]["config"] = {"Healthcheck": {"Test": ["NONE"]}, "Labels": None}
    path.write_text(json.dumps(document))
    changed(store, user="me", labels=["a=b"])
    after = json.loads(path.read_bytes())
    assert after["later"] == {"a": [1]}
    assert after["config"]["x-tool"] == [None, 1.5, 2**60 + 1]
    assert after["config"]["config"] == {
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {"a": "b"},
        "User": "me",
    }
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "text",
    ["caf\udce9", "a\0b"],
    ids=["not UTF-8", "zero byte"],
)
@pytest.mark.parametrize(
    "edit",
    [
        {"author": "{}"},
        {"user": "{}"},
        {"cmd": "{}"},
        {"env": ["A={}"]},
        {"labels": ["{}=x"]},
        {"annotations": ["k={}"]},
        {"volumes": ["/{}"]},
        {"comment": "{}"},
        {"os": "{}"},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_texts_no_config_can_hold_are_refused_and_nothing_changes(
    store: Store, box: ContainerRecord, edit: dict[str, Any], text: str
) -> None:
    before = (box.directory / "kstore.json").read_bytes()
    [(key, value)] = edit.items()
    said = value.replace("{}", text) if isinstance(value, str) else [value[0].replace("{}", text)]
    with pytest.raises(InvalidInputError):
        configure_container(store, "box", ConfigEdits(**{"arch": "arm64", key: said}))
    assert (box.directory / "kstore.json").read_bytes() == before


# ---- what the command line says


def test_environment_labels_and_annotations_are_set_and_unset(
    store: Store, box: ContainerRecord
) -> None:
    assert changed(store, env=["A=1", "B=2=3", "C="])["Env"] == ["A=1", "B=2=3", "C="]
    assert changed(store, env=["A=9", "B-"])["Env"] == ["A=9", "C="]
    assert "Env" not in changed(store, env=["A-", "C-"])
    assert changed(store, labels=["a=b", "c=d"])["Labels"] == {"a": "b", "c": "d"}
    assert "Labels" not in changed(store, labels=["-"])
    configure_container(store, "box", ConfigEdits(annotations=["k=v", "l=w"]))
    configure_container(store, "box", ConfigEdits(annotations=["k-"]))
    assert Draft.of_container(box).annotations == {"l": "w"}
    configure_container(store, "box", ConfigEdits(annotations=["-"]))
    assert Draft.of_container(box).annotations == {}


def test_commands_are_words_arrays_or_for_the_shell(store: Store, box: ContainerRecord) -> None:
    assert changed(store, cmd="httpd -f 'a b'")["Cmd"] == ["httpd", "-f", "a b"]
    assert changed(store, cmd='["a b"]')["Cmd"] == ["a b"]
    run = changed(store, entrypoint="exec x")
    assert (run["Entrypoint"], "Cmd" in run) == (["/bin/sh", "-c", "exec x"], False)
    run = changed(store, entrypoint='["/x"]', cmd="y")
    assert (run["Entrypoint"], run["Cmd"]) == (["/x"], ["y"])
    assert changed(store, entrypoint="", cmd="") == {}


def test_ports_and_volumes_come_and_go(store: Store, box: ContainerRecord) -> None:
    run = changed(store, ports=["80", "53/udp"], volumes=["/data", "/a b"])
    assert run == {
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Volumes": {"/data": {}, "/a b": {}},
    }
    assert changed(store, ports=["80-", "53/udp-"], volumes=["/data-"]) == {"Volumes": {"/a b": {}}}
    assert changed(store, volumes=["-"]) == {}


def test_an_empty_text_takes_a_setting_away(store: Store, box: ContainerRecord) -> None:
    texts = {"user": "1", "work_dir": "/x", "stop_signal": "9"}
    assert changed(store, **texts) == {"User": "1", "WorkingDir": "/x", "StopSignal": "9"}
    assert changed(store, **dict.fromkeys(texts, "")) == {}


@pytest.mark.parametrize(
    "edit",
    [
        {"env": ["novalue"]},
        {"env": ["=x"]},
        {"labels": ["x"]},
        {"cmd": '["a", 1]'},
        {"cmd": "[no"},
        {"cmd": "'open"},
        {"entrypoint": "[1]"},
        {"ports": ["http"]},
        {"ports": ["99999"]},
        {"volumes": ["data"]},
        {"os": ""},
        {"arch": ""},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(
    store: Store, box: ContainerRecord, edit: dict[str, Any]
) -> None:
    before = (box.directory / "kstore.json").read_bytes()
    with pytest.raises(InvalidInputError):
        changed(store, **edit)
    assert (box.directory / "kstore.json").read_bytes() == before


# ---- foreign or damaged


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"[]",
        b"\xff",
        b'{"type":"kpod 0.0.1","config":{}}',
        b'{"type":"kstore container 1"}',
        b'{"type":"kstore container 1","config":[]}',
        b'{"type":"kstore container 1","config":{"config":{"Env":"A=1"}}}',
        b'{"type":"kstore container 1","config":{"config":{"Labels":{"a":1}}}}',
        b'{"type":"kstore container 1","config":{"history":{}}}',
        b'{"type":"kstore container 1","config":{},"annotations":{"a":1}}',
        b'{"type":"kstore container 1","config":{},"created-by":1}',
        b'{"type":"kstore container 1","config":{"os":1}}',
        b"[" * 100_000,
        b" " * (9 << 20),
    ],
    ids=lambda content: content[:60].decode(errors="replace"),
)
def test_a_damaged_description_is_one_sentence_naming_the_container(
    box: ContainerRecord, content: bytes
) -> None:
    (box.directory / "kstore.json").write_bytes(content)
    with pytest.raises(IntegrityError, match="container box"):
        Draft.of_container(box)


@pytest.mark.parametrize("kind", ["missing", "link", "directory"])
def test_a_description_that_is_no_file_is_damage(box: ContainerRecord, kind: str) -> None:
    path = box.directory / "kstore.json"
    path.rename(box.directory / "elsewhere")
    if kind == "link":
        path.symlink_to("elsewhere")
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(StoreDamagedError, match=r"cannot read kstore\.json of container box"):
        Draft.of_container(box)


def test_settings_beyond_the_limit_are_refused(store: Store, box: ContainerRecord) -> None:
    with pytest.raises(KstoreError, match="limit"):
        configure_container(store, "box", ConfigEdits(author="x" * (9 << 20)))
    assert Draft.of_container(box).author is None
