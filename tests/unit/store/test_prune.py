from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import StoreDamagedError
from kstore.platforms import Platform
from kstore.store import Publication, Store, catalog
from kstore.store.locks import LockClass
from kstore.store.partials import Part
from tests.support.images import index_of, random_artifact, random_image
from tests.support.scripts import read_line, started
from tests.support.stores import (
    fail_to_pull,
    listing,
    named,
    put_artifact,
    put_blobs,
    put_image,
    put_index,
)

FOREIGN = Platform("linux", "s390x")


def begin(store: Store, data: bytes = b"partial") -> Path:
    digest = Digest.of(data)
    with store.lease("test") as lease, lease.ingest(digest, None) as ingest:
        ingest.write(data[:3])
    return Part.of(store.root / "ingest", digest).path


def test_a_store_without_garbage_stays_as_it_is(store: Store) -> None:
    images = [random_image(1), random_image(2, platform=FOREIGN)]
    put_index(store, index_of(images), images, "multi")
    put_image(store, random_image(3), "x", via=index_of([random_image(3), random_image(4)]))
    put_artifact(store, random_artifact(1, subject=images[0].raw.descriptor))
    report = store.prune(lease_grace=0)
    assert (report.deleted, report.blobs_removed, report.bytes_freed) == ((), 0, 0)
    assert not store.check(deep=True).problems
    assert len(store.referrers(images[0].raw.digest)) == 1


