from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    CancelledError,
    InUseError,
    SizeMismatchError,
    StorageError,
)
from kstore.store import Ingest, Lease, Store
from kstore.store import ingest as ingest_module
from kstore.store import lanes as lanes_module
from kstore.store import leases as leases_module
from kstore.store.partials import Part, Side, boot_id
from kstore.streams import Cancel
from tests.support.scripts import read_line, started
from tests.support.stores import listing

DATA = bytes(range(256)) * 40
DIGEST = Digest.of(DATA)

OWNER = """
    import sys, time
    from pathlib import Path
    from kstore.digest import Digest
    from kstore.store import Store
    with Store.open(Path(sys.argv[1])) as store, store.lease("owner") as lease:
        ingest = lease.ingest(Digest.parse(sys.argv[2]), 10240)
        ingest.write(memoryview(bytes(range(256)) * 4))
        print(ingest.offset, flush=True)
        sys.stdin.readline()
        ingest.write(memoryview(bytes(range(256)) * 36))
        blob = ingest.stage(ingest.digest, 10240)
        print("staged", flush=True)
        sys.stdin.readline()
        lease.commit_blobs([blob])
        print("committed", flush=True)
        sys.stdin.readline()
"""


def say(process: subprocess.Popen[str]) -> None:
    """Let the program go on."""
    print(file=process.stdin, flush=True)


def part_of(root: Path) -> Part:
    return Part.of(root / "ingest", DIGEST)


def begin(lease: Lease, data: bytes = DATA[:1000], **more: object) -> None:
    with lease.ingest(DIGEST, len(DATA), **more) as ingest:  # type: ignore[arg-type]
        ingest.write(memoryview(data))


def finish(lease: Lease, ingest: Ingest) -> None:
    with ingest:
        ingest.write(memoryview(DATA)[ingest.offset :])
        lease.commit_blobs([ingest.stage(DIGEST, len(DATA))])


def test_a_finished_blob_is_there_with_its_row_and_no_trace_of_the_download(
    store: Store, root: Path
) -> None:
    with store.lease("test") as lease:
        finish(lease, lease.ingest(DIGEST, len(DATA)))
        assert store.blob(DIGEST) == len(DATA)
    assert store.read_blob(DIGEST, cap=1 << 20) == DATA
    assert listing(root / "ingest") == []
    assert (root / "blobs" / "sha256" / DIGEST.hex).stat().st_mode & 0o777 == 0o444


def test_a_blob_counts_only_after_its_commit(store: Store) -> None:
    with store.lease("test") as lease:
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            ingest.write(DATA)
            staged = ingest.stage(DIGEST, len(DATA))
        assert store.blob(DIGEST) is None
        lease.commit_blobs([staged])
        assert store.blob(DIGEST) == len(DATA)


def test_an_abandoned_download_resumes_where_it_stopped(store: Store) -> None:
    with store.lease("test") as lease:
        begin(lease)
        ingest = lease.ingest(DIGEST, len(DATA))
        assert ingest.offset == 1000
        assert Digest.from_hasher(ingest.hasher) == Digest.of(DATA[:1000])
        finish(lease, ingest)
    assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_a_failed_download_is_kept_and_a_dropped_one_is_not(store: Store, root: Path) -> None:
    with store.lease("test") as lease:
        with contextlib.suppress(KeyError), lease.ingest(DIGEST, len(DATA)) as ingest:
            ingest.write(DATA[:50])
            raise KeyError("connection lost")
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.offset == 50
            ingest.drop()
    assert listing(root / "ingest") == []


def test_a_restart_forgets_the_bytes_and_the_validator(store: Store) -> None:
    with store.lease("test") as lease:
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            ingest.remember("etag-1")
            ingest.write(b"wrong bytes")
            ingest.restart()
            assert (ingest.offset, ingest.validator) == (0, None)
            assert Digest.from_hasher(ingest.hasher) == Digest.of(b"")
        finish(lease, lease.ingest(DIGEST, len(DATA)))
    assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_the_validator_is_remembered_with_the_bytes(store: Store) -> None:
    with store.lease("test") as lease:
        with lease.ingest(DIGEST, len(DATA), origin="docker.io/library/x") as ingest:
            assert ingest.validator is None
            ingest.remember('"etag-1"')
            ingest.write(DATA[:10])
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.validator == '"etag-1"'
        (partial,) = store.partial_downloads()
    assert (partial.digest, partial.bytes, partial.size) == (DIGEST, 10, len(DATA))
    assert partial.origin == "docker.io/library/x"
    assert 0 <= partial.age_seconds < 60


