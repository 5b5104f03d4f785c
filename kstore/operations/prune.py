"""Give space back."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.errors import InvalidInputError
from kstore.reference import Named
from kstore.store import PruneReport, Store
from kstore.store.retention import Retention
from kstore.values import dataclass

__all__ = ["PruneOptions", "prune_store"]


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """``all_partials`` drops partial downloads of any age, except those somebody is filling right
    now.

    Names go only where asked for: ``all_images``, or all but the ``keep`` newest of each
    repository, and then the oldest until what is left fits ``max_size`` (bytes).  ``filters`` are
    ``key=value`` texts (see :mod:`kstore.operations.filters`): of names, and of images without one,
    only those go that meet them all.
    """

    all_partials: bool = False
    all_images: bool = False
    keep: int | None = None
    max_size: int | None = None
    filters: tuple[str, ...] = ()


def prune_store(
    store: Store, options: PruneOptions | None = None, *, dry_run: bool = False
) -> PruneReport:
    """Delete images that no name leads to, those the options give up, and all that nothing needs.

    Images that are protected, or that containers were made from, stay.  Raises InvalidInputError,
    StorageError, and for a filter what :func:`~kstore.operations.filters.parse_filters` raises.
    """
    options = options or PruneOptions()
    if options.all_images and options.keep is not None:
        raise InvalidInputError("--all leaves no name, so there is nothing for --keep to keep")
    only_images, only_names = _filtered(store, options.filters)
    return store.prune(
        dry_run=dry_run,
        all_unused_partials=options.all_partials,
        only_images=only_images,
        retention=Retention(
            everything=options.all_images,
            newest=options.keep,
            max_bytes=options.max_size,
            only=only_names,
        ),
    )


def _filtered(
    store: Store, filters: Sequence[str]
) -> tuple[set[str] | None, frozenset[Named] | None]:
    """The images without a name, and the names, that meet all filters; None without any."""
    if not filters:
        return None, None
    from kstore.operations.images import list_images

    rows = list_images(store, None, filters)
    names = frozenset(row.name.name for row in rows if row.name is not None)
    return {row.id for row in rows if row.name is None}, names