def test_images_without_a_name_are_removed_unless_they_are_to_stay(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    put_image(store, random_image(2), "kept")
    store.untag(named("x"))
    assert store.prune(only_images=()).blobs_removed == 0
    report = store.prune()
    assert report.deleted == (image.id,)
    assert report.blobs_removed == 4
    assert [found.id for found in store.images()] == [random_image(2).id]


def test_of_the_images_without_a_name_only_those_that_are_meant_go(store: Store) -> None:
    gone, stays, kept = random_image(1), random_image(2), random_image(3)
    put_image(store, gone)
    put_image(store, stays)
    put_image(store, kept, "kept")
    report = store.prune(only_images=[gone.id, kept.id])
    assert report.deleted == (gone.id,)
    assert {image.id for image in store.images()} == {stays.id, kept.id}
    assert not store.check(deep=True).problems


def test_an_image_that_is_meant_goes_with_the_index_and_the_artifact_of_it(store: Store) -> None:
    gone, stays = random_image(1), random_image(2)
    put_index(store, index_of([gone]), [gone], "x")
    put_index(store, index_of([stays]), [stays], "y")
    for number, image in enumerate((gone, stays)):
        put_artifact(store, random_artifact(number, subject=image.raw.descriptor))
    of_index = put_artifact(store, random_artifact(2, subject=index_of([gone]).descriptor))
    for text in "xy":
        store.untag(named(text))
    assert store.prune(only_images=[gone.id]).deleted == (gone.id,)
    assert store.manifest(index_of([gone]).digest) is None
    assert store.manifest(index_of([stays]).digest) is not None
    assert store.manifest(of_index.digest) is None
    assert store.referrers(gone.raw.digest) == []
    assert len(store.referrers(stays.raw.digest)) == 1


def test_the_log_keeps_the_newest_changes_of_each_name(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "LOG_LENGTH", 3)
    found = put_image(store, random_image(1), "often", "once")
    for _ in range(4):
        store.untag(named("often"))
        store.tag(found.manifests[0], [named("often")])
    before = store.name_log(named("often"))
    assert store.prune(dry_run=True).log_entries_removed == 6
    assert store.name_log(named("often")) == before
    assert store.prune().log_entries_removed == 6
    assert store.name_log(named("often")) == before[:3]
    assert len(store.name_log(named("once"))) == 1


def test_the_log_forgets_names_that_have_been_gone_for_long(store: Store) -> None:
    put_image(store, random_image(1), "gone", "there")
    store.untag(named("gone"))
    with store._session.write() as db:
        db.execute("UPDATE name_log SET at = at - ?", [catalog.LOG_AGE + 1_000_000])
    put_image(store, random_image(2), "young")
    store.untag(named("young"))
    assert store.prune().log_entries_removed == 2
    assert [str(change.name) for change in store.name_log()] == [
        *["docker.io/library/young:latest"] * 2,
        "docker.io/library/there:latest",
    ]


def test_a_rehearsal_tells_what_would_go_and_removes_nothing(store: Store, root: Path) -> None:
    image = random_image(1)
    put_image(store, image)
    (root / "blobs" / "sha256" / Digest.of(b"stray").hex).write_bytes(b"stray")
    part = begin(store)
    planned = store.prune(dry_run=True, all_unused_partials=True)
    assert len(store.images()) == 1
    assert part.exists()
    done = store.prune(all_unused_partials=True)
    assert planned == done
    assert (done.blobs_removed, done.partials_removed) == (5, 1)
    expected = sum(map(len, image.blobs.values())) + len(image.raw.data) + 5 + 3
    assert done.bytes_freed == expected


def test_an_image_chosen_from_an_index_does_not_keep_the_other_members(store: Store) -> None:
    one, two = random_image(1), random_image(2, platform=FOREIGN)
    index = index_of([one, two])
    put_image(store, two, "x", via=index)
    put_image(store, one, "x", via=index)
    assert store.prune().deleted == (two.id,)
    assert store.read_manifest(index.digest).data == index.data


def test_the_artifacts_of_a_chosen_index_stay(store: Store) -> None:
    image = random_image(1)
    index = index_of([image, random_image(2)])
    put_image(store, image, "x", via=index)
    put_artifact(store, random_artifact(1, subject=index.descriptor))
    assert store.prune().blobs_removed == 0
    assert len(store.referrers(index.digest)) == 1


def test_an_index_that_lost_its_name_goes(store: Store) -> None:
    image = random_image(1)
    put_index(store, index_of([image]), [image], "x")
    put_image(store, image, "y")
    store.untag(named("x"))
    assert store.prune().blobs_removed == 1


def test_blobs_of_a_running_operation_stay(store: Store) -> None:
    image = random_image(1)
    with store.lease("pull") as lease:
        put_blobs(lease, image)
        assert store.prune(lease_grace=0).blobs_removed == 0
        lease.publish(Publication(image.raw))
        assert store.prune(lease_grace=0).blobs_removed == 0
        assert len(store.images()) == 1
    assert store.prune().blobs_removed == 4


def test_blobs_of_a_dead_operation_stay_for_the_grace_period(store: Store) -> None:
    fail_to_pull(store, random_image(1))
    assert store.prune(lease_grace=3600).blobs_removed == 0
    time.sleep(0.01)
    assert store.prune(lease_grace=0.001).blobs_removed == 3


def test_a_clock_that_jumped_back_does_not_keep_a_dead_lease_forever(store: Store) -> None:
    fail_to_pull(store, random_image(1))
    with store._session.write() as db:
        db.execute("UPDATE lease SET touched_at = touched_at + 1000000000000")
    assert store.prune().blobs_removed == 3


def test_a_lease_is_alive_as_long_as_its_process(root: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from kstore.store import Store
        with Store.open(Path(sys.argv[1])) as store, store.lease("pull") as lease:
            lease.put_bytes(b"a blob", "x")
            print("held", flush=True)
            sys.stdin.read()
    """
    with started(code, str(root)) as process, Store.open(root) as store:
        assert read_line(process) == "held"
        assert store.prune(lease_grace=0).blobs_removed == 0
        process.kill()
        process.wait()
        assert store.prune(lease_grace=0).blobs_removed == 1


def test_files_without_a_row_are_swept(store: Store, root: Path) -> None:
    stray = root / "blobs" / "sha256" / Digest.of(b"stray").hex
    stray.write_bytes(b"stray")
    readme = root / "blobs" / "sha256" / "README"
    readme.write_text("not a blob")
    assert store.prune().bytes_freed == 5
    assert not stray.exists()
    assert readme.exists()


def test_old_partial_downloads_go_and_young_ones_stay(store: Store) -> None:
    old, young = begin(store, b"old download"), begin(store, b"young download")
    os.utime(old, (time.time() - 8 * 86400,) * 2)
    assert store.prune().partials_removed == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert not old.with_suffix(".json").exists()
    assert store.prune(all_unused_partials=True).partials_removed == 1
    assert store.partial_downloads() == []


def test_a_running_download_is_never_collected(store: Store, root: Path) -> None:
    with store.lease("pull") as lease, lease.ingest(Digest.of(b"partial"), None) as ingest:
        ingest.write(b"par")
        with Store.open(root) as other:
            report = other.prune(all_unused_partials=True, partial_grace=0)
        assert (report.partials_removed, report.skipped_busy) == (0, 1)
        ingest.write(b"tial")
        lease.commit_blobs([ingest.stage(Digest.of(b"partial"), 7)])


def test_private_files_go_with_their_lease(store: Store, root: Path) -> None:
    with store.lease("pull") as lease:
        private = store._session.root.private_file(lease.id)
        private.write_bytes(b"rest")
        staging = root / "staging" / private.name
        staging.mkdir()
        (staging / "file").touch()
        store.prune()
        assert private.exists()
        assert staging.exists()
    (root / "ingest" / "notes.txt").write_text("somebody's")
    store.prune()
    assert listing(root / "ingest") == ["notes.txt"]
    assert not staging.exists()


def test_two_prunes_do_not_run_at_once(store: Store) -> None:
    put_image(store, random_image(1))
    with store._session.locks.lock(LockClass.GC, wait_seconds=1, what="it"):
        report = store.prune()
    assert report.already_running
    assert len(store.images()) == 1


def test_a_damaged_database_deletes_nothing(root: Path) -> None:
    with Store.open(root) as store:
        for seed in range(5):
            put_image(store, random_image(seed), f"x{seed}")
        (page_size,) = store._session.db.row("PRAGMA page_size")
    before = set(listing(root / "blobs" / "sha256"))
    path = root / "db" / "kstore.db"
    data = bytearray(path.read_bytes())
    connection = sqlite3.connect(path)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'name'"
    ).fetchone()
    connection.close()
    start = (page - 1) * page_size
    data[start + 20 : start + page_size] = os.urandom(page_size - 20)
    path.write_bytes(data)
    with Store.open(root) as store, pytest.raises(StoreDamagedError):
        store.prune()
    assert set(listing(root / "blobs" / "sha256")) == before


def test_a_prune_leaves_backups_that_can_be_opened(store: Store, root: Path) -> None:
    put_image(store, random_image(1), "x")
    store.prune()
    store.tag(store.find_image("x"), [named("y")])
    store.prune()
    counts = []
    for number in (0, 1):
        connection = sqlite3.connect(root / "db" / f"backup-{number}.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        counts.append(connection.execute("SELECT count(*) FROM name").fetchone()[0])
        connection.close()
    assert counts == [2, 1]
