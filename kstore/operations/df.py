"""What takes the space, and what removing images would give back."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.operations.rmi import RmiResult, remove_images
from kstore.store import Store, UsageReport

__all__ = ["measure_store", "what_removing_frees"]


def measure_store(store: Store) -> UsageReport:
    """The space each image and each kind of file takes.  Raises StorageError."""
    return store.usage()


def what_removing_frees(store: Store, texts: Sequence[str], *, force: bool = False) -> RmiResult:
    """What ``remove_images`` would do with ``texts``, and free; everything stays as it is."""
    with store.rehearse():
        return remove_images(store, texts, force=force)
