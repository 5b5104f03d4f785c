"""The runs that tests share, and fresh places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.outcomes import Matrix
from tests.conformance.transports import PLACES, Place


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with Matrix(tmp_path_factory.mktemp("matrix")) as matrix:
        yield matrix


@pytest.fixture
def place(tmp_path: Path, transport: str) -> Iterator[Place]:
    """An empty place of the transport the test is parametrised with."""
    with PLACES[transport](tmp_path / "place") as place:
        yield place
