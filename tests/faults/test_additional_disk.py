"""An additional store on a disk that is mounted read-only: a medium, a share."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.store import Store
from tests.faults.scenes import Scene, fast_directory
from tests.support.images import random_image
from tests.support.powercuts import make_disk, make_squashfs, mounted_disk, mounted_read_only
from tests.support.stores import put_image

pytestmark = [pytest.mark.root, pytest.mark.peer]

THEIRS = random_image(8)


def digest_of(image: Path) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(params=["ext4", "squashfs"])
def medium(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Path]:
    """A file system with a store in it."""
    with fast_directory() as directory:
        made = directory / "made"
        with Store.open(made) as store:
            put_image(store, THEIRS, "theirs")
        image = directory / f"medium.{request.param}"
        if request.param == "squashfs":
            make_squashfs(made, image)
        else:
            with mounted_disk(make_disk("ext4", directory), directory / "disk") as disk:
                shutil.copytree(made, disk.mount, dirs_exist_ok=True)
                disk.detach()
                disk.image.rename(image)
        yield image


def test_a_store_on_a_read_only_disk_can_be_used(scene: Scene, medium: Path) -> None:
    before = digest_of(medium)
    with scene.place() as place, mounted_read_only(medium, place.outside / "medium") as theirs:
        words = ("--root", place.root, "--additional-store", theirs)
        target = place.outside.parent / "saved.tar"
        for command in (
            ("inspect", "theirs"),
            ("save", "-q", "-o", target, "theirs"),
            ("push", "-q", "--tls-verify=false", "theirs", f"{scene.server.host}/team/pushed:v1"),
            ("from", "--name", "other", "theirs"),
            ("check", "--deep"),
            ("prune",),
        ):
            done = scene.forks.run(*words, *command)
            assert done.code == 0, done
        listed = scene.forks.run(*words, "images", "--format", "{{.Id}} {{.ReadOnly}}")
        assert f"{THEIRS.id[:12]} true" in listed.out
        refused = scene.forks.run(*words, "rmi", "theirs")
        assert refused.code != 0
        assert "Traceback" not in refused.err
    assert digest_of(medium) == before
