"""Give an image more names."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.errors import InvalidInputError
from kstore.reference import LOCAL_DOMAIN, Named
from kstore.store import Store
from kstore.values import dataclass

__all__ = ["TagResult", "parse_new_name", "tag_image"]


@dataclass(frozen=True, slots=True)
class TagResult:
    """The image, and the names it was given in their full form."""

    image_id: str
    names: tuple[Named, ...]


def tag_image(store: Store, image: str, names: Sequence[str]) -> TagResult:
    """Point every name of ``names`` to ``image`` (name or ID).

    All names are checked first, then moved in one transaction, from other images if need be.
    Raises ImageNotFoundError, AmbiguousNameError, InvalidReferenceError.
    """
    parsed = tuple(dict.fromkeys(parse_new_name(name) for name in names))
    if not parsed:
        raise InvalidInputError("no new name was given")
    found = store.find_image(image)
    store.tag(found, parsed)
    return TagResult(found.image.id, parsed)


def parse_new_name(text: str) -> Named:
    """The full form of a name made here: a short one is put under ``localhost/``, so that it can
    never be mistaken for a registry's; ``:latest`` is the default tag.

    Raises InvalidReferenceError, or InvalidInputError for a name with a digest.
    """
    named = Named.parse(text, default_domain=LOCAL_DOMAIN)
    if named.digest is not None:
        raise InvalidInputError(f"{text[:200]!r} names a digest, which a tag cannot set")
    return named.with_default_tag()
