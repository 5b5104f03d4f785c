"""What users look at: diff, tree, log, search, inspect, info, and help for mistyped names."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import kstore as kstore_package
from kstore.operations.info import LIBRARIES
from kstore.store import Store
from tests.support.cli import Result, run, run_process
from tests.support.images import random_image
from tests.support.layers import directory, file, image_of, layer
from tests.support.localregistry import serve
from tests.support.stores import put_image

BASE = layer(directory("etc"), file("etc/passwd", b"root"), file("etc/old"))
TOP = layer(directory("etc"), file("etc/passwd", b"two"), file("etc/.wh.old"), file("new\x1b[31m"))
APP, OLDER = image_of(BASE, TOP), image_of(BASE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with two images that share a layer; app was base before."""
    root = tmp_path / "root"
    with Store.open(root, command="test") as store:
        put_image(store, OLDER, "localhost/base", "localhost/app")
        put_image(store, APP, "localhost/app")
    return root


def kstore(root: Path, *args: object) -> Result:
    return run("--root", root, *args)


def shown(root: Path, *args: object) -> str:
    result = kstore(root, *args)
    assert (result.code, result.err) == (0, "")
    return result.out


def loaded(root: Path, *args: object) -> Any:
    return json.loads(shown(root, *args))


# ---- diff


def test_diff_tells_what_the_top_layer_does(root: Path) -> None:
    told = ["C /etc", "D /etc/old", "C /etc/passwd", r"A /new\x1b[31m"]
    assert shown(root, "diff", "app").splitlines() == told
    assert shown(root, "diff", "base", "app").splitlines() == told


def test_diff_as_json_has_the_keys_of_podman(root: Path) -> None:
    assert loaded(root, "diff", "--format", "json", "app") == {
        "changed": ["/etc", "/etc/passwd"],
        "added": ["/new\x1b[31m"],
        "deleted": ["/etc/old"],
    }
    assert loaded(root, "diff", "--format", "json", "app", "app") == {
        "changed": [],
        "added": [],
        "deleted": [],
    }


def test_diff_takes_templates_and_refuses_unknown_fields(root: Path) -> None:
    assert shown(root, "diff", "--format", "{{.Path}}:{{.Kind}}", "base").splitlines() == [
        "/etc:A",
        "/etc/old:A",
        "/etc/passwd:A",
    ]
    result = kstore(root, "diff", "--format", "{{.Nope}}", "app")
    assert result.code == 2
    assert "no field 'Nope'" in result.err


# ---- tree


def test_tree_draws_layers_and_who_shares_them(root: Path) -> None:
    lines = shown(root, "tree", "app").splitlines()
    assert lines[0] == f"Image ID:   {APP.id[:12]}"
    assert lines[1] == "Names:      localhost/app:latest"
    base, top = lines[-2:]
    assert base.startswith(f"├── {APP.layers[0].digest.short}   ")
    assert base.endswith("step 0   shared with localhost/base:latest")
    assert top.startswith(f"└── {APP.layers[1].digest.short}   ")
    assert top.endswith("step 1")


def test_tree_draws_with_ascii_where_the_output_has_nothing_else(root: Path) -> None:
    result = run_process("--root", root, "tree", "app", env={"PYTHONIOENCODING": "ascii"})
    assert [line[:4] for line in result.out.splitlines()[-2:]] == ["|-- ", "`-- "]


def test_tree_as_json_has_every_number(root: Path) -> None:
    tree = loaded(root, "tree", "--format", "json", "app")
    assert (tree["id"], tree["names"]) == (APP.id, ["localhost/app:latest"])
    assert [layer["size"] for layer in tree["layers"]] == [layer.size for layer in APP.layers]
    assert tree["layers"][0]["sharedWith"] == [{"id": OLDER.id, "names": ["localhost/base:latest"]}]
    assert tree["uniqueSize"] == tree["size"] - APP.layers[0].size


