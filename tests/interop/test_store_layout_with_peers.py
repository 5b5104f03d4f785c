"""Other tools read a store as the OCI image layout it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.images import ARM64, index_of, random_image
from tests.support.stores import put_image, put_index

pytestmark = pytest.mark.peer

ONE = random_image(1)
BOTH = [random_image(2), random_image(3, platform=ARM64)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "store") as store:
        put_image(store, ONE, "x", "localhost/team/y:v1")
        put_image(store, random_image(4))
        put_index(store, index_of(BOTH), BOTH, "multi")
        put_index(store, index_of([BOTH[0], random_image(9)]), BOTH[:1], "partial")
    return tmp_path / "store"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_finds_every_name(root: Path, require_program: Callable[[str], str]) -> None:
    skopeo = require_program("skopeo")
    for name, digest in [
        ("docker.io/library/x:latest", ONE.raw.digest),
        ("localhost/team/y:v1", ONE.raw.digest),
        ("docker.io/library/multi:latest", index_of(BOTH).digest),
        ("docker.io/library/partial:latest", BOTH[0].raw.digest),
    ]:
        facts = json.loads(run(skopeo, "inspect", "--override-arch=amd64", f"oci:{root}:{name}"))
        assert facts["Digest"] == str(digest)


def test_skopeo_copies_an_image_out_unchanged(
    root: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    skopeo, target = require_program("skopeo"), tmp_path / "out"
    run(skopeo, "copy", "-q", f"oci:{root}:docker.io/library/x:latest", f"dir:{target}")
    assert (target / "manifest.json").read_bytes() == ONE.raw.data
    for digest, data in ONE.blobs.items():
        assert (target / digest.hex).read_bytes() == data


def test_umoci_lists_every_name(root: Path, require_program: Callable[[str], str]) -> None:
    listed = run(require_program("umoci"), "list", "--layout", str(root)).split()
    assert sorted(listed) == [
        "docker.io/library/multi:latest",
        "docker.io/library/partial:latest",
        "docker.io/library/x:latest",
        "localhost/team/y:v1",
    ]
