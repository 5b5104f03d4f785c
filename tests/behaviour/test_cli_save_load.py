"""``save`` and ``load``, as the command line does them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tarfile
from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.cli import PROGRAM, Result, environment, run, run_on_terminal
from tests.support.dockertars import middle_docker, modern_docker, tar_of
from tests.support.images import random_image
from tests.support.programs import require_program
from tests.support.pulls import wait_until
from tests.support.stores import listing, put_image

ONE, TWO = random_image(1), random_image(2)
PLAIN = random_image(3, compression="none")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "root") as store:
        put_image(store, ONE, "quay.io/me/app:1")
        put_image(store, TWO, "quay.io/me/app:2")
    return tmp_path / "root"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return tmp_path / "other"


def kstore(root: Path, *args: object, stdin: bytes | None = None) -> Result:
    return run("--root", root, *args, stdin=stdin)


def test_images_saved_to_a_file_are_loaded_with_their_names(
    root: Path, other: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.tar"
    saved = kstore(root, "save", "-o", file, "quay.io/me/app:1", "quay.io/me/app:2")
    assert (saved.code, saved.out) == (0, "")
    assert saved.err.splitlines()[-1].startswith(f"saved to {file}: 4 layers, ")
    loaded = kstore(other, "load", "-i", file)
    assert (loaded.code, loaded.out) == (
        0,
        f"Loaded image: quay.io/me/app:1 ({ONE.id[:12]})\n"
        f"Loaded image: quay.io/me/app:2 ({TWO.id[:12]})\n",
    )
    assert loaded.err.splitlines()[-1].startswith(f"loaded {file}: 4 layers, ")


def test_a_pipe_carries_nothing_but_the_archive(root: Path, other: Path) -> None:
    command = [*PROGRAM, "--root", str(root), "save", "--progress", "json", "quay.io/me/app:1"]
    saved = subprocess.run(command, capture_output=True, env=environment(), timeout=30, check=True)
    assert json.loads(saved.stderr.splitlines()[0])["event"] == "plan"
    loaded = kstore(other, "load", "-q", stdin=saved.stdout)
    assert loaded == Result(0, f"Loaded image: quay.io/me/app:1 ({ONE.id[:12]})\n", "")


def test_a_quiet_save_says_nothing(root: Path, tmp_path: Path) -> None:
    assert kstore(root, "save", "-q", "-o", tmp_path / "x", "quay.io/me/app:1") == Result(0, "", "")


def test_a_nameless_image_is_shown_without_a_name(root: Path, other: Path, tmp_path: Path) -> None:
    kstore(root, "save", "-o", tmp_path / "x", ONE.id[:12])
    result = kstore(other, "load", tmp_path / "x")
    assert result.out == f"Loaded image: <none> ({ONE.id[:12]})\n"


def test_an_archive_is_not_written_to_a_terminal(root: Path) -> None:
    code, screen = run_on_terminal("--root", root, "save", "-q", "quay.io/me/app:1")
    assert code == 2
    assert "is a terminal" in screen


def test_an_archive_is_not_read_from_a_terminal(root: Path) -> None:
    code, screen = run_on_terminal("--root", root, "load")
    assert code == 2
    assert "is a terminal" in screen
    assert "kstore load FILE" in screen


def test_a_name_that_moves_is_told_and_can_be_refused(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(tar_of(middle_docker({"quay.io/me/app:1": PLAIN})))
    refused = kstore(root, "load", "--no-clobber", file)
    assert (refused.code, refused.out) == (4, "")
    assert refused.err.startswith("kstore: quay.io/me/app:1 already means another image")
    moved = kstore(root, "load", "-q", file)
    assert moved.out == f"Loaded image: quay.io/me/app:1 ({PLAIN.id[:12]})\n"
    assert moved.err == (
        f"quay.io/me/app:1 meant {ONE.id[:12]} before, which has no name now;"
        " 'kstore prune' removes it\n"
    )


def test_a_damaged_image_is_told_and_the_others_are_loaded(other: Path, tmp_path: Path) -> None:
    files = modern_docker({"app:1": ONE, "app:2": TWO})
    del files[f"blobs/sha256/{TWO.layers[0].digest.hex}"]
    (tmp_path / "x.tar").write_bytes(tar_of(files))
    result = kstore(other, "load", "-q", tmp_path / "x.tar")
    assert (result.code, result.out) == (
        5,
        f"Loaded image: docker.io/library/app:1 ({ONE.id[:12]})\n",
    )
    assert len(result.err.splitlines()) == 1
    assert result.err.startswith("kstore: docker.io/library/app:2 was not loaded: ")


@pytest.mark.parametrize("cut", [0, 1, 511, 512, 5000, -512, -513])
def test_an_archive_that_was_cut_off_is_refused_in_one_sentence(
    other: Path, tmp_path: Path, cut: int
) -> None:
    tar = tar_of(middle_docker({"app:1": PLAIN}))
    end = len(tar.rstrip(b"\0"))  # what follows the last entry is padding
    (tmp_path / "x.tar").write_bytes(tar[: cut if cut >= 0 else end + cut])
    result = kstore(other, "load", tmp_path / "x.tar")
    assert (result.code, result.out) == (5, "")
    assert len(result.err.splitlines()) == 1, result.err
    assert kstore(other, "images", "-q").out == ""


def test_a_root_file_system_is_told_from_an_archive_of_images(other: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(__file__, "etc/motd")
    result = kstore(other, "load", tmp_path / "x.tar")
    assert result.code == 5
    assert "holds no images" in result.err
    assert "hint: kstore import" in result.err


def test_a_file_is_named_once(root: Path) -> None:
    result = kstore(root, "load", "-i", "one", "two")
    assert result.code == 2
    assert "not both" in result.err


def test_a_full_disk_leaves_no_file(root: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        command = [*PROGRAM, "--root", str(root), "save", "-q", "quay.io/me/app:1"]
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, env=environment(), timeout=30, check=False
        )
    assert done.returncode == 10
    assert b"No space left on device" in done.stderr


def writes_in(directory: Path, pid: int) -> bool:
    """Whether a process has a file of ``directory`` open; it need not have a name yet."""
    with contextlib.suppress(OSError):  # it may close a file, or end, while we look
        files = [str(descriptor.readlink()) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
        return any(file.startswith(f"{directory}/") for file in files)
    return False


def test_an_interrupt_while_a_file_is_written_leaves_none(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Store.open(root) as store:
        put_image(store, random_image(9, layers=1, layer_size=30_000_000), "big:1")
    command = [*PROGRAM, "--root", str(root), "save", "-q", "-o", str(out / "x"), "big:1"]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stderr is not None
        wait_until(lambda: writes_in(out, process.pid) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        process.stderr.read()
        code = process.wait(30)
    # It may have been through before the signal came; then the file is whole.
    assert (code, listing(out)) in [(130, []), (0, ["x"])]


@pytest.mark.peer
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_skopeo_reads_what_was_saved(root: Path, tmp_path: Path, form: str) -> None:
    skopeo = require_program("skopeo")
    file = tmp_path / "x.tar"
    kstore(root, "save", "-q", "--format", form, "-o", file, "quay.io/me/app:1", "quay.io/me/app:2")
    inspected = subprocess.run(
        [skopeo, "inspect", "--config", "--raw", f"{form}:{file}:quay.io/me/app:2"],
        capture_output=True,
        timeout=30,
        check=True,
    )
    assert inspected.stdout == TWO.config


@pytest.mark.peer
def test_what_skopeo_saved_is_loaded(root: Path, other: Path, tmp_path: Path) -> None:
    skopeo = require_program("skopeo")
    subprocess.run(
        [
            skopeo,
            "--insecure-policy",
            "copy",
            f"oci:{root}:quay.io/me/app:1",
            f"docker-archive:{tmp_path}/x.tar:quay.io/me/app:1",
        ],
        capture_output=True,
        timeout=30,
        check=True,
    )
    result = kstore(other, "load", "-q", tmp_path / "x.tar")
    assert result == Result(0, f"Loaded image: quay.io/me/app:1 ({ONE.id[:12]})\n", "")
