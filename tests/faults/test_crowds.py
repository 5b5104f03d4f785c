"""Many commands at once on the same layers, with and without deaths.

``KSTORE_TEST_CROWD=SECONDS`` lets the long crowd go on longer, ``KSTORE_TEST_SEED`` begins it
elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.costs import killed_pulls, pulls_at_once
from tests.faults.crowds import crowd
from tests.faults.scenes import fast_directory

_SECONDS = int(os.environ.get("KSTORE_TEST_CROWD", "60"))
_SEED = int(os.environ.get("KSTORE_TEST_SEED", "1"))


@pytest.mark.peer
def test_a_crowd_with_deaths_in_it_loses_nothing(require_program: Callable[[str], str]) -> None:
    require_program("strace")
    with fast_directory() as directory:
        report = crowd(directory / "store", seed=7, workers=3, rounds=20, death=0.2)
    assert report.violations == []
    assert report.killed > 0
    assert report.commands["pull"] > 5


def test_a_crowd_that_removes_nothing_transfers_no_blob_twice() -> None:
    with fast_directory() as directory:
        report = crowd(directory / "store", seed=3, workers=3, rounds=12, death=0.0, removing=False)
    assert report.violations == []
    assert report.commands["pull"] > 12
    assert 0 < report.sent == report.least


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.timeout(_SECONDS + 600)
def test_a_longer_crowd_loses_nothing(require_program: Callable[[str], str]) -> None:
    require_program("strace")
    with fast_directory() as directory:
        report = crowd(directory / "store", seed=_SEED, workers=4, seconds=_SECONDS, death=0.15)
    assert report.violations == []
    assert report.killed > 0


def test_fifty_pulls_of_one_image_transfer_it_once(tmp_path: Path) -> None:
    cost = pulls_at_once(tmp_path / "store", 50)
    assert cost.wrong == ()
    assert cost.sent == cost.least


def test_a_pull_that_is_killed_at_each_mebibyte_costs_little_more_than_one_that_is_not(
    tmp_path: Path,
) -> None:
    points = [1 << 20, 2 << 20]
    cost = killed_pulls(tmp_path / "store", points, layers=1, layer_size=3 << 20)
    assert cost.wrong == ()
    assert 0 <= cost.more < cost.least
