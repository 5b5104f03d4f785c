"""Real images travel registry -> kstore -> registry -> other tools, and not one byte changes.

skopeo pushes an image to Debian's docker-registry, kstore pulls it and pushes it to a second
repository, skopeo and podman pull it from there. Every manifest and every blob is compared with
the layout it was built in.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contrib.bench import images
from tests.support.bigimages import Built, build, read_built
from tests.support.dockerregistry import DockerRegistry
from tests.support.podman import Podman
from tests.support.programs import require_program

pytestmark = [pytest.mark.peer, pytest.mark.timeout(300)]


@pytest.fixture
def room() -> Iterator[Path]:
    """A folder for big files, gone after the test (pytest keeps its own for three runs)."""
    require_program("docker-registry")
    with tempfile.TemporaryDirectory(prefix="ks-") as place:
        yield Path(place)


@pytest.fixture(params=["debian", "python-app", "sixty-layers"])
def built(request: pytest.FixtureRequest, room: Path) -> Built:
    return build(request.param, room)


def test_an_image_passes_through_kstore_and_keeps_every_byte(built: Built, room: Path) -> None:
    root = room / "store"
    with DockerRegistry(room) as registry, Podman(room / "podman") as podman:
        first, second = f"{registry.host}/first/image:1", f"{registry.host}/second/image:2"
        _skopeo(
            "copy", "--dest-tls-verify=false", f"oci:{built.layout}:latest", f"docker://{first}"
        )

        assert _kstore(root, "pull", "--tls-verify=false", first) == f"{built.image_id}\n"
        _assert_same_blobs(root / "blobs" / "sha256", built)

        _kstore(root, "push", "--tls-verify=false", first, second)
        raw = _skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{second}")
        assert raw == built.manifest
        # The whole of the second repository, by a tool that verifies nothing for us.
        copied = room / "copied"
        _skopeo("copy", "--src-tls-verify=false", f"docker://{second}", f"dir:{copied}")
        assert (copied / "manifest.json").read_bytes() == built.manifest
        _assert_same_blobs(copied, built)
        shutil.rmtree(copied)

        pulled = podman.run("pull", "--quiet", "--tls-verify=false", second).strip()
        assert pulled == built.image_id
        shown = podman.run("image", "inspect", "--format", "{{.Digest}}", second).strip()
        assert shown == built.digest


def test_other_tools_read_the_root_while_kstore_owns_it(room: Path) -> None:
    images.tiny(room / "built", layers=3)
    built, root = read_built(room / "built"), room / "store"
    umoci = require_program("umoci")
    with DockerRegistry(room) as registry:
        name = f"{registry.host}/some/image:1"
        _skopeo("copy", "--dest-tls-verify=false", f"oci:{built.layout}:latest", f"docker://{name}")
        _kstore(root, "pull", "--tls-verify=false", name)
    _kstore(root, "tag", name, "docker.io/library/image:other")
    with _owned(root):
        for ref in (name, "docker.io/library/image:other"):
            shown = json.loads(_skopeo("inspect", f"oci:{root}:{ref}"))
            assert shown["Digest"] == built.digest
            assert _skopeo("inspect", "--raw", f"oci:{root}:{ref}") == built.manifest
        listed = subprocess.run(
            [umoci, "ls", "--layout", str(root)], capture_output=True, check=True, timeout=30
        )
        assert set(listed.stdout.decode().split()) == {name, "docker.io/library/image:other"}


@contextmanager
def _owned(root: Path) -> Iterator[None]:
    """A running ``kstore serve`` that has the store open."""
    command = [*_command(root), "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("listening on http://")
            yield
        finally:
            process.terminate()
            process.wait(timeout=20)


def _assert_same_blobs(directory: Path, built: Built) -> None:
    """Every blob lies in ``directory`` under its hex, has its size, and hashes to its digest."""
    for digest, size in built.blobs.items():
        path = directory / digest.removeprefix("sha256:")
        assert path.stat().st_size == size
        with path.open("rb") as file:
            assert f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest


def _command(root: Path) -> list[str]:
    return [sys.executable, "-m", "kstore", "--root", str(root)]


def _kstore(root: Path, *arguments: str) -> str:
    run = subprocess.run([*_command(root), *arguments], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, f"kstore {' '.join(arguments)}: {run.stderr}"
    return run.stdout


def _skopeo(*arguments: str) -> bytes:
    command = [require_program("skopeo"), "--insecure-policy", *arguments]
    run = subprocess.run(command, capture_output=True, timeout=100)
    assert run.returncode == 0, f"skopeo {' '.join(arguments)}: {run.stderr.decode()}"
    return run.stdout
