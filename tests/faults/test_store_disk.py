"""Disks that are full, or cannot be written to; each in a mount namespace of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kstore.errors import StorageError
from kstore.store import Store
from tests.support.disks import mounted
from tests.support.images import random_image
from tests.support.scripts import finished, read_line, started
from tests.support.stores import named, put_image

FULL = """
    import os, sys
    from pathlib import Path
    import pytest
    from kstore.errors import StorageFullError
    from kstore.store import Store
    from tests.support.images import random_image
    from tests.support.stores import named, put_image

    disk = Path(sys.argv[1])
    root = disk / "store"

    def fill():
        with open(disk / "filler", "ab", buffering=0) as file:
            with pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))

    with Store.open(root) as store:
        put_image(store, random_image(0, layer_size=100_000), "kept")
        stored = 0
        with pytest.raises(StorageFullError) as caught:
            for seed in range(1, 100):
                put_image(store, random_image(seed, layer_size=200_000), f"x{seed}")
                stored += 1
        assert "kstore prune" in caught.value.hint, caught.value
        assert 1 < stored < 99

    fill()
    assert os.statvfs(disk).f_bavail == 0
    warnings = []
    with Store.open(root, warn=warnings.append) as store:
        assert len(store.images()) == stored + 1
        before = set(os.listdir(root / "blobs" / "sha256"))
        for seed in range(1, stored + 1):
            assert store.remove_name(named(f"x{seed}")).deleted
        store.prune(lease_grace=0, all_unused_partials=True)
        assert len(store.images()) == 1
    (disk / "filler").unlink()
    with Store.open(root) as store:
        store.tag(store.find_image("kept"), [named("y")])
        fill()  # only now: opening had room enough
        store.untag(named("y"))
        assert (root / "ballast").stat().st_blocks == 0, "the reserve was used"
        (disk / "filler").unlink()
    assert (root / "ballast").stat().st_blocks * 512 >= 1 << 20, "the reserve is back"
    with Store.open(root) as store:
        put_image(store, random_image(1, layer_size=200_000), "x1")
        assert store.check(deep=True).problems == ()
    print("ok")
"""


def test_a_full_disk_stops_a_pull_and_not_a_removal(tmp_path: Path) -> None:
    prefix = mounted("-t", "tmpfs", "-osize=6m", "disk", str(tmp_path))
    assert finished(FULL, str(tmp_path), prefix=prefix) == "ok"


READING = """
    import sys
    from pathlib import Path
    from kstore.errors import StorageError
    from kstore.store import Store
    from tests.support.stores import named
    with Store.open(Path(sys.argv[1])) as store:
        assert store.read_only
        print(*[name.name.familiar for image in store.images() for name in image.names])
        found = store.find_image("x")
        store.read_manifest(found.manifest)
        assert not store.check(deep=True).damaged
        with store.lease("push") as lease:
            lease.hold_image(found)
        for change in (lambda: store.tag(found, [named("y")]), lambda: store.prune()):
            try:
                change()
            except StorageError as exc:
                assert "can only be read" in exc.message
                assert sys.argv[1] in exc.message
            else:
                raise AssertionError("it could be changed")
