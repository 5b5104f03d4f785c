"""Give space back."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from kstore.errors import InvalidInputError
from kstore.operations.moments import parse_moment
from kstore.store import PruneReport, Store
from kstore.store.retention import Retention

__all__ = ["PruneOptions", "prune_store"]


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """``all_partials`` drops partial downloads of any age, except those somebody is filling right
    now.

    Names go only where asked for: ``all_images``, or all but the ``keep`` newest of each
    repository, and then the oldest until what is left fits ``max_size`` (bytes).  ``filters`` holds
    ``until=TIME``: nothing goes that came, or was named, later.
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
    StorageError.
    """
    options = options or PruneOptions()
    if options.all_images and options.keep is not None:
        raise InvalidInputError("--all leaves no name, so there is nothing for --keep to keep")
    retention = Retention(
        before=_until(options.filters),
        everything=options.all_images,
        newest=options.keep,
        max_bytes=options.max_size,
    )
    return store.prune(
        dry_run=dry_run, all_unused_partials=options.all_partials, retention=retention
    )


def _until(filters: Sequence[str]) -> dt.datetime | None:
    """The earliest of the given times."""
    moments = []
    for text in filters:
        key, equals, value = text.partition("=")
        if key != "until" or not equals:
            raise InvalidInputError(f"filter {text[:200]!r} is not until=TIME, the only one here")
        moments.append(parse_moment(value, dt.datetime.now(dt.UTC)))
    return min(moments, default=None)
