"""A store on a network file system that is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.store import Store
from tests.support.cli import run
from tests.support.images import random_image, write_oci_layout
from tests.support.sshfs import over_sftp
from tests.support.stores import put_image

pytestmark = [pytest.mark.root, pytest.mark.peer]

IMAGE = random_image(1)


def test_a_store_over_sftp_is_refused_unless_it_is_asked_for(tmp_path: Path) -> None:
    served, layout = tmp_path / "served", tmp_path / "layout"
    served.mkdir()
    write_oci_layout(layout, {"v1": IMAGE})
    with over_sftp(served, tmp_path / "mount") as mount:
        root = mount / "store"
        refused = run("--root", root, "load", layout)
        assert refused.code == 10
        message, hint = refused.err.splitlines()
        assert message == f"kstore: {root} is on a network file system (fuse.sshfs)"
        assert "--unsafe-network-fs" in hint
        assert "--additional-store" in hint
        assert list(served.iterdir()) == []
        for command in (
            ["load", layout], ["tag", "v1", "second"], ["from", "v1"], ["rmi", "-f", "v1"],
            ["images"], ["prune"], ["check", "--deep"], ["df"],
        ):  # fmt: skip
            result = run("--root", root, "--unsafe-network-fs", *command)
            assert result.code == 0, (command, result)
            assert "two machines that write to it at once" in result.err
        assert {path.name for path in (served / "store" / "db").glob("kstore.db*")} == {"kstore.db"}


def test_a_store_over_sftp_can_be_an_additional_one(tmp_path: Path) -> None:
    served = tmp_path / "served"
    with Store.open(served) as store:
        put_image(store, IMAGE, "theirs")
    before = {path: path.lstat().st_mtime_ns for path in served.rglob("*")}
    with over_sftp(served, tmp_path / "mount") as mount:
        words = ("--root", tmp_path / "own", "--additional-store", mount)
        assert run(*words, "images", "-q").out.strip() == IMAGE.id[:12]
        saved = run(*words, "save", "-q", "-o", tmp_path / "saved.tar", "theirs")
        assert saved.code == 0, saved
    assert {path: path.lstat().st_mtime_ns for path in served.rglob("*")} == before
