from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from kstore.digest import Digest
from kstore.errors import CancelledError, StorageError
from kstore.store import locks as locks_module
from kstore.store.locks import LockClass, LockFile, digest_key
from kstore.streams import Cancel
from tests.support.scripts import read_line, started

HOLDER = """
    import sys
    from pathlib import Path
    from kstore.store.locks import LockClass, LockFile
    held = LockFile(Path(sys.argv[1])).try_lock(LockClass.OBJECT, 7)
    print("held" if held else "busy", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def locks(tmp_path: Path) -> LockFile:
    return LockFile(tmp_path / "locks")


def test_a_lock_is_exclusive_within_one_process(locks: LockFile) -> None:
    first = locks.try_lock(LockClass.OBJECT, 1)
    assert first is not None
    assert locks.try_lock(LockClass.OBJECT, 1) is None
    assert locks.is_held(LockClass.OBJECT, 1)
    first.release()
    assert not locks.is_held(LockClass.OBJECT, 1)
    with locks.lock(LockClass.OBJECT, 1, wait_seconds=0, what="it"):
        pass


def test_keys_and_classes_do_not_disturb_each_other(locks: LockFile) -> None:
    with locks.lock(LockClass.OBJECT, 1, wait_seconds=0, what="it"):
        for kind, key in [(LockClass.OBJECT, 2), (LockClass.OBJECT, 0), (LockClass.INGEST, 1)]:
            with locks.lock(kind, key, wait_seconds=0, what="another"):
                pass


def test_the_largest_key_of_one_class_is_not_the_first_of_the_next(locks: LockFile) -> None:
    key = digest_key(Digest("sha256", "f" * 64))
    with locks.lock(LockClass.INGEST, key, wait_seconds=0, what="it"):
        assert not locks.is_held(LockClass.OBJECT, 0)


def test_a_shared_lock_can_be_had_by_many_but_keeps_exclusive_ones_out(locks: LockFile) -> None:
    one = locks.try_lock(LockClass.STORE, shared=True)
    two = locks.try_lock(LockClass.STORE, shared=True)
    assert one is not None
    assert two is not None
    assert locks.try_lock(LockClass.STORE) is None
    one.release()
    assert locks.try_lock(LockClass.STORE) is None
    two.release()
    alone = locks.try_lock(LockClass.STORE)
    assert alone is not None
    assert locks.try_lock(LockClass.STORE, shared=True) is None
    alone.release()


def test_a_killed_process_frees_its_lock_at_once(locks: LockFile) -> None:
    with started(HOLDER, str(locks.path)) as process:
        assert read_line(process) == "held"
        assert locks.is_held(LockClass.OBJECT, 7)
        process.kill()
        process.wait()
        assert not locks.is_held(LockClass.OBJECT, 7)


def test_closing_another_descriptor_of_the_file_keeps_the_lock(locks: LockFile) -> None:
    with locks.lock(LockClass.OBJECT, 7, wait_seconds=0, what="it"):
        locks.path.open("rb").close()  # would drop a classic POSIX lock
        with started(HOLDER, str(locks.path)) as process:
            assert read_line(process) == "busy"


def test_waiting_ends_with_a_message_that_names_the_object(locks: LockFile) -> None:
    with locks.lock(LockClass.WRITER, wait_seconds=0, what="it"):
        begun = time.monotonic()
        with pytest.raises(StorageError, match="the database has been in use"):
            locks.lock(LockClass.WRITER, wait_seconds=0.2, what="the database")
        assert 0.2 <= time.monotonic() - begun < 2


def test_waiting_can_be_cancelled(locks: LockFile) -> None:
    cancel = Cancel()
    with locks.lock(LockClass.WRITER, wait_seconds=0, what="it"):
        threading.Timer(0.1, cancel.cancel).start()
        with pytest.raises(CancelledError):
            locks.lock(LockClass.WRITER, wait_seconds=20, what="it", cancel=cancel)


def test_a_waiter_gets_the_lock_when_it_is_released(locks: LockFile) -> None:
    held = locks.lock(LockClass.WRITER, wait_seconds=0, what="it")
    threading.Timer(0.1, held.release).start()
    locks.lock(LockClass.WRITER, wait_seconds=10, what="it").release()


def test_a_deleted_lock_file_is_made_again(locks: LockFile) -> None:
    locks.lock(LockClass.WRITER, wait_seconds=0, what="it").release()
    locks.path.unlink()
    with locks.lock(LockClass.WRITER, wait_seconds=0, what="it"):
        assert locks.path.exists()
        assert locks.is_held(LockClass.WRITER)


def test_a_lock_file_that_is_deleted_while_it_is_locked_is_not_relied_on(
    locks: LockFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = locks_module._set, 0

    def deleting(*arguments: Any) -> bool:
        nonlocal calls
        calls += 1
        if calls == 1:
            locks.path.unlink()  # after the open, before the lock
        return real(*arguments)

    monkeypatch.setattr(locks_module, "_set", deleting)
    with locks.lock(LockClass.WRITER, wait_seconds=1, what="it"):
        assert locks.is_held(LockClass.WRITER)


def test_threads_count_together_without_losing_any(locks: LockFile) -> None:
    total = 0

    def count() -> None:
        nonlocal total
        for _ in range(50):
            with locks.lock(LockClass.WRITER, wait_seconds=20, what="it"):
                seen = total
                time.sleep(0)
                total = seen + 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total == 200