def test_tree_of_many_sharers_names_three(root: Path) -> None:
    with Store.open(root) as store:
        for number in range(4):
            put_image(store, image_of(BASE, name=str(number)), f"localhost/more{number}")
    line = shown(root, "tree", "app").splitlines()[-2]
    assert line.count("localhost/") == 3
    assert line.endswith(" and 2 others")
    assert shown(root, "tree", "--no-trunc", "app").splitlines()[-2].count("localhost/") == 5


# ---- log, tag --restore


def test_log_shows_where_a_name_pointed_and_restore_goes_back(root: Path) -> None:
    table = shown(root, "log", "app").splitlines()
    assert table[0].split("   ")[0] == "NAME"
    assert [re.split(" {3,}", line)[:3] for line in table[1:]] == [
        ["localhost/app:latest@{0}", APP.raw.digest.short, APP.id[:12]],
        ["localhost/app:latest@{1}", OLDER.raw.digest.short, OLDER.id[:12]],
    ]
    out = shown(root, "tag", "--restore", "app@{1}")
    assert out == f"localhost/app:latest is {OLDER.raw.digest}\n"
    assert shown(root, "inspect", "--format", "{{.Id}}", "app") == f"{OLDER.id}\n"
    [newest, *_] = loaded(root, "log", "--format", "json", "app")
    assert (newest["command"], newest["id"]) == ("tag --restore", OLDER.id)


def test_log_says_what_is_gone(root: Path) -> None:
    shown(root, "tag", "--restore", "app@{0}", "kept")
    shown(root, "rmi", "--force", APP.id)
    rows = loaded(root, "log", "--format", "json", "app")
    assert [(row["number"], row["target"] is None, row["restorable"]) for row in rows] == [
        (0, True, False),
        (1, False, False),
        (2, False, True),
    ]
    assert "gone" in shown(root, "log", "app").splitlines()[2]
    result = kstore(root, "tag", "--restore", "app@{1}")
    assert result.code == 3
    assert "no longer in the store" in result.err


def test_log_of_everything_can_be_limited(root: Path) -> None:
    assert len(shown(root, "log").splitlines()) == 4
    assert len(shown(root, "log", "-n", 2, "--format", "{{.Place}}").splitlines()) == 2


def test_tag_without_a_name_is_a_mistake_of_the_command_line(root: Path) -> None:
    result = kstore(root, "tag", "app")
    assert result.code == 2
    assert "missing argument 'NAME...'" in result.err


# ---- inspect, history, images, info


def test_inspect_has_the_fields_podman_users_ask_for(root: Path) -> None:
    form = "{{.Id}} {{.RepoTags}} {{.Os}} {{.User}} {{.Version}} {{.Parent}} {{.Labels.name}}"
    assert shown(root, "inspect", "--format", form, "app").split() == [
        APP.id,
        "[localhost/app:latest]",
        "linux",
        "image",
    ]


def test_inspect_can_show_the_object_of_kpod(root: Path) -> None:
    found = loaded(root, "inspect", "--format", "kpod-json", "app")
    assert (found["ID"], found["OS"], found["Tags"]) == (APP.id, "linux", ["localhost/app:latest"])
    assert found["CreatedBy"] == "step 1"
    assert found["Config"] == {"Labels": {"name": "image"}}
    assert [text[:7] for text in found["RootFS"]["diff_ids"]] == ["sha256:"] * 2
    assert found["Size"] == found["VirtualSize"]
    result = kstore(root, "inspect", "--format", "kpod-json", "app", "base")
    assert (result.code, result.out) == (2, "")


