"""The shape of the repository: names, sizes, scripts."""

from __future__ import annotations

import fnmatch
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import CHECKOUT, PACKAGE, modules

TOP_LEVEL = {"pyproject.toml", "kstore", "tests", "contrib", "README.md", "LICENSE"}
LONGEST_MODULE = 400  # lines
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def _scripts() -> list[Path]:
    candidates = [*(CHECKOUT / "contrib").rglob("*"), *(CHECKOUT / ".ci").rglob("*")]
    return [path for path in sorted(candidates) if path.is_file() and _interpreter(path)]


def _interpreter(path: Path) -> str | None:
    """ "sh" or "bash" for a shell script, by its first line."""
    with path.open("rb") as file:
        first = file.readline(100).decode("utf-8", "replace").strip()
    if not first.startswith("#!"):
        return None
    name = first.split()[-1].rpartition("/")[2]
    return name if name in {"sh", "bash"} else None


def test_the_top_level_is_exactly_the_allowed_set() -> None:
    ignored = [
        line.strip("/")
        for line in (CHECKOUT / ".gitignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    present = {
        entry.name
        for entry in CHECKOUT.iterdir()
        if not entry.name.startswith(".")
        and not any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in ignored)
    }
    assert present == TOP_LEVEL


def test_no_module_is_longer_than_anyone_wants_to_read() -> None:
    lengths = {name: (PACKAGE / name).read_bytes().count(b"\n") for name, _ in modules()}
    assert {name: n for name, n in lengths.items() if n > LONGEST_MODULE} == {}


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = [name for name, _ in modules() if VAGUE_NAMES & set(name[:-3].split("/"))]
    assert vague == []


def test_no_top_level_module_takes_a_name_of_the_standard_library() -> None:
    top = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert top & sys.stdlib_module_names == set()


def test_the_package_is_marked_as_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_there_are_shell_scripts_to_check() -> None:
    assert {"quickstart.sh", "test.sh", "run"} <= {script.name for script in _scripts()}


@pytest.mark.parametrize("script", _scripts(), ids=lambda path: path.name)
def test_a_shell_script_can_be_executed_and_parses(script: Path) -> None:
    shell = _interpreter(script)
    assert shell is not None
    assert os.access(script, os.X_OK), f"{script} is not executable"
    command = [shell, "-n", str(script)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stderr
