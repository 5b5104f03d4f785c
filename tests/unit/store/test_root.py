from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from kstore.errors import (
    ConflictError,
    NotFoundError,
    StorageError,
    StoreDamagedError,
    StoreVersionError,
)
from kstore.store import Store
from kstore.store.filesystem import file_system_kind
from kstore.store.rebuild import rebuild
from kstore.store.root import BALLAST_SIZE
from kstore.store.schema import SCHEMA_VERSION
from tests.support.images import random_image, write_oci_layout
from tests.support.scripts import finished
from tests.support.stores import put_image

#: Who tells what file system a store is on.
KIND = "kstore.store.filesystem.file_system_kind"


def test_a_new_store_has_the_documented_layout(root: Path) -> None:
    Store.open(root).close()
    assert root.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in root.iterdir()} == {
        "oci-layout", "index.json", "blobs", "ingest", "staging", "trash", "quarantine", "db",
        "containers", "locks", "ballast",
    }  # fmt: skip
    assert json.loads((root / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    assert (root / "ballast").stat().st_blocks * 512 >= BALLAST_SIZE


def test_what_the_user_deleted_by_mistake_is_made_again(root: Path) -> None:
    Store.open(root).close()
    for name in ("locks", "ballast", "index.json", "oci-layout"):
        (root / name).unlink()
    (root / "trash").rmdir()
    with Store.open(root) as store:
        assert store.images() == []
    assert (root / "locks").exists()
    assert (root / "ballast").exists()


def test_a_store_that_does_not_exist_is_not_made_unless_asked(root: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no store at"):
        Store.open(root, create=False)
    assert not root.exists()


@pytest.mark.parametrize("there", [False, True])
def test_reading_a_store_that_does_not_exist_finds_it_empty_and_makes_nothing(
    root: Path, there: bool
) -> None:
    if there:
        root.mkdir()
    with Store.open(root, read_only=True) as store:
        assert store.images() == []
        assert store.facts().blobs == 0
        with pytest.raises(NotFoundError, match="is no store at"), store.lease("x") as lease:
            lease.put_bytes(b"x", "x/y")
    assert root.exists() is there
    assert not there or list(root.iterdir()) == []


def test_an_empty_directory_becomes_a_store_and_a_full_one_does_not(root: Path) -> None:
    root.mkdir()
    (root / "lost+found").mkdir()
    Store.open(root).close()
    other = root.with_name("other")
    other.mkdir()
    (other / "letter.txt").write_text("dear")
    with pytest.raises(ConflictError, match="not empty and not a store"):
        Store.open(other)
    assert [path.name for path in other.iterdir()] == ["letter.txt"]


def test_a_foreign_image_layout_is_not_written_into(root: Path) -> None:
    write_oci_layout(root, {"v1": random_image(1)})
    before = sorted(path.name for path in root.rglob("*"))
    with pytest.raises(ConflictError, match="OCI image layout"):
        Store.open(root)
    assert sorted(path.name for path in root.rglob("*")) == before


def test_a_file_is_not_a_store(root: Path) -> None:
    root.write_text("x")
    with pytest.raises(StorageError, match="not a directory"):
        Store.open(root)


def test_a_directory_that_cannot_be_made_is_explained(root: Path) -> None:
    root.write_text("x")
    with pytest.raises(StorageError) as caught:
        Store.open(root / "below")
    assert caught.value.message == f"cannot use {root}/below as a store: Not a directory"


@pytest.mark.unprivileged
def test_the_root_of_another_user_is_refused() -> None:
    if Path("/usr").stat().st_uid == os.geteuid():
        pytest.skip("everything belongs to this user, as in a user namespace")
    with pytest.raises(StorageError, match=r"belongs to user root") as caught:
        Store.open(Path("/usr"))
    assert caught.value.hint is not None
    assert "--root" in caught.value.hint


@pytest.mark.root
def test_the_root_of_another_user_is_refused_even_for_root(root: Path) -> None:
    Store.open(root).close()
    os.chown(root, 12345, 12345)
    with pytest.raises(StorageError, match="belongs to user 12345, and this is user root"):
        Store.open(root)


def test_network_file_systems_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("nfs4", "cifs", "9p"):
        monkeypatch.setattr(KIND, lambda path, kind=kind: kind)
        with pytest.raises(StorageError, match=f"network file system \\({kind}\\)") as caught:
            Store.open(root)
        assert "--additional-store" in (caught.value.hint or "")
        assert "--unsafe-network-fs" in (caught.value.hint or "")


def journal_of(store: Store) -> str:
    (mode,) = store._session.db.row("PRAGMA journal_mode")
    return str(mode)


def test_a_network_file_system_is_used_at_the_users_risk_without_shared_memory(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KIND, lambda path: "nfs4")
    warnings: list[str] = []
    with Store.open(root, network_ok=True, warn=warnings.append) as store:
        assert journal_of(store) == "delete"
        put_image(store, random_image(1), "x")
        put_image(store, random_image(2), "y")
        store.remove_image(random_image(2).id)
        store.prune()
        assert store.check(deep=True).problems == ()
        names = {path.name for path in (root / "db").iterdir()}
        assert {name for name in names if not name.startswith("spare-")} == {
            "kstore.db",
            "backup-0.db",
        }
    assert len(warnings) == 1
    assert "two machines" in warnings[0]
    (root / "db" / "kstore.db").write_bytes(b"x" * 4096)
    assert rebuild(root, network_ok=True).names == 1
    with Store.open(root, network_ok=True) as store:
        assert journal_of(store) == "delete"


def test_a_store_that_moves_to_a_network_file_system_and_back_changes_its_journal(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = root / "db" / "kstore.db-wal"
    code = """
        import os, sys
        from pathlib import Path
        from kstore.store import Store
        from tests.support.images import random_image
        from tests.support.stores import put_image
        store = Store.open(Path(sys.argv[1]))
        put_image(store, random_image(1), "x")
        os._exit(0)  # nothing is closed: the log stays
    """
    finished(code, str(root))
    assert log.stat().st_size > 0
    with monkeypatch.context() as moved:
        moved.setattr(KIND, lambda path: "nfs4")
        with Store.open(root, network_ok=True) as store:
            assert journal_of(store) == "delete"
            assert not log.exists()
            assert len(store.images()) == 1
            put_image(store, random_image(2), "y")
    with Store.open(root) as store:
        assert journal_of(store) == "wal"
        assert len(store.images()) == 2


def test_fuse_is_used_with_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KIND, lambda path: "fuse.bindfs")
    warnings: list[str] = []
    Store.open(root, warn=warnings.append).close()
    assert len(warnings) == 1
    assert "fuse.bindfs" in warnings[0]


def test_the_kind_of_a_file_system_is_read_from_the_mount_table(tmp_path: Path) -> None:
    device = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(
        "20 1 0:99999 / /other rw - ext4 /dev/x rw\n"
        f"21 1 {os.major(device)}:{os.minor(device)} / /mnt rw,a master:1 - nfs4 host:/x rw\n"
    )
    assert file_system_kind(tmp_path, table) == "nfs4"
    assert file_system_kind(tmp_path, tmp_path / "absent") is None


def test_a_newer_store_is_neither_read_nor_written(root: Path) -> None:
    Store.open(root).close()
    connection = sqlite3.connect(root / "db" / "kstore.db")
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    for read_only in (False, True):
        with pytest.raises(
            StoreVersionError, match=f"version {SCHEMA_VERSION + 1}.* {SCHEMA_VERSION}"
        ):
            Store.open(root, read_only=read_only)


def test_a_database_of_another_program_is_refused(root: Path) -> None:
    Store.open(root).close()
    connection = sqlite3.connect(root / "db" / "kstore.db")
    connection.execute("PRAGMA application_id = 1")
    connection.close()
    with pytest.raises(StoreDamagedError, match="not a kstore database"):
        Store.open(root)


def test_a_database_that_is_no_database_is_damage(root: Path) -> None:
    Store.open(root).close()
    (root / "db" / "kstore.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreDamagedError, match="is not a database") as caught:
        Store.open(root)
    assert caught.value.hint == "kstore check --repair"


def test_blobs_without_a_database_are_not_taken_for_a_new_store(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "busybox")
    (root / "db" / "kstore.db").unlink()
    with pytest.raises(StoreDamagedError, match="database of .* is gone"):
        Store.open(root)


def test_a_store_whose_making_was_interrupted_is_finished(root: Path) -> None:
    Store.open(root).close()
    for path in (root / "db").iterdir():
        path.unlink()
    (root / "db" / "kstore.db").touch()  # SQLite made the file, and then the process died
    (root / "index.json").unlink()
    with Store.open(root) as store:
        assert store.images() == []


def test_many_processes_may_make_the_same_store_at_once(root: Path) -> None:
    code = """
        import subprocess, sys
        one = ("import sys; from pathlib import Path; from kstore.store import Store;"
               "Store.open(Path(sys.argv[1])).close()")
        all = [subprocess.Popen([sys.executable, "-c", one, sys.argv[1]]) for _ in range(6)]
        print([process.wait() for process in all])
    """
    assert finished(code, str(root)) == str([0] * 6)


def test_reading_imports_nothing_heavy(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "busybox")
    code = """
        import sys
        from pathlib import Path
        from kstore.store import Store
        with Store.open(Path(sys.argv[1])) as store:
            assert len(store.images()) == 1
            found = store.find_image("busybox")
            store.read_manifest(found.manifest)
            store.names(), store.name_log(), store.facts()
        heavy = {"sqlite_utils", "zstandard", "isal", "urllib3", "rich", "click", "ctypes"}
        print(sorted(heavy & set(sys.modules)))
    """
    assert finished(code, str(root)) == "[]"


def test_a_connection_has_the_settings_the_protocol_needs(store: Store) -> None:
    connection = store._session.db.connection
    found = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "foreign_keys", "wal_autocheckpoint")
    }
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "wal_autocheckpoint": 0,
    }


def test_all_tables_are_strict(store: Store) -> None:
    rows = store._session.db.rows("PRAGMA table_list")
    loose = {row[1] for row in rows if row[2] == "table" and row[0] == "main" and not row[5]}
    assert {name for name in loose if not name.startswith(("sqlite_", "_sqlite_"))} == set()


def test_every_view_can_be_queried(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "busybox", origin=("docker.io", "library/busybox"))
        views = {"images_view": 1, "names_view": 1, "layers_view": 2, "blobs_view": 4}
        for view, count in views.items():
            assert len(store._session.db.rows(f"SELECT * FROM {view}")) == count, view
        assert store._session.db.rows("SELECT * FROM leases_view") == []
