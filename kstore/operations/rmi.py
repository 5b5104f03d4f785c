"""Remove images, or names of images."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.errors import InvalidInputError, KstoreError, StoreDamagedError
from kstore.operations.images import ImageSummary, list_images
from kstore.store import Found, NameRecord, RemovalReport, Store
from kstore.store.lookup import elsewhere
from kstore.values import dataclass

__all__ = ["RmiResult", "remove_images"]


@dataclass(frozen=True, slots=True)
class RmiResult:
    """What was removed, in order, and what could not be."""

    reports: tuple[RemovalReport, ...]
    errors: tuple[KstoreError, ...]


def remove_images(
    store: Store,
    texts: Sequence[str],
    *,
    filters: Sequence[str] = (),
    force: bool = False,
    all_images: bool = False,
) -> RmiResult:
    """Remove each of ``texts``, or everything, or what meets ``filters``.

    A name of an image with several names is only taken away; the last name takes the image with
    it.  An ID removes the image, with ``force`` also if it has several names.  An image that
    containers were made from stays, unless ``force``.  ``filters`` (see
    :mod:`kstore.operations.filters`) alone remove what :func:`list_images` lists with them, names
    by name; of ``texts`` they leave out what is not listed.  A failure does not stop the rest; it
    is reported in ``errors``.  Raises InvalidInputError, and for a filter what
    :func:`~kstore.operations.filters.parse_filters` raises.
    """
    if all_images and texts:
        raise InvalidInputError("--all takes no image names")
    if not (all_images or texts or filters):
        raise InvalidInputError("say which image to remove, or give --filter or --all")
    listed = list_images(store, None, filters) if filters else None
    all_names = False
    if listed is not None and not texts:
        texts, listed = [str(row.name.name) if row.name else row.id for row in listed], None
    elif all_images:
        own = [image.id for image in store.images() if image.location is None]
        texts, all_names = own, True
    reports: list[RemovalReport] = []
    errors: list[KstoreError] = []
    for text in texts:
        try:
            found = _find(store, text)
            if isinstance(found, NameRecord):
                if listed is None:
                    reports.append(store.remove_name(found.name))
            elif listed is None or _is_listed(found, listed):
                reports.append(_remove(store, found, force=force, all_names=all_names))
        except KstoreError as error:
            errors.append(error)
    return RmiResult(tuple(reports), tuple(errors))


def _find(store: Store, text: str) -> Found | NameRecord:
    """An image; of one that cannot be read its name, which is all that is known."""
    try:
        return store.find_image(text, pullable=False)
    except StoreDamagedError:
        record = store.find_name(text)
        if record is None:
            raise
        return record


def _is_listed(found: Found, listed: Sequence[ImageSummary]) -> bool:
    """Whether the listing has the image; under the name it was looked up by, if it was."""
    return any(
        row.id == found.image.id
        and (found.name is None or (row.name is not None and row.name.name == found.name))
        for row in listed
    )


def _remove(store: Store, found: Found, *, force: bool, all_names: bool) -> RemovalReport:
    if found.image.location is not None:
        raise elsewhere(found)
    if found.name is not None and not (force and len(found.image.names) == 1):
        return store.remove_name(found.name)
    return store.remove_image(found.image.id, force=force, all_names=all_names)
