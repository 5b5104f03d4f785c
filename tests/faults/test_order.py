"""What is durable and visible before what, in the whole of a command, as the kernel sees it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.orders import LOCKING, events_of, order_violations
from tests.faults.scenes import FETCHES, OPERATIONS, REPAIRS, Operation, Scene
from tests.faults.sweeps import CALLS

pytestmark = pytest.mark.peer


@pytest.fixture(autouse=True)
def _strace(require_program: Callable[[str], str]) -> None:
    require_program("strace")


@pytest.mark.parametrize("operation", [*OPERATIONS, *REPAIRS, *FETCHES], ids=str)
def test_what_is_announced_is_durable_and_nothing_is_written_in_place(
    operation: Operation, scene: Scene
) -> None:
    with scene.place() as place:
        operation.prepare(place)
        run = operation.run(place, trace=f"{CALLS},{LOCKING}")
        assert run.code == 0, run.err
        assert list(order_violations(run.trace, place.root, [place.outside])) == []


def test_the_order_of_a_pull_is_seen_at_all(scene: Scene) -> None:
    pull = OPERATIONS[0]
    with scene.place() as place:
        events = events_of(pull.run(place, trace=CALLS).trace, place.root)
    blobs = [event for event in events if event.kind == "rename" and "blobs/" in event.target]
    assert len(blobs) == 4  # two layers, config and manifest
    assert [event.kind for event in events if event.kind == "say"]
    assert any(event.path == "db/kstore.db-wal" for event in events if event.kind == "sync")
