"""The tests of this directory find what they are for: builds with a defect fail them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.faults.defects import DEFECTS
from tests.faults.orders import LOCKING, order_violations
from tests.faults.races import RACES
from tests.faults.scenes import OPERATIONS, REPAIRS, Scene
from tests.faults.sweeps import CALLS, sweep
from tests.support.forkserver import ForkServer

pytestmark = pytest.mark.peer

_OPERATIONS = {operation.name: operation for operation in (*OPERATIONS, *REPAIRS)}


def _by_order(name: str, scene: Scene, _: ForkServer, prelude: str) -> Sequence[str]:
    operation = _OPERATIONS[name]
    with scene.place() as place:
        operation.prepare(place)
        run = operation.run(place, trace=f"{CALLS},{LOCKING}", prelude=prelude)
        return list(order_violations(run.trace, place.root, [place.outside]))


def _by_death(name: str, scene: Scene, _: ForkServer, prelude: str) -> Sequence[str]:
    calls = "rename,write,unlink,exit_group"
    return sweep(scene, _OPERATIONS[name], "SIGKILL", calls=calls, prelude=prelude).violations


def _by_race(name: str, scene: Scene, second: ForkServer, prelude: str) -> Sequence[str]:
    return list(RACES[name](scene, second, prelude))


#: Which test finds which defect.
FINDERS: tuple[tuple[str, Callable[..., Sequence[str]], str], ...] = (
    ("files are not synced", _by_order, "pull"),
    ("directories are not synced", _by_order, "pull"),
    ("index.json is not synced", _by_order, "tag"),
    ("index.json is written in place", _by_order, "tag"),
    ("index.json is written in place", _by_death, "tag"),
    ("blobs are written in place", _by_order, "pull"),
    ("rows before files", _by_death, "pull"),
    ("files are removed before rows", _by_order, "rmi"),
    ("files are removed before rows", _by_death, "rmi"),
    ("no object lock", _by_race, "prune between name and row"),
    ("no lock of the writer", _by_order, "tag"),
    ("no lease", _by_race, "prune between blobs and image"),
    ("no second look before a removal", _by_race, "pull between look and removal"),
    ("reading waits for writers", _by_race, "listing during a commit"),
    ("the reply comes first", _by_order, "tag"),
    ("the database is rebuilt in place", _by_death, "rebuild"),
    ("the database is rebuilt in place", _by_order, "rebuild"),
    ("files are not synced", _by_order, "rebuild"),
    ("blobs are written in place", _by_order, "repair"),
)


@pytest.mark.parametrize(
    ("defect", "find", "what"), FINDERS, ids=[f"{d}, {f.__name__[1:]}" for d, f, _ in FINDERS]
)
def test_a_build_with_a_defect_is_found(
    defect: str,
    find: Callable[..., Sequence[str]],
    what: str,
    scene: Scene,
    second_fork_server: ForkServer,
    require_program: Callable[[str], str],
) -> None:
    require_program("strace")
    assert list(find(what, scene, second_fork_server, DEFECTS[defect]))


def test_every_defect_is_looked_for() -> None:
    assert {defect for defect, _, _ in FINDERS} == set(DEFECTS)
