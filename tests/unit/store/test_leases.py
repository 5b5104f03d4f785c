from __future__ import annotations

import os
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError
from kstore.store import Publication, Store
from kstore.streams import BytesStream
from tests.support.images import index_of, random_image
from tests.support.stores import fail_to_pull, listing, named, put_blobs, put_image, put_index

DATA = b"a blob"
DIGEST = Digest.of(DATA)


def spoil(root: Path, digest: Digest, data: bytes) -> None:
    path = root / "blobs" / digest.algorithm / digest.hex
    path.unlink()
    path.write_bytes(data)


def put(store: Store, data: bytes = DATA) -> Digest:
    with store.lease("test") as lease:
        return lease.put_bytes(data, "application/octet-stream").digest


def leases(store: Store) -> int:
    return int(store._session.db.row("SELECT count(*) FROM lease")[0])


def test_small_blobs_are_stored_from_bytes(store: Store) -> None:
    with store.lease("test") as lease:
        descriptor = lease.put_bytes(DATA, "text/plain")
        assert lease.put_bytes(DATA, "text/plain") == descriptor
    assert (descriptor.digest, descriptor.size) == (DIGEST, len(DATA))
    assert store.read_blob(DIGEST, cap=100) == DATA


def test_a_stream_of_unknown_digest_is_stored_under_its_own(store: Store, root: Path) -> None:
    data = os.urandom(3_000_000)
    with store.lease("test") as lease:
        assert lease.put_stream(BytesStream(data)) == (Digest.of(data), len(data))
        assert lease.put_stream(BytesStream(data)) == (Digest.of(data), len(data))
    assert store.read_blob(Digest.of(data), cap=4_000_000) == data
    assert listing(root / "ingest") == []


def test_a_stream_that_fails_leaves_nothing(store: Store, root: Path) -> None:
    class Broken(BytesStream):
        def readinto(self, buffer: memoryview, /) -> int:
            count = super().readinto(buffer)
            if count == 0:
                raise ConnectionResetError
            return count

    with store.lease("test") as lease, pytest.raises(ConnectionResetError):
        lease.put_stream(Broken(DATA))
    assert listing(root / "ingest") == []
    assert listing(root / "blobs" / "sha256") == []


def test_only_what_the_store_has_is_adopted(store: Store) -> None:
    put(store)
    absent = Digest.of(b"absent")
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, len(DATA)), (absent, 6)]) == {DIGEST}
        assert lease.adopt([(DIGEST, None)]) == {DIGEST}
        assert lease.adopt([(DIGEST, len(DATA) + 1)]) == set()
        assert lease.adopt([]) == set()


def test_a_damaged_blob_is_not_adopted_and_is_healed_by_the_next_download(
    store: Store, root: Path
) -> None:
    put(store)
    spoil(root, DIGEST, b"A blob")
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, len(DATA))]) == set()
        assert store.blob(DIGEST) is None
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert not ingest.present
            ingest.write(DATA)
            lease.commit_blobs([ingest.stage(DIGEST, len(DATA))])
        assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}
    assert store.read_blob(DIGEST, cap=100) == DATA


def test_a_deleted_blob_is_noticed_and_healed(store: Store, root: Path) -> None:
    put(store)
    (root / "blobs" / "sha256" / DIGEST.hex).unlink()
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, len(DATA))]) == set()
    assert store.blob(DIGEST) is None
    put(store)
    assert store.blob(DIGEST) == len(DATA)


def test_a_shortened_blob_is_not_adopted(store: Store, root: Path) -> None:
    put(store)
    spoil(root, DIGEST, b"")
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, len(DATA))]) == set()
        assert lease.adopt([(DIGEST, None)]) == set()
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert not ingest.present


def test_a_copied_file_is_hashed_once_and_then_trusted(store: Store, root: Path) -> None:
    put(store)
    spoil(root, DIGEST, DATA)  # other inode and time, same bytes: a moved store
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}
    row = store._session.db.row("SELECT ino FROM blob WHERE digest = ?", [str(DIGEST)])
    assert row[0] == (root / "blobs" / "sha256" / DIGEST.hex).stat().st_ino


def test_a_file_without_a_row_is_adopted_if_its_bytes_are_right(store: Store, root: Path) -> None:
    good, bad = root / "blobs" / "sha256" / DIGEST.hex, Digest.of(b"bad")
    good.write_bytes(DATA)
    (root / "blobs" / "sha256" / bad.hex).write_bytes(b"BAD")
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, None), (bad, None)]) == {DIGEST}
        with lease.ingest(bad, 3) as ingest:
            assert not ingest.present
    assert store.blob(DIGEST) == len(DATA)


def test_a_lease_that_ends_well_is_gone_and_one_that_fails_stays(store: Store) -> None:
    put(store)
    assert leases(store) == 0
    fail_to_pull(store, random_image(1))
    assert leases(store) == 1


def test_a_joined_lease_holds_for_its_owner(root: Path, store: Store) -> None:
    with store.lease("server") as owner:
        with Store.open(root) as other, other.join_lease(owner.id) as joined:
            joined.put_bytes(DATA, "x")
        assert leases(store) == 1
        assert store.prune(lease_grace=0).blobs_removed == 0
    assert store.prune().blobs_removed == 1


