"""Give space back."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.store import PruneReport, Store

__all__ = ["prune_store"]


def prune_store(
    store: Store,
    *,
    filters: Sequence[str] = (),
    dry_run: bool = False,
    all_partials: bool = False,
) -> PruneReport:
    """Delete images that no name leads to, and everything that nothing needs.

    ``filters`` are ``key=value`` texts (see :mod:`kstore.operations.filters`): of the images
    without a name, only those go that meet them all.  ``all_partials`` drops partial downloads of
    any age, except those somebody is filling right now.  Raises StorageError, and for a filter
    what :func:`~kstore.operations.filters.parse_filters` raises.
    """
    only = None
    if filters:
        from kstore.operations.images import list_images

        only = {row.id for row in list_images(store, None, filters) if row.name is None}
    return store.prune(dry_run=dry_run, all_unused_partials=all_partials, only_images=only)
