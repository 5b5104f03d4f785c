"""The store of five images: one to look at, and one to change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.app import App
from kstore.settings import load
from kstore.store import Store
from tests.support.fixturestore import FixtureStore, described, fill_store


@pytest.fixture(scope="package")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a store with the five images, which nobody has open."""
    root = tmp_path_factory.mktemp("shelf") / "root"
    with Store.open(root, command="test") as store:
        fill_store(store)
    return root


@pytest.fixture(scope="package")
def shelf(filled: Path) -> Iterator[FixtureStore]:
    """Shared by the tests that only look."""
    with Store.open(filled, read_only=True) as store:
        yield described(store)


@pytest.fixture
def own(filled: Path, tmp_path: Path) -> Iterator[FixtureStore]:
    """A test's own, to be changed."""
    shutil.copytree(filled, tmp_path / "root")
    with Store.open(tmp_path / "root", command="test") as store:
        yield described(store)


@pytest.fixture
def app(own: FixtureStore) -> App:
    return App(load({}, root=own.store.root))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty one."""
    with Store.open(tmp_path / "root", command="test") as store:
        yield store
