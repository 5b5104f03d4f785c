"""Working containers as a user works with them: from, add, config, commit, containers, rm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kstore.store import Store
from tests.support.cli import Result, run, run_process
from tests.support.layers import directory, file, image_of, layer
from tests.support.stores import put_image

BASE = image_of(layer(directory("etc"), file("etc/motd", b"old"), file("etc/gone")))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with the image localhost/base."""
    root = tmp_path / "root"
    with Store.open(root, command="test") as store:
        put_image(store, BASE, "localhost/base")
    return root


@pytest.fixture
def box(root: Path) -> Path:
    """The writable layer of the container box, made from localhost/base."""
    done(root, "from", "--name", "box", "base")
    return Path(inspected(root, "box")["GraphDriver"]["Data"]["UpperDir"])


def kstore(root: Path, *args: object) -> Result:
    return run("--root", root, *args)


def done(root: Path, *args: object) -> str:
    result = kstore(root, *args)
    assert result.code == 0, result.err
    return result.out


def inspected(root: Path, text: str) -> dict[str, Any]:
    [found] = json.loads(done(root, "inspect", text))
    return dict(found)


def test_from_an_image_to_the_next_one(root: Path, tmp_path: Path) -> None:
    motd = tmp_path / "motd"
    motd.write_text("new")
    name = done(root, "from", "base").strip()
    assert name == "base-working-container"
    done(root, "add", name, motd, "/etc/")
    done(root, "config", "--env", "LANG=C", "--cmd", "run it", "--label", "a=1", name)
    result = kstore(root, "commit", name, "next")
    assert result.err.startswith("committed localhost/next:latest: ")
    image = inspected(root, "next")
    assert result.out == f"{image['Id']}\n"
    assert image["Config"] == {
        "Labels": {"name": "image", "a": "1"},
        "Env": ["LANG=C"],
        "Cmd": ["run", "it"],
    }
    assert [layer["Digest"] for layer in image["Layers"][:-1]] == [
        str(layer.digest) for layer in BASE.layers
    ]
    assert done(root, "diff", "next").splitlines() == ["C /etc/motd"]
    done(root, "rm", name)
    assert done(root, "containers", "-q") == ""


@pytest.mark.parametrize(
    ("option", "value", "place", "expected", "unset"),
    [
        ("--author", "me", ("Author",), "me", ""),
        ("--cmd", "httpd -f", ("Config", "Cmd"), ["httpd", "-f"], ""),
        ("--entrypoint", '["/init"]', ("Config", "Entrypoint"), ["/init"], ""),
        ("--env", "A=1", ("Config", "Env"), ["A=1"], "A-"),
        ("--label", "a=1", ("Config", "Labels", "a"), "1", "a-"),
        ("--annotation", "a=1", ("Annotations", "a"), "1", "a-"),
        ("--port", "80", ("Config", "ExposedPorts"), {"80/tcp": {}}, "80-"),
        ("--volume", "/data", ("Config", "Volumes"), {"/data": {}}, "/data-"),
        ("--user", "me:us", ("Config", "User"), "me:us", ""),
        ("--workingdir", "/srv", ("Config", "WorkingDir"), "/srv", ""),
        ("--stop-signal", "SIGINT", ("Config", "StopSignal"), "SIGINT", ""),
        ("--created-by", "make", ("CreatedBy",), "make", ""),
        ("--history-comment", "why", ("Comment",), "why", ""),
        ("--os", "freebsd", ("Os",), "freebsd", None),
        ("--arch", "riscv64", ("Architecture",), "riscv64", None),
    ],
)
def test_every_setting_is_set_and_unset(
    root: Path,
    box: Path,
    option: str,
    value: str,
    place: tuple[str, ...],
    expected: object,
    unset: str | None,
) -> None:
    def found() -> object:
        step: Any = inspected(root, "box")
        for key in place:
            step = step.get(key)
            if step is None:
                return None
        return step

    before = found()
    done(root, "config", option, value, "box")
    assert found() == expected
    if unset is None:
        assert kstore(root, "config", option, "", "box").code == 2
        assert found() == expected
    else:
        done(root, "config", option, unset, "box")
        assert (found() or None) == (before or None)


def test_commits_of_one_date_are_one_image_also_by_the_environment(root: Path, box: Path) -> None:
    (box / "file").write_text("hello")
    first = done(root, "commit", "-q", "--timestamp", 86400, "box")
    environment = run_process(
        "--root", root, "commit", "-q", "box", env={"SOURCE_DATE_EPOCH": "86400"}
    )
    assert (environment.code, environment.out) == (0, first)
    option = run_process(
        *("--root", root, "commit", "-q", "--timestamp", "86400", "box"),
        env={"SOURCE_DATE_EPOCH": "7"},
    )
    assert option.out == first
    assert inspected(root, first.strip())["Created"] == "1970-01-02T00:00:00Z"


