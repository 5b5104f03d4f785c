"""Who may import whom: the layers, and one door for each third party."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib

from tests.architecture.source import CHECKOUT, imported_roots, modules

# Third party -> the modules that may import it; a name ending in "/" stands for a folder.
DOORS = {
    "click": ("cli/",),
    "rich": ("cli/",),
    "platformdirs": ("settings.py",),
    "urllib3": ("registry/http.py",),
    "sqlite_utils": ("store/schema.py", "store/catalog.py"),
    "gnupg": ("signing/gpg.py",),
    "xattr": ("tree/xattrs.py",),
    "isal": ("compression.py",),
    "zstandard": ("compression.py",),
    "cryptography": ("signing/keys.py",),
    "nacl": ("signing/keyfile.py",),
    "yaml": ("registry/plainyaml.py",),
}
# The distribution's name where it differs from the module's.
DISTRIBUTIONS = {
    "gnupg": "python-gnupg",
    "nacl": "pynacl",
    "sqlite_utils": "sqlite-utils",
    "yaml": "PyYAML",
}


def test_no_module_imports_against_the_layers() -> None:
    code = (
        "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_third_party_comes_in_by_its_own_door_only() -> None:
    offences = [
        f"{module} imports {root}"
        for module, tree in modules()
        for root in sorted(imported_roots(tree) & DOORS.keys())
        if not any(
            module.startswith(door) if door.endswith("/") else module == door
            for door in DOORS[root]
        )
    ]
    assert offences == []


def test_nothing_is_imported_that_is_neither_standard_nor_declared() -> None:
    known = sys.stdlib_module_names | DOORS.keys() | {"kstore"}
    strangers = [
        f"{module} imports {root}"
        for module, tree in modules()
        for root in sorted(imported_roots(tree) - known)
    ]
    assert strangers == []


def test_the_declared_dependencies_are_the_ones_with_a_door() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=!~\[; ]", line)[0] for line in project["dependencies"]}
    assert declared == {DISTRIBUTIONS.get(name, name) for name in DOORS}


def test_only_the_command_line_reads_the_environment_and_the_arguments() -> None:
    readers = sorted(
        f"{module}:{node.lineno}"
        for module, tree in modules()
        if not module.startswith("cli/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("os", "environ"), ("os", "environb"), ("os", "getenv"), ("sys", "argv")}
    )
    assert readers == []
