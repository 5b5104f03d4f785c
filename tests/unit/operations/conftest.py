"""A store of the test's own, and the ways to reach other places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.settings import load
from kstore.store import Store
from kstore.transports import Transports
from tests.support.faultserver import FaultServer


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root", command="test") as store:
        yield store


@pytest.fixture
def transports(store: Store) -> Iterator[Transports]:
    """Every transport, as the command line makes them with ``--tls-verify=false``."""
    app = App(load({}, root=store.root))
    with app.transports(store, RegistryOptions(tls_verify=False)) as transports:
        yield transports


@pytest.fixture
def faulty() -> Iterator[FaultServer]:
    with FaultServer() as server:
        yield server
