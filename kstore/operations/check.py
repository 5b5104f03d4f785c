"""Is the store what its records say?"""

from __future__ import annotations

from collections.abc import Callable

from kstore.store import CheckReport, Store
from kstore.streams import Cancel

__all__ = ["check_store"]


def check_store(
    store: Store,
    *,
    deep: bool = False,
    progress: Callable[[int], None] | None = None,
    cancel: Cancel | None = None,
) -> CheckReport:
    """Compare records and files; ``deep`` also hashes every blob and checks every diffID.

    ``progress`` is told the bytes hashed so far.
    """
    return store.check(deep=deep, progress=progress, cancel=cancel)
