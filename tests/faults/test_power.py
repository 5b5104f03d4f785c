"""The power is cut while a command works: what was announced is there, and nothing is damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.faults.defects import DEFECTS
from tests.faults.powerscenes import STEPS, CutScene, cut_scene
from tests.faults.scenes import OPERATIONS, REPAIRS, Operation, Scene
from tests.faults.sweeps import sweep
from tests.support.powercuts import DISKS

pytestmark = [pytest.mark.root, pytest.mark.peer]

_OPERATIONS = {operation.name: operation for operation in OPERATIONS}


@pytest.fixture(scope="module", params=DISKS)
def disks(request: pytest.FixtureRequest, scene: Scene) -> Iterator[CutScene]:
    with cut_scene(scene, request.param) as made:
        yield made


@pytest.fixture(autouse=True)
def _strace(require_program: Callable[[str], str]) -> None:
    require_program("strace")


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_what_was_announced_survives_a_power_cut(operation: Operation, disks: CutScene) -> None:
    with disks.place() as place:
        run = operation.run(place)
        assert run.code == 0, run.err
        after = place.state(volatile=operation.volatile)
    with disks.place() as place:
        assert operation.run(place).code == 0
        place.settle()
        assert place.state(volatile=operation.volatile) == after
        assert place.violations() == []


@pytest.mark.parametrize("name", ["pull", "rmi"])
def test_a_power_cut_at_some_steps_damages_nothing(name: str, disks: CutScene) -> None:
    result = sweep(disks, _OPERATIONS[name], "SIGKILL", calls=STEPS, at_most=4)
    assert result.happened == 4
    assert result.violations == []


@pytest.mark.slow
@pytest.mark.parametrize("operation", [*OPERATIONS, *REPAIRS], ids=str)
def test_a_power_cut_at_any_step_damages_nothing(operation: Operation, disks: CutScene) -> None:
    result = sweep(disks, operation, "SIGKILL", calls=STEPS)
    assert result.happened > 5
    assert result.violations == []


def test_a_build_that_syncs_nothing_is_found_by_power_cuts(disks: CutScene) -> None:
    defect = DEFECTS["files are not synced"]
    calls = "fdatasync,exit_group"
    assert sweep(disks, _OPERATIONS["pull"], "SIGKILL", calls=calls, prelude=defect).violations