@pytest.mark.parametrize(
    ("command", "template", "text"),
    [
        ("images", "{{.Names}} {{.Dangling}}", "[localhost/app:latest] false"),
        ("images", "{{.RepoTags}} {{.Containers}} {{.ReadOnly}}", "[localhost/app:latest] 0 false"),
        ("images", "{{.IsManifestList}}{{eq .VirtualSize .Bytes}}{{.ParentId}}", "falsetrue"),
        ("images", "{{len .Digests}} {{len .RepoDigests}}{{.CreatedTime}}", "1 1"),
        ("images", "{{.History}} {{gt .SharedSize 0}}", "localhost/app:latest true"),
        ("inspect", "{{.NamesHistory}}", "[localhost/app:latest]"),
        ("history", "{{.Tags}}", "[localhost/app:latest]"),
        ("inspect", "{{eq .Size .VirtualSize}} {{.GraphDriver.Name}}", "true kstore"),
        ("inspect", "{{if .UnpackedSize}}known{{else}}not known{{end}}", "not known"),
        ("history", "{{.CreatedBy}} {{.CreatedSince}}", "step 1 unknown"),
    ],
)
def test_more_fields_for_templates(root: Path, command: str, template: str, text: str) -> None:
    assert shown(root, command, "--format", template, "app").splitlines()[0] == text


def test_info_knows_the_names_of_podman_in_templates_only(root: Path) -> None:
    form = "{{.Store.GraphRoot}} {{.Store.ImageStore.Number}} {{gt .Host.MemTotal 0}}"
    assert shown(root, "info", "--format", form) == f"{root} 2 true\n"
    assert shown(root, "info", "--format", "{{.Store.RunRoot}}") == f"{root}\n"
    form = "{{.Store.GraphDriverName}} {{.Store.ContainerStore.Number}} {{gt .Host.Uptime 0}}"
    assert shown(root, "info", "--format", form) == "kstore 0 true\n"
    facts = loaded(root, "info", "--format", "json")
    assert set(facts) == {"host", "store", "versions"}
    assert "GraphRoot" not in facts["store"]
    assert facts["host"]["uptime_seconds"] > 0


@pytest.mark.parametrize("option", ["--debug", "-D"])
def test_info_tells_what_kstore_is_made_of_when_that_is_asked_for(root: Path, option: str) -> None:
    debug = loaded(root, "info", option, "--format", "json")["debug"]
    assert debug["libraries"]["click"] == metadata.version("click")
    assert f"  implementation: {debug['implementation']}\n" in shown(root, "info", option)
    assert shown(root, "info", option, "--format", "{{.Debug.Compiler}}").strip()


def test_info_knows_every_library_that_is_needed() -> None:
    project = Path(kstore_package.__file__).parents[1] / "pyproject.toml"
    needed = tomllib.loads(project.read_text())["project"]["dependencies"]
    assert {re.split("[<>=;]", text)[0] for text in needed} == set(LIBRARIES)


# ---- working containers


def test_a_container_is_inspected_before_an_image_of_that_name(root: Path) -> None:
    shown(root, "from", "app", "--name", "base")
    [container] = loaded(root, "inspect", "base")
    assert (container["Name"], container["Image"]) == ("base", APP.id)
    assert container["ImageName"] == "localhost/app:latest"
    assert container["Labels"] == {"name": "image"}
    assert Path(container["GraphDriver"]["Data"]["UpperDir"]).is_dir()
    [image] = loaded(root, "inspect", "--type", "image", "base")
    assert image["Id"] == OLDER.id
    assert loaded(root, "inspect", "-t", "container", container["Id"][:12]) == [container]
    assert kstore(root, "inspect", "-t", "container", "app").code == 3
    assert kstore(root, "inspect", "-t", "pod", "app").code == 2


def test_diff_of_a_container_tells_what_was_done_in_it(root: Path) -> None:
    shown(root, "from", "app", "--name", "work")
    [container] = loaded(root, "inspect", "work")
    upper = Path(container["GraphDriver"]["Data"]["UpperDir"])
    assert shown(root, "diff", "work") == ""
    (upper / "srv").mkdir()
    (upper / "srv" / "page").write_text("hello")
    (upper / ".wh.etc").touch()
    assert shown(root, "diff", "work").splitlines() == ["D /etc", "A /srv", "A /srv/page"]
    shown(root, "from", "scratch", "--name", "empty")
    assert shown(root, "diff", "empty") == ""
    result = kstore(root, "diff", "nothing")
    assert result.code == 3
    assert "no image 'nothing'" in result.err


