"""Remove images, or names of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kstore.errors import InvalidInputError, KstoreError
from kstore.store import RemovalReport, Store
from kstore.store.lookup import elsewhere

__all__ = ["RmiResult", "remove_images"]


@dataclass(frozen=True, slots=True)
class RmiResult:
    """What was removed, in order, and what could not be."""

    reports: tuple[RemovalReport, ...]
    errors: tuple[KstoreError, ...]


def remove_images(
    store: Store, texts: Sequence[str], *, force: bool = False, all_images: bool = False
) -> RmiResult:
    """Remove each of ``texts``, or everything.

    A name of an image with several names is only taken away; the last name takes the image with
    it.  An ID removes the image, with ``force`` also if it has several names.  An image that
    containers were made from stays, unless ``force``.  A failure does not stop the rest; it is
    reported in ``errors``.
    """
    if all_images == bool(texts):
        raise InvalidInputError(
            "--all takes no image names" if texts else "say which image to remove, or --all"
        )
    if all_images:
        texts = [image.id for image in store.images() if image.location is None]
    reports: list[RemovalReport] = []
    errors: list[KstoreError] = []
    for text in texts:
        try:
            reports.append(_remove(store, text, force=force, all_names=all_images))
        except KstoreError as error:
            errors.append(error)
    return RmiResult(tuple(reports), tuple(errors))


def _remove(store: Store, text: str, *, force: bool, all_names: bool) -> RemovalReport:
    found = store.find_image(text)
    if found.image.location is not None:
        raise elsewhere(found)
    if found.name is not None and not (force and len(found.image.names) == 1):
        return store.remove_name(found.name)
    return store.remove_image(found.image.id, force=force, all_names=all_names)
