"""Death, Ctrl-C and errors of the disk at the calls with which commands change something.

``KSTORE_TEST_SWEEP=all`` tries every single write where many follow one another in one file.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.faults.scenes import FETCHES, OPERATIONS, REPAIRS, Operation, Scene
from tests.faults.sweeps import faults_of, sweep

_EVERY = os.environ.get("KSTORE_TEST_SWEEP") == "all"

pytestmark = pytest.mark.peer

_tries = pytest.mark.parametrize(
    ("operation", "fault"),
    [
        pytest.param(operation, fault, id=f"{operation}-{fault}")
        for operation in (*OPERATIONS, *REPAIRS, *FETCHES)
        for fault in faults_of(operation)
    ],
)


@pytest.fixture(autouse=True)
def _strace(require_program: Callable[[str], str]) -> None:
    require_program("strace")


@_tries
def test_a_fault_at_some_calls_leaves_the_old_state_or_the_new_one(
    operation: Operation, fault: str, scene: Scene
) -> None:
    result = sweep(scene, operation, fault, at_most=1)
    assert result.happened == result.planned
    assert result.happened > 0 or fault == "EIO on reading"
    assert result.violations == []


@pytest.mark.slow
@pytest.mark.timeout(1200 if _EVERY else 120)
@_tries
def test_a_fault_at_any_call_leaves_the_old_state_or_the_new_one(
    operation: Operation, fault: str, scene: Scene
) -> None:
    at_most = None if _EVERY else operation.points
    result = sweep(scene, operation, fault, at_most=at_most, every=_EVERY)
    assert result.happened >= result.planned - 3  # the last calls may come in another order
    assert result.violations == []
