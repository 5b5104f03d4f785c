"""The scene that fault tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.scenes import Scene, fast_directory
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer


@pytest.fixture(scope="session")
def scene() -> Iterator[Scene]:
    with fast_directory() as directory, FaultServer() as server, ForkServer() as forks:
        yield Scene(directory, server, forks)


@pytest.fixture(scope="session")
def second_fork_server() -> Iterator[ForkServer]:
    """For the other one of two commands that run at once."""
    with ForkServer() as forks:
        yield forks
