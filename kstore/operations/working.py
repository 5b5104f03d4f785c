"""Working containers: made from an image, listed, removed."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.errors import ImageNotFoundError, InvalidInputError, KstoreError
from kstore.operations.draft import Draft
from kstore.store import ContainerRecord, ImageRecord, Store
from kstore.values import dataclass

__all__ = [
    "SCRATCH",
    "ContainerSummary",
    "RemovedContainers",
    "list_containers",
    "make_container",
    "remove_containers",
]

#: What an image without anything is called.
SCRATCH = "scratch"
_STEM = "working-container"


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """A container and its image: None for scratch, and for an image that is gone."""

    record: ContainerRecord
    image: ImageRecord | None

    @property
    def image_name(self) -> str | None:
        """A name of the image, or ``scratch``; None for an image without a name."""
        if self.record.image_id is None:
            return SCRATCH
        names = self.image.names if self.image else ()
        return str(names[0].name) if names else None


@dataclass(frozen=True, slots=True)
class RemovedContainers:
    """Containers that are gone, in order, and why others are not."""

    removed: tuple[ContainerRecord, ...]
    errors: tuple[KstoreError, ...]


def make_container(store: Store, image: str, name: str | None = None) -> ContainerRecord:
    """Make a working container from ``image``, a name or an ID in the store, or ``scratch``.

    Without a ``name`` it is called after the image.  Raises ImageNotFoundError,
    AmbiguousNameError, InvalidInputError for what cannot be a name, ConflictError for one that is
    taken.
    """
    if image == SCRATCH:
        draft = Draft.of_scratch()
        return store.containers.create(None, name=name, stem=_STEM, describe=draft.describe)
    found = store.find_image(image)
    draft = Draft.of_image(store, found)
    named = found.name or next((record.name for record in found.image.names), None)
    start = named.path.rpartition("/")[2] if named else found.image.short_id
    return store.containers.create(
        found, name=name, stem=f"{start}-{_STEM}", describe=draft.describe
    )


def list_containers(store: Store) -> list[ContainerSummary]:
    """All working containers, oldest first."""
    return [ContainerSummary(record, _image(store, record)) for record in store.containers.all()]


def _image(store: Store, record: ContainerRecord) -> ImageRecord | None:
    if record.image_id is None:
        return None
    try:
        return store.image(record.image_id)
    except ImageNotFoundError:
        return None


def remove_containers(
    store: Store, texts: Sequence[str], *, all_containers: bool = False
) -> RemovedContainers:
    """Remove each of ``texts`` (names or IDs), or every container.

    A failure does not stop the rest; it is reported in ``errors``.
    """
    if all_containers == bool(texts):
        raise InvalidInputError(
            "--all takes no names" if texts else "say which container to remove, or --all"
        )
    removed: list[ContainerRecord] = []
    errors: list[KstoreError] = []
    for text in [one.id for one in store.containers.all()] if all_containers else texts:
        try:
            record = store.containers.find(text)
            store.containers.remove(record)
            removed.append(record)
        except KstoreError as error:
            errors.append(error)
    return RemovedContainers(tuple(removed), tuple(errors))