def test_many_blobs_cost_one_commit(store: Store, root: Path) -> None:
    blobs = {Digest.of(bytes([n])): bytes([n]) for n in range(50)}
    statements: list[str] = []
    with store.lease("test") as lease:
        staged = []
        for digest, data in blobs.items():
            with lease.ingest(digest, 1) as ingest:
                ingest.write(data)
                staged.append(ingest.stage(digest, 1))
        store._session.db.connection.set_trace_callback(statements.append)
        lease.commit_blobs(staged, origin=("docker.io", "library/x"))
        store._session.db.connection.set_trace_callback(None)
    assert statements.count("COMMIT") == 1
    assert store.origins(next(iter(blobs))) == [("docker.io", "library/x")]


def test_origins_are_listed_newest_first(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x", origin=("docker.io", "library/x"))
    digest = image.raw.digest
    layer = next(iter(image.blobs))
    with store.lease("test") as lease, lease.ingest(Digest.of(b"new"), 3) as ingest:
        ingest.write(b"new")
        lease.commit_blobs([ingest.stage(Digest.of(b"new"), 3)], origin=("", "uploads"))
    assert store.origins(layer) == [("docker.io", "library/x")]
    assert store.origins(Digest.of(b"new")) == []
    assert store.origins(digest) == []
    assert store.blob_in_repository(Digest.of(b"new"), "uploads")
    assert not store.blob_in_repository(Digest.of(b"new"), "docker.io/library/x")
    assert store.blob_in_repository(layer, "docker.io/library/x")


def test_a_held_image_can_be_read_after_its_removal(store: Store) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    found = store.find_image("x")
    with store.lease("push") as lease:
        lease.hold_image(found)
        report = store.remove_name(named("x"))
        assert report.blobs_removed == 0
        assert store.images() == []
        assert store.prune().blobs_removed == 0
        assert store.read_manifest(image.raw.digest).data == image.raw.data
        for digest, data in image.blobs.items():
            assert store.read_blob(digest, cap=1 << 20) == data
    assert store.prune().blobs_removed == 4


def test_holding_by_the_name_of_an_index_holds_all_its_members(store: Store) -> None:
    images = [random_image(1), random_image(2)]
    put_index(store, index_of(images), images, "x")
    with store.lease("push") as lease:
        lease.hold_image(store.find_image("x"))
        store.remove_name(named("x"))
        for image in images:
            assert store.read_manifest(image.raw.digest).data == image.raw.data


def test_an_image_that_was_removed_cannot_be_held(store: Store) -> None:
    put_image(store, random_image(1), "x")
    found = store.find_image("x")
    store.remove_name(named("x"))
    with store.lease("push") as lease, pytest.raises(BlobNotFoundError):
        lease.hold_image(found)


def test_finished_blobs_of_a_failed_pull_are_not_fetched_again(store: Store) -> None:
    image = random_image(1)
    fail_to_pull(store, image)
    other = random_image(2)
    put_image(store, other, "other")
    store.remove_name(named("other"))  # sweeps only what it released itself
    assert store.prune().blobs_removed == 0
    with store.lease("pull") as lease:
        assert put_blobs(lease, image) == []
        lease.publish(Publication(image.raw, (named("x"),)))
    assert store.prune(lease_grace=0).blobs_removed == 0


def test_what_this_lease_staged_itself_can_be_adopted(store: Store) -> None:
    with store.lease("test") as lease, lease.ingest(DIGEST, len(DATA)) as ingest:
        ingest.write(DATA)
        staged = ingest.stage(DIGEST, len(DATA))
        assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}
        lease.commit_blobs([staged], origin=("docker.io", "library/x"))
    assert store.origins(DIGEST) == [("docker.io", "library/x")]


def test_the_last_publication_of_a_lease_takes_its_row_along(store: Store) -> None:
    image = random_image(1)
    with store.lease("pull") as lease:
        put_blobs(lease, image)
        assert leases(store) == 1
        lease.publish(Publication(image.raw, (named("x"),)), last=True)
        assert leases(store) == 0
        assert store.prune(lease_grace=0).blobs_removed == 0
    assert store.find_image("x").image.complete


def test_a_lease_that_goes_on_after_publishing_holds_what_it_published(store: Store) -> None:
    image = random_image(1)
    with store.lease("upload") as lease:
        put_blobs(lease, image)
        lease.publish(Publication(image.raw, (named("x"),)))
        store.remove_name(named("x"))
        assert lease.adopt([(image.raw.digest, None)]) == {image.raw.digest}
    assert leases(store) == 0


def test_a_last_publication_that_fails_keeps_the_lease(store: Store) -> None:
    lease = store.lease("pull")
    lease.put_bytes(DATA, "text/plain")
    with pytest.raises(BlobNotFoundError), lease:
        lease.publish(Publication(random_image(1).raw, (named("x"),)), last=True)
    assert leases(store) == 1