def test_a_validator_is_forgotten_where_it_was_not_given(store: Store) -> None:
    with store.lease("test") as lease:
        with lease.ingest(DIGEST, len(DATA), origin="one.example/x") as ingest:
            ingest.remember('"etag-1"')
            ingest.write(DATA[:10])
        with lease.ingest(DIGEST, len(DATA), origin="one.example/x") as ingest:
            assert (ingest.offset, ingest.validator) == (10, '"etag-1"')
        with lease.ingest(DIGEST, len(DATA), origin="two.example/x") as ingest:
            assert (ingest.offset, ingest.validator) == (10, None)


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_bytes_that_could_not_be_synced_are_not_trusted_again(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """After one failure the kernel may call the same pages clean, and a second sync succeeds."""
    with store.lease("test") as lease:
        begin(lease, DATA[:1000])  # synced
        left = iter([OSError(errno.EIO, "Input/output error")])

        def fail_once(descriptor: int) -> None:
            for error in left:
                raise error

        monkeypatch.setattr(os, call, fail_once)
        ingest = lease.ingest(DIGEST, len(DATA))
        ingest.write(DATA[1000:])
        with pytest.raises(StorageError):
            ingest.stage(DIGEST, len(DATA)) if call == "fsync" else ingest.close()
        ingest.close()
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.offset == 1000


def test_a_partial_download_can_be_dropped_unless_somebody_is_writing_it(
    store: Store, root: Path
) -> None:
    with pytest.raises(BlobNotFoundError, match=str(DIGEST)):
        store.drop_partial(DIGEST)
    with store.lease("test") as lease:
        begin(lease)
        with lease.ingest(DIGEST, len(DATA)), pytest.raises(InUseError, match=str(os.getpid())):
            store.drop_partial(DIGEST)
    assert store.drop_partial(DIGEST) == 1000
    assert listing(root / "ingest") == []


def test_after_a_reboot_only_the_synced_bytes_are_trusted(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest_module, "SYNC_BYTES", 400)
    with store.lease("test") as lease:
        ingest = lease.ingest(DIGEST, len(DATA))
        ingest.write(DATA[:500])  # synced: more than 400
        ingest.write(DATA[500:600])
        crashed = part_of(root).path.read_bytes(), part_of(root).side_path.read_bytes()
        assert part_of(root).read_side().synced == 500
        ingest.drop()
    for boot, expected in [(boot_id(), 600), ("another-boot", 500), (None, 500)]:
        part_of(root).path.write_bytes(crashed[0])
        side = json.loads(crashed[1]) | {"boot": boot}
        part_of(root).side_path.write_text(json.dumps(side))
        with store.lease("test") as lease, lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.offset == expected, boot
            ingest.drop()


@pytest.mark.parametrize("side", [b"", b"{", b"[1]", b'{"synced": -1}', b'{"synced": "9"}', None])
def test_a_part_without_a_readable_side_file_starts_again(
    store: Store, root: Path, side: bytes | None
) -> None:
    part_of(root).path.write_bytes(DATA[:500])
    if side is not None:
        part_of(root).side_path.write_bytes(side)
    with store.lease("test") as lease:
        ingest = lease.ingest(DIGEST, len(DATA))
        assert ingest.offset == 0
        finish(lease, ingest)
    assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_a_part_longer_than_the_blob_starts_again(store: Store) -> None:
    with store.lease("test") as lease:
        begin(lease, DATA + b"more")
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.offset == 0


def test_a_complete_part_with_wrong_bytes_starts_again(store: Store) -> None:
    with store.lease("test") as lease:
        begin(lease, DATA[::-1])
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.offset == 0
            assert Digest.from_hasher(ingest.hasher) == Digest.of(b"")
        begin(lease, DATA)
        with lease.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest.offset == len(DATA)
            assert Digest.from_hasher(ingest.hasher) == DIGEST


def test_a_part_that_died_before_its_rename_is_used(store: Store, root: Path) -> None:
    part_of(root).path.write_bytes(DATA)
    part_of(root).path.chmod(0o444)
    part_of(root).write_side(Side(size=len(DATA), synced=len(DATA), boot=boot_id()))
    with store.lease("test") as lease:
        ingest = lease.ingest(DIGEST, len(DATA))
        assert ingest.offset == len(DATA)
        finish(lease, ingest)
    assert store.blob(DIGEST) == len(DATA)


def test_a_blob_of_another_length_cannot_be_staged(store: Store) -> None:
    with store.lease("test") as lease, lease.ingest(DIGEST, len(DATA)) as ingest:
        ingest.write(DATA[:-1])
        with pytest.raises(SizeMismatchError):
            ingest.stage(DIGEST, len(DATA))


def test_a_blob_whose_digest_shows_at_its_end_can_be_staged_under_it(store: Store) -> None:
    with store.lease("test") as lease, lease.ingest(Digest.of(b"an upload"), None) as ingest:
        ingest.write(DATA)
        lease.commit_blobs([ingest.stage(DIGEST, len(DATA))])
    assert store.read_blob(DIGEST, cap=len(DATA)) == DATA


def test_a_tiny_blob_is_not_resumed_and_takes_no_notes(store: Store, root: Path) -> None:
    digest = Digest.of(b"tiny")
    for _ in range(2):
        with store.lease("test") as lease, lease.ingest(digest, 4) as ingest:
            assert ingest.offset == 0
            ingest.write(b"ti")
        assert list((root / "ingest").iterdir()) == []
    with store.lease("test") as lease, lease.ingest(digest, 4) as ingest:
        ingest.write(b"tiny")
        lease.commit_blobs([ingest.stage(digest, 4)])
    assert store.read_blob(digest, cap=4) == b"tiny"


def test_a_blob_of_unknown_size_can_be_ingested(store: Store) -> None:
    with store.lease("test") as lease, lease.ingest(DIGEST, None) as ingest:
        ingest.write(DATA)
        lease.commit_blobs([ingest.stage(DIGEST, len(DATA))])
    assert store.blob(DIGEST) == len(DATA)


def test_a_waiter_is_told_who_downloads_and_finds_the_blob_present(root: Path) -> None:
    told: list[int | None] = []
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"

        def waiting(pid: int | None) -> None:
            told.append(pid)
            if len(told) == 1:
                say(process)

        with store.lease("test") as lease:
            with lease.ingest(DIGEST, len(DATA), waiting=waiting) as ingest:
                assert ingest.present
            assert told[0] == process.pid
            assert read_line(process) == "staged"
            threading.Timer(0.2, say, [process]).start()
            assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}  # waits for the owner's commit
        assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_those_who_waited_do_not_hash_what_the_owner_has_committed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Digest] = []
    monkeypatch.setattr(
        leases_module, "hash_file", lambda blobs, digest, **_: hashed.append(digest)
    )
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        say(process)
        assert read_line(process) == "staged"  # the file has its name, and no row yet
        with store.lease("test") as lease:
            threading.Timer(0.2, say, [process]).start()
            assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}
        assert hashed == []
        assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_a_waiter_resumes_what_a_killed_owner_left(root: Path) -> None:
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        with store.lease("test") as lease:
            ingest = lease.ingest(DIGEST, len(DATA), waiting=lambda pid: process.kill())
            assert ingest.offset == 1024
            finish(lease, ingest)
        assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_a_waiter_adopts_a_blob_whose_owner_died_before_its_commit(root: Path) -> None:
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        say(process)
        assert read_line(process) == "staged"
        process.kill()
        process.wait()
        assert store.blob(DIGEST) is None
        with store.lease("test") as lease:
            with lease.ingest(DIGEST, len(DATA)) as ingest:
                assert ingest.present
            assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}
        assert store.blob(DIGEST) == len(DATA)


