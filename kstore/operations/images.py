"""List images."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from kstore.digest import Digest
from kstore.operations.filters import parse_filters, reference_filter
from kstore.store import ImageRecord, NameRecord, Store

__all__ = ["ImageSummary", "list_images"]


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
        return self.name.name.repository if self.name else None

    @property
    def tag(self) -> str | None:
        return self.name.name.tag if self.name else None

    @property
    def created(self) -> dt.datetime | None:
        return self.image.created

    @property
    def size(self) -> int:
        """Bytes the image's blobs occupy in the store."""
        return self.image.size


def list_images(
    store: Store, argument: str | None = None, filters: Sequence[str] = ()
) -> list[ImageSummary]:
    """One row for each (image, name), newest image first.

    ``argument`` keeps names it means (see ``reference_filter``); ``filters`` are ``key=value``
    texts; all of them must hold.  Raises InvalidInputError.
    """
    tests = list(parse_filters(filters))
    if argument is not None:
        tests.append(reference_filter(argument))
    return [
        row
        for image in store.images()
        for row in _rows(image)
        if all(test(row.image, row.name) for test in tests)
    ]


def _rows(image: ImageRecord) -> Sequence[ImageSummary]:
    first = image.manifests[0]
    if not image.names:
        return (ImageSummary(image, None, first),)
    return tuple(ImageSummary(image, name, name.manifest or first) for name in image.names)