def test_a_listing_counts_working_containers(root: Path) -> None:
    for _ in range(2):
        shown(root, "from", "app")
    form = ("--format", "{{.Name}} {{.Containers}}")
    assert shown(root, "images", *form).splitlines() == [
        "localhost/app:latest 2",
        "localhost/base:latest 0",
    ]
    assert loaded(root, "info", "--format", "json")["store"]["containers"] == 2
    names = "{{.ContainerName}}={{.Names}} {{.Image}} {{eq .ID .ContainerID}}"
    assert shown(root, "containers", "--format", names).splitlines()[0] == (
        "app-working-container=app-working-container localhost/app:latest true"
    )


def test_the_unpacked_size_is_known_of_plain_layers_and_told_of_others(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, image_of(BASE, TOP, compression="none"), "localhost/plain")
    whole = len(BASE) + len(TOP)
    form = ("--format", "{{.UnpackedSize}}")
    assert shown(root, "inspect", *form, "plain", "app").split("\n")[:2] == [str(whole), ""]
    assert shown(root, "inspect", "--size", *form, "plain", "app").split() == [str(whole)] * 2
    result = kstore(root, "inspect", "--size", "docker://localhost/app")
    assert result.code == 2
    assert "--size is for what is in the store" in result.err


# ---- search


def test_search_asks_a_registry_for_its_catalog(root: Path, tmp_path: Path) -> None:
    with serve(tmp_path / "registry") as registry:
        registry.push("team/app", "1", random_image(1))
        registry.push("team/app", "2", random_image(2))
        registry.push("tools", "1", random_image(1))
        host = registry.host
        asked = ("search", "--tls-verify=false")
        table = shown(root, *asked, f"{host}/app").splitlines()
        assert [line.split() for line in table] == [
            ["NAME", "STARS", "OFFICIAL", "DESCRIPTION"],
            [f"{host}/team/app"],
        ]
        [found] = loaded(root, *asked, "--format", "json", "--registry", host, "tools")
        assert (found["Name"], found["Stars"]) == (f"{host}/tools", None)
        assert shown(root, *asked, f"{host}/nothing") == ""
        assert loaded(root, *asked, "--format", "json", f"{host}/nothing") == []
        tags = shown(root, *asked, "--list-tags", f"{host}/team/app").splitlines()[1:]
        assert [line.split() for line in tags] == [[f"{host}/team/app", tag] for tag in "12"]
        form = ("--format", "{{.Name}}:{{.Tag}}", "--limit", 1)
        assert shown(root, *asked, "--list-tags", *form, f"{host}/team/app").endswith("app:1\n")


def test_search_says_what_it_does_not_understand(root: Path) -> None:
    result = kstore(root, "search", "--filter", "nope=1", "x")
    assert (result.code, result.out) == (2, "")
    assert "unknown filter 'nope'" in result.err
    assert kstore(root, "search", "--list-tags", "--filter", "stars=1", "x").code == 2


# ---- mistakes


def test_a_near_name_is_offered(root: Path) -> None:
    result = kstore(root, "inspect", "--format", "{{.Id}}", "bace")
    assert (result.code, result.err) == (
        3,
        "kstore: no image 'bace' in the store\nhint: did you mean localhost/base:latest?\n",
    )


def test_a_mistyped_command_or_option_is_guessed(root: Path) -> None:
    assert "did you mean 'inspect'?" in kstore(root, "inspekt").err
    assert "--format" in kstore(root, "images", "--formt", "json").err.splitlines()[1]
