"""A fresh store for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root, command="test", wait_seconds=5) as store:
        yield store
