"""List images."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kstore.digest import Digest
from kstore.store import ImageRecord, NameRecord, Store
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.operations.filters import ImageFilter

__all__ = ["ImageSummary", "list_chosen", "list_images"]


@dataclass(frozen=True, slots=True)
class ImageSummary:
    """One row of a listing: an image under one of its names; ``name`` is None for an image that
    has none.  ``digest`` is the manifest the name leads to."""

    image: ImageRecord
    name: NameRecord | None
    digest: Digest

    @property
    def id(self) -> str:
        """The full image ID, 64 hex digits."""
        return self.image.id

    @property
    def repository(self) -> str | None:
        """``registry/path`` of the name; None without a name."""
        return self.name.name.repository if self.name else None

    @property
    def tag(self) -> str | None:
        """The tag of the name; None without a name, or for one by digest."""
        return self.name.name.tag if self.name else None

    @property
    def created(self) -> dt.datetime | None:
        """When the image was made, as its config says; None where it does not."""
        return self.image.created

    @property
    def size(self) -> int:
        """Bytes the image's blobs occupy in the store."""
        return self.image.size


def list_images(
    store: Store, argument: str | None = None, filters: Sequence[str] = ()
) -> list[ImageSummary]:
    """One row for each (image, name), newest image first.

    ``argument`` keeps names it means (see :class:`kstore.operations.patterns.NamePattern`),
    ``filters`` are ``key=value`` texts (see :mod:`kstore.operations.filters`); all of them must
    hold.  Only images that can meet them are loaded.  Raises InvalidInputError, and
    ImageNotFoundError or AmbiguousNameError for an image that a filter names.
    """
    return list_chosen(store, _chosen(store, argument, filters))


def list_chosen(store: Store, chosen: Sequence[ImageFilter]) -> list[ImageSummary]:
    """The rows that pass all filters, newest image first."""
    images = store.images([each.condition for each in chosen])
    return [
        row
        for image in images
        for row in _rows(image)
        if all(each.shows(row.image, row.name) for each in chosen)
    ]


def _chosen(store: Store, argument: str | None, filters: Sequence[str]) -> Sequence[ImageFilter]:
    if argument is None and not filters:
        return ()
    from kstore.operations.filters import parse_filters, reference_filter  # the rest starts faster

    chosen = parse_filters(store, filters)
    return chosen if argument is None else (*chosen, reference_filter(argument))


def _rows(image: ImageRecord) -> Sequence[ImageSummary]:
    first = image.manifests[0]
    if not image.names:
        return (ImageSummary(image, None, first),)
    return tuple(ImageSummary(image, name, name.manifest or first) for name in image.names)
