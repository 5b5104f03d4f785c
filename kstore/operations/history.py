"""How an image was made, and what its names have meant."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from kstore.errors import NotFoundError
from kstore.operations.inspect import inspect_image
from kstore.reference import LOCAL_DOMAIN, Named, has_domain
from kstore.store import NameChange, Store
from kstore.values import dataclass

__all__ = ["HistoryRow", "image_history", "name_history"]


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One step of an image's making.

    ``id`` is the image's on the newest row and None on the others, and ``tags`` are its names with
    a tag; ``size`` is the layer's as
    stored, in bytes, and None where the config names more layers than the manifest has.
    """

    id: str | None
    created: dt.datetime | None
    created_by: str
    size: int | None
    comment: str
    empty: bool
    tags: tuple[str, ...] = ()


def image_history(store: Store, text: str) -> tuple[HistoryRow, ...]:
    """The steps of image ``text``, newest first; empty if its config tells none."""
    inspection = inspect_image(store, text)
    sizes = [layer.size for layer in inspection.manifest.layers]
    rows = []
    for entry in inspection.config.history:
        size = 0 if entry.empty_layer else sizes.pop(0) if sizes else None
        rows.append(
            HistoryRow(
                id=None,
                created=entry.created,
                created_by=entry.created_by,
                size=size,
                comment=entry.comment,
                empty=entry.empty_layer,
            )
        )
    rows.reverse()
    if rows:
        rows[0] = replace(rows[0], id=inspection.image.id, tags=inspection.repo_tags)
    return tuple(rows)


def name_history(store: Store, text: str | None, limit: int | None = None) -> Sequence[NameChange]:
    """Which image names have pointed to, newest change first.

    ``text`` is a name (without tag: every tag of the repository); None means all names.  A short
    name means the one made here (``localhost/...``) if it has a history, else docker.io's.
    Raises InvalidReferenceError, and NotFoundError for a name the store has never had.
    """
    if text is None:
        return store.name_log(None, limit)
    if not has_domain(text):
        local = store.name_log(Named.parse(text, default_domain=LOCAL_DOMAIN), limit)
        if local:
            return local
    changes = store.name_log(Named.parse(text), limit)
    if not changes:
        raise NotFoundError(f"no image has ever been called {text!r:.300} here", hint="kstore log")
    return changes
