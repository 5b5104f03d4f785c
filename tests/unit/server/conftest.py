from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.localregistry import LocalRegistry, serve


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    """A server with the usual settings, in front of an empty store."""
    with serve(tmp_path / "root") as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """The same for a whole module, for tests that do not mind what others leave there."""
    with serve(tmp_path_factory.mktemp("shared") / "root") as running:
        yield running
