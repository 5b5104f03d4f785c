"""Commands that meet at the worst moment; see :mod:`tests.faults.races`."""

from __future__ import annotations

import pytest

from tests.faults.races import RACES
from tests.faults.scenes import Scene
from tests.support.forkserver import ForkServer


@pytest.mark.parametrize("race", RACES)
def test_nothing_is_lost_by(race: str, scene: Scene, second_fork_server: ForkServer) -> None:
    assert list(RACES[race](scene, second_fork_server, "")) == []