def test_a_date_of_the_environment_that_is_none_is_named(root: Path, box: Path) -> None:
    result = run_process("--root", root, "commit", "box", env={"SOURCE_DATE_EPOCH": "today"})
    assert result.code == 2
    assert "SOURCE_DATE_EPOCH" in result.err
    assert "'today'" in result.err


def test_inspect_tells_sizes_that_were_asked_for(root: Path, box: Path) -> None:
    (box / "one").write_bytes(b"x" * 1000)
    (box / "same").hardlink_to(box / "one")
    (box / "below").mkdir()
    (box / "below" / "two").write_bytes(b"x" * 10)
    assert "SizeRw" not in inspected(root, "box")
    [found] = json.loads(done(root, "inspect", "--size", "box"))
    assert found["SizeRw"] == 1010


def test_keys_that_nobody_knows_survive_to_the_image(root: Path, box: Path) -> None:
    path = box.parent / "kstore.json"
    document = json.loads(path.read_bytes())
    document["config"]["x-outer"] = [1, {"deep": None}]
    document["config"]["config"]["Healthcheck"] = {"Test": ["CMD", "true"], "x": 1.5}
    path.write_text(json.dumps(document))
    done(root, "config", "--user", "me", "box")
    done(root, "commit", "-q", "box", "next")
    config = json.loads(done(root, "inspect", "--config", "next"))
    assert config["x-outer"] == [1, {"deep": None}]
    assert config["config"]["Healthcheck"] == {"Test": ["CMD", "true"], "x": 1.5}


# ---- bad input


def test_a_container_whose_image_is_gone_is_listed_and_removed_but_not_committed(
    root: Path, box: Path
) -> None:
    done(root, "rmi", "--force", BASE.id)
    row = done(root, "containers", "--noheading").split("   ")
    assert [cell.strip() for cell in row if cell.strip()][2] == "<none>"
    assert inspected(root, "box")["Image"] == BASE.id
    done(root, "config", "--user", "me", "box")
    for command in (["commit", "box", "next"], ["diff", "box"], ["add", "box", __file__, "/"]):
        result = kstore(root, *command)
        assert (result.code, result.out) == (3, ""), command
        assert f"the image {BASE.id[:12]} of container box is gone" in result.err
    done(root, "rm", "box")
    assert list((root / "containers").iterdir()) == []


def test_damaged_settings_stop_what_needs_them_and_nothing_else(root: Path, box: Path) -> None:
    (box.parent / "kstore.json").write_text('{"type":"kpod 0.0.1"}')
    assert done(root, "containers", "--format", "{{.Name}}") == "box\n"
    for command in (["config", "--user", "me", "box"], ["commit", "box"], ["inspect", "box"]):
        result = kstore(root, *command)
        assert (result.code, result.out.strip("[]\n")) == (5, ""), command
        assert "kstore.json of container box is of the unknown type" in result.err
        assert "Traceback" not in result.err
    done(root, "rm", "box")


def test_what_does_not_belong_among_the_containers_is_left_alone(root: Path, box: Path) -> None:
    (root / "containers" / "notes").mkdir()
    (root / "containers" / "file").write_text("mine")
    assert done(root, "containers", "--format", "{{.Name}}") == "box\n"
    done(root, "prune")
    assert (root / "containers" / "notes").exists()
    assert (root / "containers" / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "option", ["--author", "--cmd", "--user", "--created-by", "--history-comment", "--workingdir"]
)
def test_a_setting_that_is_not_utf8_is_refused_and_nothing_changes(
    root: Path, box: Path, option: str
) -> None:
    before = (box.parent / "kstore.json").read_bytes()
    result = run_process("--root", root, "config", option, "caf\udce9", "box")
    assert result.code == 2
    assert "is not UTF-8" in result.err
    assert (box.parent / "kstore.json").read_bytes() == before


@pytest.mark.unprivileged
@pytest.mark.parametrize(
    ("place", "command"),
    [
        ("containers", ["from", "scratch"]),
        ("containers/*", ["config", "--user", "me", "box"]),
        ("containers/*/upper", ["add", "box", __file__, "/"]),
    ],
    ids=["from", "config", "add"],
)
def test_a_directory_that_cannot_be_written_to_is_named(
    root: Path, box: Path, place: str, command: list[str]
) -> None:
    [denied] = root.glob(place)
    denied.chmod(0o500)
    try:
        result = kstore(root, *command)
    finally:
        denied.chmod(0o700)
    assert (result.code, result.out) == (10, "")
    assert "Permission denied" in result.err
    assert str(denied) in result.err or "container box" in result.err
    assert "Traceback" not in result.err
