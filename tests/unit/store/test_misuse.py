"""A store that was closed, or is used by another thread than its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kstore.errors import KstoreError, StorageError
from kstore.reference import Named
from kstore.store import Store
from tests.support.images import random_image
from tests.support.stores import put_image

IMAGE = random_image(1)
NAME = Named.parse("localhost/app:1")

USES: dict[str, Callable[[Store], object]] = {
    "images": lambda store: store.images(),
    "find_image": lambda store: store.find_image("app:1"),
    "image": lambda store: store.image(IMAGE.id),
    "name": lambda store: store.name(NAME),
    "name_log": lambda store: list(store.name_log(NAME)),
    "read_manifest": lambda store: store.read_manifest(IMAGE.raw.digest),
    "untag": lambda store: store.untag(NAME),
    "remove_name": lambda store: store.remove_name(NAME),
    "prune": lambda store: store.prune(),
    "check": lambda store: store.check(),
}


@pytest.fixture
def stocked(tmp_path: Path) -> Store:
    store = Store.open(tmp_path / "root")
    put_image(store, IMAGE, str(NAME))
    return store


@pytest.mark.parametrize("use", USES)
def test_a_closed_store_says_so(stocked: Store, use: str) -> None:
    stocked.close()
    stocked.close()
    with pytest.raises(StorageError, match="was closed before this"):
        USES[use](stocked)


@pytest.mark.parametrize("use", USES)
def test_a_store_of_another_thread_says_so(stocked: Store, use: str) -> None:
    with stocked, ThreadPoolExecutor(1) as pool:
        error = pool.submit(USES[use], stocked).exception(30)
        assert isinstance(error, KstoreError), error
        assert "was opened in another thread" in error.message
        assert stocked.find_image("app:1").image.id == IMAGE.id
