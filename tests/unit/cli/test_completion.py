from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import REPOSITORY, environment, run, run_process
from tests.support.images import layer_tar

SHELLS = {"bash": "kstore.bash", "zsh": "_kstore", "fish": "kstore.fish"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    tar = tmp_path / "rootfs.tar"
    tar.write_bytes(layer_tar({"file": b"content"}))
    root = tmp_path / "root"
    assert run("--root", root, "import", "-q", tar, "base:1").code == 0
    assert (
        run("--root", root, "tag", "base:1", "docker.io/library/busybox", "quay.io/a/b").code == 0
    )
    return root


def completed(line: str, root: Path) -> list[str]:
    """What bash is offered after ``line``; a blank at its end begins a new word."""
    result = run_process(
        env={
            "_KSTORE_COMPLETE": "bash_complete",
            "COMP_WORDS": f"kstore --root '{root}' {line}",
        }
    )
    assert (result.code, result.err) == (0, "")
    return [line.partition(",")[2] for line in result.out.splitlines() if line]


def test_commands_are_completed(root: Path) -> None:
    assert completed("im", root) == ["images", "import"]
    assert completed("ing", root) == ["ingest"]
    assert completed("ingest ", root) == ["ls", "rm"]


@pytest.mark.parametrize("command", ["save", "copy", "sync", "commit"])
def test_kinds_of_compression_are_completed(root: Path, command: str) -> None:
    assert completed(f"{command} --compress ", root) == ["gzip", "zstd", "none"]
    assert completed(f"{command} --compress z", root) == ["zstd"]


def test_names_are_completed_as_people_write_them(root: Path) -> None:
    names = completed("inspect b", root)
    assert names == ["base:1", "busybox:latest"]
    assert "quay.io/a/b:latest" in completed("rmi ", root)
    assert completed("tag docker.io/", root) == ["docker.io/library/busybox:latest"]


def test_ids_are_completed_where_no_name_begins_so(root: Path) -> None:
    image_id = run("--root", root, "images", "-q").out.strip()
    assert completed(f"inspect {image_id[:4]}", root) == [image_id]


def test_options_are_completed(root: Path) -> None:
    assert "--digests" in completed("images --d", root)


def test_a_store_that_is_not_there_is_silence(tmp_path: Path) -> None:
    assert completed("inspect b", tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def test_a_damaged_store_is_silence(root: Path) -> None:
    (root / "db" / "kstore.db").write_bytes(b"this is not a database" * 1000)
    assert completed("inspect b", root) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_and_we_ship_one(shell: str) -> None:
    result = run("completion", shell)
    assert result.code == 0
    assert "_KSTORE_COMPLETE" in result.out
    shipped = (REPOSITORY / "contrib" / "completions" / SHELLS[shell]).read_text()
    assert "_KSTORE_COMPLETE" in shipped


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("inspect localhost/ba", ["localhost/base:1"]),
        ("inspect base:", ["1"]),
        ("untag base:1 quay.io/a/b:la", ["latest"]),
        ("rmi --al", ["--all"]),
        ("inspect ", None),
    ],
)
def test_bash_puts_tags_behind_the_colon_it_breaks_words_at(
    root: Path, tmp_path: Path, typed: str, offered: list[str] | None
) -> None:
    line = f"kstore --root '{root}' {typed}"
    script = (
        f"kstore() {{ '{sys.executable}' -m kstore \"$@\"; }}; export -f kstore\n"
        + run("completion", "bash").out.replace("$(env ", "$(")
        + '_kstore_completion kstore; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    env = environment({"COMP_LINE": f"{line} more", "COMP_POINT": str(len(line))})
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=env, timeout=20, check=False
    )
    assert done.stderr == ""
    found = done.stdout.split()
    assert found == offered if offered is not None else len(found) > 3


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_accepts_the_script(tmp_path: Path) -> None:
    script = tmp_path / "kstore.bash"
    script.write_text(run("completion", "bash").out)
    done = subprocess.run(
        ["bash", "-c", f"source {script} && complete -p kstore"],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "kstore" in done.stdout
