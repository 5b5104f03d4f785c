"""Take names away; the image stays."""

from __future__ import annotations

from kstore.errors import (
    AmbiguousNameError,
    ImageNotFoundError,
    InvalidInputError,
    StoreDamagedError,
)
from kstore.operations.kpod_texts import matches_reference
from kstore.reference import DEFAULT_DOMAIN, LOCAL_DOMAIN, Named
from kstore.store import ImageRecord, Store

__all__ = ["untag_image", "untag_name_of"]


def untag_image(store: Store, text: str) -> Named:
    """Remove exactly the name ``text``; an ID will do if the image has exactly one name.

    Returns the name removed.  Raises ImageNotFoundError, and InvalidInputError for a digest that
    is no part of the name itself.
    """
    try:
        found = store.find_image(text, pullable=False)
    except StoreDamagedError:
        record = store.find_name(text)
        if record is None or "@" in text:
            raise
        store.untag(record.name)  # of an image that cannot be read
        return record.name
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


def untag_name_of(store: Store, image: ImageRecord, argument: str) -> Named:
    """Take one name of ``image`` away, the one ``argument`` means; that name.

    A name that is exactly meant comes before those of which ``argument`` is the end; other names
    stay, and so does the image.  Raises ImageNotFoundError if the image has no such name (any
    more), AmbiguousNameError if several are meant, InvalidInputError for a digest, which cannot be
    taken away.
    """
    if "@" in argument:
        raise InvalidInputError(
            f"{argument[:200]!r} has a digest, and only names can be taken away",
            hint="kstore untag NAME:TAG",
        )
    names = [record.name for record in store.image(image.id).names]
    exact = {
        Named.parse(argument, default_domain=domain).with_default_tag()
        for domain in (LOCAL_DOMAIN, DEFAULT_DOMAIN)
    }
    found = [name for name in names if name in exact]
    found = found or [name for name in names if matches_reference(str(name), argument)]
    if len(found) > 1:
        listed = ", ".join(map(str, found))
        raise AmbiguousNameError(
            f"{argument[:200]!r} means several names of image {image.short_id}: {listed}",
            hint="give the name in full",
        )
    if not found:
        listed = ", ".join(map(str, names)) or "it has none"
        raise ImageNotFoundError(
            f"{argument[:200]!r} is no name of image {image.short_id} ({listed})",
            hint="kstore images",
        )
    store.untag(found[0])
    return found[0]
