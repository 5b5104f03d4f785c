"""Starting fast is a feature: what a command may load is a budget."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.source import modules
from tests.support.faultserver import FaultServer
from tests.support.images import layer_tar, random_image

HEAVY = ("urllib3", "gnupg", "sqlite_utils", "rich")
#: What moving an image off a terminal has no use for.
IDLE = (
    "gnupg",
    "rich",
    "isal",
    "zstandard",
    "xattr",
    "platformdirs",
    "cryptography",
    "nacl",
    "asyncio",
    "http.server",
    "sqlite_utils",
    "kstore.store.check",
    "kstore.store.gc",
    "kstore.store.removal",
    "kstore.store.reports",
)
#: What telling about an image has no use for, on top of HEAVY.
UNREAD = ("kstore.formats", "kstore.operations.draft", "kstore.store.ingest", "kstore.tree")
#: What giving a name to an image and listing images have no use for, on top of HEAVY.
UNNAMED = (
    "kstore.manifest",
    "kstore.store.ingest",
    "kstore.store.leases",
    "kstore.store.publish",
    "kstore.store.reports",
    "kstore.transports",
    "logging",
    "secrets",
    "shutil",
)

# Runs the command line inside the process and reports, last on stderr, what it has loaded.
PROBE = """
import sys
from kstore.cli.main import main
sys.argv[0] = "kstore"
status = 0
try:
    status = main()
except SystemExit as end:
    status = end.code
loaded = [name for name in {heavy!r} if name in sys.modules]
print("LOADED", *loaded, file=sys.stderr)
sys.exit(status)
"""


def _loaded_by(*arguments: str, root: Path, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    probe = PROBE.format(heavy=heavy)
    command = [sys.executable, "-c", probe, "--root", str(root), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 0, run.stderr
    last = run.stderr.splitlines()[-1]
    assert last.startswith("LOADED"), run.stderr
    return last.split()[1:]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["images", "--help"], ["pull", "--help"]], ids=" ".join
)
def test_asking_for_help_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert _loaded_by(*arguments, root=tmp_path / "store") == []


def _store_with_an_image(tmp_path: Path) -> Path:
    (tmp_path / "layer.tar").write_bytes(layer_tar({"etc/motd": b"hello"}))
    root = tmp_path / "store"
    command = [sys.executable, "-m", "kstore", "--root", str(root), "import"]
    subprocess.run(
        [*command, str(tmp_path / "layer.tar"), "some/image"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return root


@pytest.mark.parametrize(
    "arguments", [["images"], ["images", "--digests"], ["inspect", "some/image"]], ids=" ".join
)
def test_asking_the_store_loads_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    root = _store_with_an_image(tmp_path)
    assert _loaded_by(*arguments, root=root, heavy=(*HEAVY, *UNREAD)) == []


@pytest.mark.parametrize(
    "arguments",
    [["tag", "some/image", "other"], ["untag", "some/image"], ["images"]],
    ids=" ".join,
)
def test_names_are_given_and_taken_without_what_moves_images(
    arguments: list[str], tmp_path: Path
) -> None:
    root = _store_with_an_image(tmp_path)
    assert _loaded_by(*arguments, root=root, heavy=(*HEAVY, *UNNAMED)) == []


def _served(server: FaultServer) -> str:
    """The name of an image that the server has now."""
    image = random_image(1)
    for data in image.blobs.values():
        server.add_blob(data)
    server.add_manifest(image.raw.data, image.raw.media_type, tag="v1")
    return f"{server.host}/team/app:v1"


def test_pull_and_push_load_only_what_moves_images(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with FaultServer() as server:
        name = _served(server)
        for arguments in (["pull", name], ["push", name, f"{server.host}/team/copy:v1"]):
            options = ["--tls-verify=false", "--progress", "plain"]
            assert _loaded_by(*arguments, *options, root=root, heavy=IDLE) == []


# As the program does it, but for the way it ends.
COUNT = """
import gc, sys
from kstore.__main__ import _COLLECT_AFTER
gc.set_threshold(_COLLECT_AFTER)
passes = []
gc.callbacks.append(lambda phase, info: passes.append(phase))
from kstore.cli.main import main
status = main()
print("PASSES", len(passes), file=sys.stderr)
sys.exit(status)
"""


def test_a_long_configuration_sets_off_no_search_for_garbage(tmp_path: Path) -> None:
    containers = tmp_path / "config/containers"
    containers.mkdir(parents=True)
    table = '[[registry]]\nlocation = "r{0}.test"\n[[registry.mirror]]\nlocation = "m{0}.test"\n'
    tables = "".join(table.format(n) for n in range(1000))
    (containers / "registries.conf").write_text(tables)
    rule = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/key"}
    scopes = {f"r{n}.test": [rule] for n in range(1000)}
    policy = {"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": scopes}}
    (containers / "policy.json").write_text(json.dumps(policy))
    with FaultServer() as server:
        pull = ["pull", "--tls-verify=false", _served(server)]
        run = subprocess.run(
            [sys.executable, "-c", COUNT, "--root", str(tmp_path / "store"), *pull],
            env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path / "config")},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert (run.returncode, run.stderr.splitlines()[-1]) == (0, "PASSES 0"), run.stderr


@pytest.mark.parametrize("module", ["kstore", "kstore.images"])
def test_importing_the_package_loads_nothing_heavy(module: str) -> None:
    heavy = (*HEAVY, *UNNAMED, "sqlite3", "ssl")
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr


def test_values_are_declared_with_the_decorator_that_costs_little() -> None:
    offences = [
        f"{module} imports dataclass from dataclasses, not from kstore.values"
        for module, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "dataclasses"
        if module != "values.py" and any(alias.name == "dataclass" for alias in node.names)
    ]
    assert offences == []
