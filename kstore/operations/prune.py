"""Give space back."""

from __future__ import annotations

from kstore.store import PruneReport, Store

__all__ = ["prune_store"]


def prune_store(store: Store, *, dry_run: bool = False, all_partials: bool = False) -> PruneReport:
    """Delete images that no name leads to, and everything that nothing needs.

    ``all_partials`` drops partial downloads of any age, except those somebody is filling right
    now.  Raises StorageError.
    """
    return store.prune(dry_run=dry_run, all_unused_partials=all_partials)
