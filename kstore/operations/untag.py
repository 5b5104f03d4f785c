"""Take names away; the image stays."""

from __future__ import annotations

from kstore.errors import InvalidInputError
from kstore.reference import Named
from kstore.store import Store

__all__ = ["untag_image"]


def untag_image(store: Store, text: str) -> Named:
    """Remove exactly the name ``text``; an ID will do if the image has exactly one name.

    Returns the name removed.  Raises ImageNotFoundError, and InvalidInputError for a digest that
    is no part of the name itself.
    """
    found = store.find_image(text)
    name = found.name
    if name is not None and "@" in text and name.digest is None:
        raise InvalidInputError(
            f"{text[:300]!r} is an image, not a name that can be taken away",
            hint=f"kstore untag {name}",
        )
    if name is None:
        names = found.image.names
        if len(names) != 1:
            listed = ", ".join(str(record.name) for record in names) or "none"
            raise InvalidInputError(
                f"image {found.image.short_id} has {len(names)} names, say which one: {listed}"
            )
        name = names[0].name
    store.untag(name)
    return name
