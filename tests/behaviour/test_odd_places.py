"""Odd places and users: no home, any umask, a full /tmp, a root that is read-only or another's."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.errors import StorageError
from kstore.settings import SYSTEM_ROOT, load
from kstore.store import Store
from tests.support.cli import PROGRAM, REPOSITORY, environment, run, run_process
from tests.support.disks import mounted
from tests.support.images import random_image, write_oci_layout
from tests.support.scripts import finished
from tests.support.stores import put_image

#: A user that no /etc/passwd knows.
STRANGER = 54321


def as_stranger(*args: object, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, args)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **env},
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        cwd="/",
        timeout=30,
        check=False,
    )


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may use; not below that of the tests, which is private."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        yield place


def can_run_python() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", "import kstore, click"],
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.root
def test_a_user_without_a_home_is_asked_for_a_place_and_litters_nowhere(
    open_directory: Path,
) -> None:
    if not can_run_python():
        pytest.skip("this checkout or interpreter cannot be read by other users")
    lost = as_stranger("images", env={})
    assert lost.returncode == 10, lost
    assert lost.stderr.splitlines() == [
        f"kstore: user {STRANGER} has no home directory to keep images in",
        "hint: choose a directory with --root or KSTORE_ROOT",
    ]
    assert as_stranger("version", env={}).returncode == 0
    write_oci_layout(open_directory / "layout", {"v1": random_image(1)})
    root = open_directory / "store"
    loaded = as_stranger("--root", root, "load", open_directory / "layout", env={})
    assert loaded.returncode == 0, loaded
    listed = as_stranger("images", "-q", env={"KSTORE_ROOT": str(root)})
    assert listed.stdout.strip() == random_image(1).id[:12]


def test_the_home_of_the_user_database_is_used_where_home_is_not_set() -> None:
    assert load({"XDG_DATA_HOME": "/data"}, root=Path("/x")).root == Path("/x")
    if os.geteuid() != 0:
        assert load({"XDG_DATA_HOME": "/data"}).root == Path("/data/kstore")


def test_a_home_that_cannot_be_told_is_an_error_only_where_it_matters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    with pytest.raises(StorageError, match="has no home directory"):
        load({})
    assert load({"KSTORE_ROOT": "/x"}).root == Path("/x")
    assert load({"XDG_DATA_HOME": "/data"}).root == Path("/data/kstore")


@pytest.mark.parametrize("umask", [0o077, 0o000, 0o027], ids=oct)
def test_the_store_is_the_users_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    root, layout = tmp_path / "store", tmp_path / "layout"
    write_oci_layout(layout, {"v1": random_image(1)})

    def kstore(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, "--root", str(root), *map(str, args)],
            capture_output=True,
            text=True,
            env=environment(),
            umask=umask,
            timeout=30,
            check=True,
        )

    kstore("load", layout)
    kstore("tag", "v1", "second")
    kstore("from", "v1")
    kstore("rmi", "second")
    kstore("prune")
    assert "no damage" in kstore("check", "--deep").stdout
    assert root.stat().st_mode & 0o777 == 0o700
    for path in root.rglob("*"):
        mode = path.lstat().st_mode & 0o777
        if path.parent.name == "sha256":
            assert mode == 0o444, path
        elif path.is_dir() and "containers" not in path.parts:
            assert mode == 0o700, path
        assert mode & 0o400, f"{path} cannot be read by its owner"


FULL_TMP = """
    import gzip, os, sys
    from pathlib import Path
    import kstore.settings
    from tests.support.cli import run
    from tests.support.faultserver import FaultServer
    from tests.support.images import random_image
    full, place = Path(sys.argv[1]), Path(sys.argv[2])
    # The root of a user namespace may not look into the system's directories.
    kstore.settings._lookaside = lambda *_: place / "signatures"
    with open(full / "filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    os.environ["TMPDIR"] = str(full)
    image = random_image(1)
    with FaultServer() as server:
        for data in image.blobs.values():
            server.add_blob(data)
        server.add_manifest(image.raw.data, image.raw.media_type, tag="v1")
        name = f"{server.host}/team/app:v1"
        root = ("--root", place / "store")
        for command in (
            ["pull", "--tls-verify=false", name],
            ["push", "--tls-verify=false", name, f"{server.host}/team/app:v2"],
            ["images"], ["tag", name, "x"], ["save", "-o", place / "x.tar", "x"],
            ["load", place / "x.tar"], ["rmi", "x"], ["prune"], ["check", "--deep"], ["df"],
        ):
            result = run(*root, *command)
            assert result.code == 0, (command, result)
    (place / "x.tar.gz").write_bytes(gzip.compress((place / "x.tar").read_bytes()))
    result = run(*root, "load", place / "x.tar.gz")
    assert result.code == 10, result
    assert "No space left" in result.err, result
    assert "Traceback" not in result.err
    print("ok")
"""


def test_a_full_tmp_stops_only_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    prefix = mounted("-t", "tmpfs", "-osize=64k", "disk", str(tmp_path / "full"))
    assert finished(FULL_TMP, str(tmp_path / "full"), str(tmp_path), prefix=prefix) == "ok"


READ_ONLY = """
    import sys
    from pathlib import Path
    from tests.support.cli import run
    root = Path(sys.argv[1])
    for command in (["images"], ["inspect", "x"], ["df"], ["check", "--deep"], ["tree", "x"],
                    ["save", "-o", root.with_name("x.tar"), "x"], ["protect"]):
        result = run("--root", root, *command)
        assert result.code == 0, (command, result)
    for command in (["tag", "x", "y"], ["rmi", "x"], ["prune"], ["load", root.with_name("x.tar")],
                    ["protect", "x"]):
        result = run("--root", root, *command)
        assert result.code == 10, (command, result)
        assert "can only be read" in result.err, (command, result)
    print("ok")
"""


def test_a_root_that_cannot_be_written_to_answers_and_refuses_changes(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    prefix = mounted("--bind", "-r", "--", str(root), str(root))
    assert finished(READ_ONLY, str(root), prefix=prefix) == "ok"


@pytest.mark.root
@pytest.mark.parametrize("command", [["images"], ["prune"], ["check", "--repair"]], ids=" ".join)
def test_root_in_the_store_of_a_user_leaves_nothing_behind(
    tmp_path: Path, command: list[str]
) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    for path in (root, *root.rglob("*")):
        os.chown(path, STRANGER, STRANGER)
    before = {path: path.lstat().st_mtime_ns for path in (root, *root.rglob("*"))}
    result = run("--root", root, *command)
    assert result.code == 10
    assert f"belongs to user {STRANGER}, and this is user root" in result.err
    assert "as its user, without sudo" in result.err
    assert "--additional-store" in result.err
    assert {path: path.lstat().st_mtime_ns for path in (root, *root.rglob("*"))} == before
    found = run("--root", tmp_path / "own", "--additional-store", root, "images", "-q")
    assert found.out.strip() == random_image(1).id[:12]


def test_sudo_means_the_store_of_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of the user's variables it lets through."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    of_user = {"HOME": "/home/ann", "XDG_DATA_HOME": "/home/ann/data", "SUDO_UID": "1000"}
    assert load(of_user).root == SYSTEM_ROOT


def test_home_is_not_needed_with_a_root(tmp_path: Path) -> None:
    env = {"HOME": "", "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    assert run_process("--root", tmp_path / "store", "images", env=env).code == 0
