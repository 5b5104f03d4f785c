"""Many commands at once on the same layers, with and without deaths.

``KSTORE_TEST_CROWD=ROUNDS`` lets the long crowd go on longer, ``KSTORE_TEST_SEED`` begins it
elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.store import Store
from tests.faults.crowds import crowd
from tests.faults.scenes import fast_directory
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer
from tests.support.images import random_image

_ROUNDS = int(os.environ.get("KSTORE_TEST_CROWD", "150"))
_SEED = int(os.environ.get("KSTORE_TEST_SEED", "1"))


@pytest.mark.peer
def test_a_crowd_with_deaths_in_it_loses_nothing(require_program: Callable[[str], str]) -> None:
    require_program("strace")
    with fast_directory() as directory:
        report = crowd(directory / "store", seed=7, workers=3, rounds=20, death=0.2)
    assert report.violations == []
    assert report.killed > 0
    assert report.commands["pull"] > 5


@pytest.mark.slow
@pytest.mark.peer
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [_SEED, _SEED + 1])
def test_a_longer_crowd_loses_nothing(seed: int, require_program: Callable[[str], str]) -> None:
    require_program("strace")
    with fast_directory() as directory:
        report = crowd(directory / "store", seed=seed, workers=4, rounds=_ROUNDS, death=0.15)
    assert report.violations == []
    assert report.killed > _ROUNDS // 20


def test_fifty_pulls_of_one_image_transfer_it_once(tmp_path: Path) -> None:
    image = random_image(1, layers=3, layer_size=300_000)
    with FaultServer() as server, ForkServer() as forks:
        for data in image.blobs.values():
            server.add_blob(data, "team/app")
        server.add_manifest(image.raw.data, image.raw.media_type, "team/app", "v1")
        Store.open(tmp_path / "store").close()
        name = f"{server.host}/team/app:v1"
        words = ("--root", tmp_path / "store", "pull", "-q", "--tls-verify=false", name)
        runs = forks.run_many(50, *words)
    assert {(run.code, run.out) for run in runs} == {(0, f"{image.id}\n")}, runs
    assert server.sent == sum(len(data) for data in image.blobs.values())
    with Store.open(tmp_path / "store") as store:
        assert store.check(deep=True).problems == ()
