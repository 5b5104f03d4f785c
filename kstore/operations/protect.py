"""Keep names from being removed."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.errors import InvalidInputError
from kstore.reference import Named
from kstore.store import Store

__all__ = ["protect_images", "protected_names", "unprotect_images"]


def protected_names(store: Store) -> list[Named]:
    """The protected names, sorted."""
    return store.protection.names()


def protect_images(store: Store, texts: Sequence[str]) -> list[Named]:
    """Protect each of ``texts``, a name, or an ID that stands for all names of its image.

    All or none.  A protected name cannot be removed, by whatever; it can be given to another image.
    Returns the names.  Raises ImageNotFoundError, AmbiguousNameError, and InvalidInputError for an
    image without a name.
    """
    names = [name for text in texts for name in _names(store, text, pullable=True)]
    store.protection.add(names)
    return names


def unprotect_images(store: Store, texts: Sequence[str]) -> list[Named]:
    """Release each of ``texts``, as for :func:`protect_images`; the names that were protected."""
    protected = set(store.protection.names())
    found = [name for text in texts for name in _names(store, text, pullable=False)]
    names = [name for name in found if name in protected]
    store.protection.release(names)
    return names


def _names(store: Store, text: str, *, pullable: bool) -> list[Named]:
    found = store.find_image(text, pullable=pullable)
    if found.name is not None:
        return [found.name]
    if not found.image.names:
        raise InvalidInputError(
            f"image {found.image.short_id} has no name that could be protected",
            hint=f"kstore tag {found.image.short_id} NAME",
        )
    return [record.name for record in found.image.names]
