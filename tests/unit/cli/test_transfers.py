from __future__ import annotations

import threading

from kstore.cli.transfers import PULLING, PUSHING, Board
from kstore.copier.progress import Event
from kstore.digest import Digest

ONE, TWO, THREE = (Digest.of(bytes([n])) for n in range(3))


def planned() -> Board:
    board = Board()
    board.apply(Event("plan", digest=ONE, size=100, blob="config"), 0.0)
    board.apply(Event("plan", digest=TWO, size=1000, blob="layer"), 0.0)
    board.apply(Event("plan", digest=THREE, size=2000, blob="layer"), 0.0)
    return board


def test_planned_blobs_keep_their_order_and_are_not_active() -> None:
    blobs = planned().transfers()
    assert [blob.label for blob in blobs] == [
        f"config {ONE.short}",
        f"layer {TWO.short}",
        f"layer {THREE.short}",
    ]
    assert not any(blob.active for blob in blobs)


def test_a_blob_planned_twice_counts_once() -> None:
    board = planned()
    board.apply(Event("plan", digest=TWO, size=1000, blob="layer"), 0.0)
    assert board.totals(0.0).size == 3100


def test_bytes_held_before_are_done_but_were_not_moved() -> None:
    board = planned()
    board.apply(Event("start", digest=TWO, done=400), 1.0)
    board.apply(Event("advance", digest=TWO, done=600), 2.0)
    totals = board.totals(2.0)
    assert (totals.done, totals.moved) == (600, 200)
    assert board.transfers()[1].resumed_at == 400


def test_a_finished_blob_counts_in_full_even_without_advances() -> None:
    board = planned()
    board.apply(Event("start", digest=TWO, done=0), 1.0)
    board.apply(Event("finish", digest=TWO, size=1000, how="copied"), 2.0)
    assert board.totals(2.0).moved == 1000


def test_what_was_there_already_was_not_moved() -> None:
    board = planned()
    board.apply(Event("finish", digest=TWO, how="present"), 1.0)
    board.apply(Event("finish", digest=THREE, how="mounted"), 1.0)
    totals = board.totals(1.0)
    assert (totals.moved, totals.present, totals.layers) == (0, 2, 2)


def test_a_second_image_does_not_change_how_a_blob_came() -> None:
    board = planned()
    board.apply(Event("finish", digest=TWO, how="copied"), 1.0)
    board.apply(Event("finish", digest=TWO, how="present"), 2.0)
    assert board.transfers()[1].how == "copied"


def test_the_speed_is_that_of_the_last_seconds() -> None:
    board = planned()
    board.apply(Event("start", digest=THREE, done=0), 0.0)
    for second in range(1, 11):
        board.apply(Event("advance", digest=THREE, done=second * 10), float(second))
    for second in range(11, 21):
        done = 100 + (second - 10) * 100
        board.apply(Event("advance", digest=THREE, done=done), float(second))
    assert board.totals(20.0).speed == 100.0


def test_a_stalled_blob_slows_down() -> None:
    board = planned()
    board.apply(Event("start", digest=THREE, done=0), 0.0)
    board.apply(Event("advance", digest=THREE, done=1000), 1.0)
    assert board.transfers()[2].speed(10.0) == 100.0


def test_waiting_ends_when_bytes_flow() -> None:
    board = planned()
    board.apply(Event("wait", digest=TWO, pid=4711), 0.0)
    blob = board.transfers()[1]
    assert blob.active
    assert (blob.waiting, blob.pid) == (True, 4711)
    board.apply(Event("start", digest=TWO, done=0), 1.0)
    assert not blob.waiting


def test_the_summary_tells_layers_bytes_and_what_was_there() -> None:
    board = planned()
    board.apply(Event("finish", digest=ONE, how="copied"), 1.0)
    board.apply(Event("finish", digest=TWO, how="present"), 1.0)
    board.apply(Event("finish", digest=THREE, how="copied"), 4.0)
    assert board.summary(PULLING, 4.0) == "2 layers, 2.1 kB fetched in 4.0 s, 1 already here"


def test_the_summary_of_an_image_that_was_there_speaks_of_no_bytes() -> None:
    board = planned()
    for digest in (ONE, TWO, THREE):
        board.apply(Event("finish", digest=digest, how="present"), 1.0)
    assert board.summary(PUSHING, 1.0) == "2 layers, all already there"


def test_events_from_many_threads_are_all_counted() -> None:
    board = Board()
    digests = [Digest.of(b"%d" % n) for n in range(200)]

    def work(mine: list[Digest]) -> None:
        for digest in mine:
            board.apply(Event("start", digest=digest, size=10, done=0), 0.0)
            board.apply(Event("finish", digest=digest, size=10, how="copied"), 1.0)

    threads = [threading.Thread(target=work, args=(digests[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert board.totals(1.0).moved == 2000


def test_a_retry_before_the_first_byte_moves_nothing() -> None:
    board = planned()
    board.apply(Event("retry", digest=TWO, done=400, text="refused"), 1.0)
    board.apply(Event("start", digest=TWO, done=400), 2.0)
    totals = board.totals(2.0)
    assert (totals.done, totals.moved) == (400, 0)


def test_a_retry_that_knows_no_place_moves_nothing_back() -> None:
    board = planned()
    board.apply(Event("start", digest=TWO, done=0), 1.0)
    board.apply(Event("advance", digest=TWO, done=600), 2.0)
    board.apply(Event("retry", digest=TWO, text="reset"), 3.0)
    totals = board.totals(3.0)
    assert (totals.done, totals.moved) == (600, 600)
