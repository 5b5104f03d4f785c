"""What operations on several images share: whose failure a failure is, and what names meant."""

from __future__ import annotations

from kstore.errors import IntegrityError, NotFoundError, PolicyRejectedError, UnsupportedError
from kstore.reference import Named
from kstore.store import Store

__all__ = ["OF_ONE_IMAGE", "image_named"]

#: Failures that are one image's own: the next one may well be fine.
OF_ONE_IMAGE = (NotFoundError, IntegrityError, UnsupportedError, PolicyRejectedError)


def image_named(store: Store, name: Named) -> str | None:
    """The ID of the image a name leads to, None if there is none."""
    record = store.name(name)
    manifest = store.manifest(record.manifest) if record and record.manifest else None
    return manifest.image_id if manifest else None
