"""Everything the store knows about one working container."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kstore.errors import NotFoundError
from kstore.operations.inspect import time_text
from kstore.store import ContainerRecord, Store
from kstore.values import dataclass

# What is inspected is an image more often than not, and starting fast is a feature.
if TYPE_CHECKING:
    from kstore.operations.draft import DraftData

__all__ = ["ContainerInspection", "find_container", "inspect_container"]


@dataclass(frozen=True, slots=True)
class ContainerInspection:
    """A container, and the settings it will have as an image.

    ``size``: bytes of the files in its writable layer, None where that was not asked for.
    """

    record: ContainerRecord
    data: DraftData
    size: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The inspection with the keys podman uses, where it has such a thing."""
        record, config = self.record, self.data.config
        return {
            "Id": record.id,
            "Name": record.name,
            "Created": time_text(record.created_at),
            "Image": record.image_id or "",
            "ImageName": self.data.image or "",
            "ImageDigest": str(record.manifest) if record.manifest else "",
            "Architecture": config.get("architecture") or "",
            "Os": config.get("os") or "",
            "Author": config.get("author") or "",
            "Config": config.get("config") or {},
            "Labels": dict(self.data.view.run.labels),
            "Annotations": dict(self.data.annotations),
            "CreatedBy": self.data.created_by or "",
            "Comment": self.data.comment or "",
            "GraphDriver": {"Name": "kstore", "Data": {"UpperDir": str(record.upper)}},
            **({} if self.size is None else {"SizeRw": self.size}),
        }


def inspect_container(store: Store, text: str, *, measure: bool = False) -> ContainerInspection:
    """Inspect the container ``text``, a name or an ID; ``measure`` its writable layer, too.

    Raises NotFoundError, AmbiguousNameError, StoreDamagedError, IntegrityError.
    """
    from kstore.operations.draft import Draft

    record = store.containers.find(text)
    size = None
    if measure:
        from kstore.operations.sizes import writable_size

        size = writable_size(record)
    return ContainerInspection(record, Draft.of_container(record).data, size)


def find_container(store: Store, text: str) -> ContainerRecord | None:
    """The container that ``text`` means, None if there is none; AmbiguousNameError."""
    if not text or set(text) & set("/:@"):  # in no container's name: an image's
        return None
    try:
        return store.containers.find(text)
    except NotFoundError:
        return None
