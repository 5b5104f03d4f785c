"""The layers of an image, and who shares them."""

from __future__ import annotations

from itertools import chain, repeat
from typing import Any

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.operations.inspect import inspect_image
from kstore.store import ImageRecord, Store
from kstore.values import dataclass

__all__ = ["ImageTree", "LayerNode", "image_tree"]


@dataclass(frozen=True, slots=True)
class LayerNode:
    """One layer: as it is stored (``descriptor``), what it unpacks to, the step that made it, and
    the other images that have it; what the config does not tell is None."""

    descriptor: Descriptor
    diff_id: Digest | None
    created_by: str | None
    shared_with: tuple[ImageRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """The layer as ``kstore tree --format json`` tells it; sizes in bytes."""
        return {
            "digest": str(self.descriptor.digest),
            "diffId": None if self.diff_id is None else str(self.diff_id),
            "mediaType": self.descriptor.media_type,
            "size": self.descriptor.size,
            "createdBy": self.created_by,
            "sharedWith": [
                {"id": image.id, "names": [str(record.name) for record in image.names]}
                for image in self.shared_with
            ],
        }


@dataclass(frozen=True, slots=True)
class ImageTree:
    """An image and its layers, base first; ``unique_size`` is what would go with the image alone,
    in bytes as stored."""

    image: ImageRecord
    layers: tuple[LayerNode, ...]
    unique_size: int

    def to_json(self) -> dict[str, Any]:
        """The image and its layers, lowest first, for programs; sizes in bytes."""
        return {
            "id": self.image.id,
            "names": [str(record.name) for record in self.image.names],
            "size": self.image.size,
            "uniqueSize": self.unique_size,
            "layers": [layer.to_json() for layer in self.layers],
        }


def image_tree(store: Store, text: str) -> ImageTree:
    """The layers of image ``text`` (a name or an ID).

    Raises ImageNotFoundError, AmbiguousNameError, StoreDamagedError.
    """
    inspection = inspect_image(store, text)
    layers = inspection.manifest.layers
    users = store.layer_users(layer.digest for layer in layers)
    steps = [entry.created_by for entry in inspection.config.history if not entry.empty_layer]
    nodes = tuple(
        LayerNode(
            descriptor=layer,
            diff_id=diff_id,
            created_by=step or None,
            shared_with=tuple(
                image for image in users[layer.digest] if image.id != inspection.image.id
            ),
        )
        for layer, diff_id, step in zip(
            layers,
            chain(inspection.config.diff_ids, repeat(None)),
            chain(steps, repeat(None)),
            strict=False,
        )
    )
    shared = {node.descriptor.digest: node.descriptor.size for node in nodes if node.shared_with}
    return ImageTree(inspection.image, nodes, max(inspection.image.size - sum(shared.values()), 0))