"""


def test_a_read_only_disk_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    prefix = mounted("--bind", "-r", "--", str(root), str(root))
    assert finished(READING, str(root), prefix=prefix) == "x:latest"


@pytest.mark.parametrize("index", ["with", "without"])
def test_a_read_only_disk_with_a_log_that_was_never_merged_can_be_read(
    tmp_path: Path, index: str
) -> None:
    """The writer was killed: its last commits are only in the write-ahead log."""
    root = tmp_path / "store"
    code = """
        import os, sys
        from pathlib import Path
        from kstore.store import Store
        from tests.support.images import random_image
        from tests.support.stores import put_image
        store = Store.open(Path(sys.argv[1]))
        put_image(store, random_image(1), "x", "z")
        print("stored", flush=True)
        sys.stdin.read()
    """
    with started(code, str(root)) as process:
        assert read_line(process) == "stored"
        process.kill()
    assert (root / "db" / "kstore.db-wal").stat().st_size > 0
    if index == "without":
        (root / "db" / "kstore.db-shm").unlink()
    prefix = mounted("--bind", "-r", "--", str(root), str(root))
    assert finished(READING, str(root), prefix=prefix) == "x:latest z:latest"


@pytest.mark.unprivileged
def test_a_directory_without_write_permission_can_be_read(tmp_path: Path) -> None:
    root = tmp_path / "store"
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    directories = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for directory in directories:
        directory.chmod(0o500)
    try:
        assert finished(READING, str(root)) == "x:latest"
    finally:
        for directory in directories:
            directory.chmod(0o700)


def test_an_empty_read_only_directory_is_no_store(tmp_path: Path) -> None:
    prefix = mounted("--bind", "-r", "--", str(tmp_path), str(tmp_path))
    code = """
        import sys
        from pathlib import Path
        from kstore.errors import StorageError
        from kstore.store import Store
        try:
            Store.open(Path(sys.argv[1]))
        except StorageError as exc:
            print(exc.message)
    """
    assert "there is no store at" in finished(code, str(tmp_path), prefix=prefix)


def test_a_file_that_cannot_be_removed_is_reported(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        put_image(store, random_image(1), "x")
        blob = store.root / "blobs" / "sha256" / random_image(1).layers[0].digest.hex
        blob.unlink()
        blob.mkdir()
        with pytest.raises(StorageError, match=blob.name):
            store.remove_name(named("x"))
        assert store.images() == []


TOO_LITTLE = """
    import os, sys
    from pathlib import Path
    import kstore.settings
    from tests.support.cli import run
    from tests.support.faultserver import FaultServer
    from tests.support.images import random_image, write_oci_layout

    disk, kind = Path(sys.argv[1]), sys.argv[2]
    # The root of a user namespace may not look into the system's directories.
    kstore.settings._lookaside = lambda *_: disk / "signatures"
    image = random_image(1, layer_size=4_000_000)
    with FaultServer() as server:
        for data in image.blobs.values():
            server.add_blob(data)
        server.add_manifest(image.raw.data, image.raw.media_type, tag="v1")
        name = f"{server.host}/team/app:v1"
        if kind == "pull":
            result = run("--root", disk / "store", "pull", "--tls-verify=false", name)
        else:
            write_oci_layout(disk.with_name("layout"), {"v1": image})
            result = run("--root", disk / "store", "load", disk.with_name("layout"))
        assert result.code == 10, result
        assert "8.0 MB are to be stored" in result.err, result.err
        assert "MB are free" in result.err, result.err
        assert "kstore prune" in result.err
        assert not server.seen("GET", "/blobs/sha256"), "it was known before anything was fetched"
    assert os.listdir(disk / "store" / "ingest") == []
    assert run("--root", disk / "store", "images", "-q").out == ""
    assert run("--root", disk / "store", "prune").code == 0
    print("ok")
"""


@pytest.mark.parametrize("kind", ["pull", "load"])
def test_what_has_no_room_is_refused_with_numbers_before_it_begins(
    tmp_path: Path, kind: str
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    prefix = mounted("-t", "tmpfs", "-osize=6m", "disk", str(disk))
    assert finished(TOO_LITTLE, str(disk), kind, prefix=prefix) == "ok"


FEW_INODES = """
    import sys
    from pathlib import Path
    import pytest
    from kstore.errors import StorageFullError
    from kstore.store import Store
    from tests.support.images import random_image
    from tests.support.stores import put_image
    with Store.open(Path(sys.argv[1]) / "store") as store:
        put_image(store, random_image(1), "x")
        blobs = [(layer.digest, layer.size) for layer in random_image(2, layers=30).layers]
        with store.lease("test") as lease, pytest.raises(StorageFullError) as caught:
            lease.require_room(blobs)
        assert "files are to be made" in caught.value.message
        assert len(store.images()) == 1
    print("ok")
"""


def test_files_are_counted_as_well_as_bytes(tmp_path: Path) -> None:
    prefix = mounted("-t", "tmpfs", "-onr_inodes=40", "disk", str(tmp_path))
    assert finished(FEW_INODES, str(tmp_path), prefix=prefix) == "ok"