def test_a_stuck_owner_is_passed_by(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "STALL_SECONDS", 0.3)
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        with store.lease("test") as lease:
            begun = time.monotonic()
            ingest = lease.ingest(DIGEST, len(DATA))
            assert time.monotonic() - begun >= 0.3
            assert ingest.offset == 0
            finish(lease, ingest)
            assert store.blob(DIGEST) == len(DATA)
        say(process)  # the owner wakes up, and nothing breaks
        say(process)
        assert read_line(process) == "staged"
        assert read_line(process) == "committed"
        assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_those_who_wait_for_a_stuck_owner_send_one_of_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait for that one, and not for the stuck one any more."""
    monkeypatch.setattr(lanes_module, "STALL_SECONDS", 1.0)
    waiters = 5
    fetched: list[int] = []
    moved_on: set[int] = set()

    def work(number: int) -> None:
        def waiting(pid: int | None) -> None:
            if pid is None:  # who took over leaves no notes
                moved_on.add(number)

        with Store.open(root) as store, store.lease("test") as lease:
            with lease.ingest(DIGEST, len(DATA), waiting=waiting) as ingest:
                if ingest.present:
                    return
                fetched.append(number)
                deadline = time.monotonic() + 15
                while len(moved_on) < waiters - 1 and time.monotonic() < deadline:
                    if ingest.offset < len(DATA) - 1:
                        ingest.write(DATA[ingest.offset : ingest.offset + 1])
                    time.sleep(0.01)
                ingest.write(memoryview(DATA)[ingest.offset :])
                staged = ingest.stage(DIGEST, len(DATA))
            lease.commit_blobs([staged])

    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        threads = [threading.Thread(target=work, args=(n,)) for n in range(waiters)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        assert len(fetched) == 1
        assert len(moved_on) == waiters - 1
        assert store.read_blob(DIGEST, cap=1 << 20) == DATA


def test_when_all_who_took_over_stand_still_too_the_next_one_fetches_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes_module, "STALL_SECONDS", 0.1)
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        with contextlib.ExitStack() as leases:
            stuck = [
                leases.enter_context(store.lease("test")).ingest(DIGEST, len(DATA))
                for _ in range(lanes_module.LANES + 1)
            ]
            finish(leases.enter_context(store.lease("test")), stuck.pop())
            assert store.blob(DIGEST) == len(DATA)
            for ingest in stuck:
                ingest.close()
    assert listing(root / "ingest") == [part_of(root).side_path.name, part_of(root).path.name]


def test_waiting_for_an_ingest_can_be_cancelled(root: Path) -> None:
    with started(OWNER, str(root), str(DIGEST)) as process, Store.open(root) as store:
        assert read_line(process) == "1024"
        cancel = Cancel()
        with store.lease("test") as lease, pytest.raises(CancelledError):
            lease.ingest(DIGEST, len(DATA), waiting=lambda pid: cancel.cancel(), cancel=cancel)


def test_two_that_finish_the_same_two_blobs_do_not_wait_for_each_other(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has renamed one blob and not committed it, and then finishes the other's."""
    monkeypatch.setattr(lanes_module, "STALL_SECONDS", 0.05)
    other = DATA[::-1]
    blobs = {DIGEST: DATA, Digest.of(other): other}
    meet = threading.Barrier(2, timeout=10)

    def work(order: list[Digest]) -> None:
        with Store.open(root, wait_seconds=10) as store, store.lease("test") as lease:
            opened = [lease.ingest(order[0], len(DATA))]
            meet.wait()
            opened.append(lease.ingest(order[1], len(DATA)))  # stuck: a private file
            meet.wait()
            staged = []
            for ingest, digest in zip(opened, order, strict=True):
                ingest.write(blobs[digest])
                staged.append(ingest.stage(digest, len(DATA)))
                meet.wait()
            lease.commit_blobs(staged)
            meet.wait()

    Store.open(root).close()
    threads = [threading.Thread(target=work, args=(order,)) for order in
               ([*blobs], [*reversed(blobs)])]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    with Store.open(root) as store:
        for digest, data in blobs.items():
            assert store.read_blob(digest, cap=1 << 20) == data
    assert listing(root / "ingest") == []


def test_leaving_a_lease_with_staged_blobs_frees_their_locks(store: Store) -> None:
    with store.lease("test") as lease, lease.ingest(DIGEST, len(DATA)) as ingest:
        ingest.write(DATA)
        ingest.stage(DIGEST, len(DATA))
    with store.lease("test") as lease:
        assert lease.adopt([(DIGEST, len(DATA))]) == {DIGEST}
    assert store.blob(DIGEST) == len(DATA)
