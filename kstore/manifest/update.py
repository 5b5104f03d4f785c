"""Changes to an image's manifest: another type, other layers; pure.

What a change needs to know beyond the manifest is part of :class:`ManifestUpdate`, and
:func:`needs_diff_ids` tells in advance whether the costly part of that is needed: the digests of
unpacked layers, which only who has read all the layers can know.
"""

from __future__ import annotations

from collections.abc import Sequence

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidInputError, UnsupportedError
from kstore.manifest.convert import convert, converted_layer_type
from kstore.manifest.documents import Index, Manifest
from kstore.manifest.raw import RawManifest
from kstore.manifest.schema1 import Legacy, legacy_config, legacy_manifest
from kstore.values import dataclass

__all__ = ["ManifestUpdate", "needs_diff_ids", "updated_manifest"]


@dataclass(frozen=True, slots=True)
class ManifestUpdate:
    """What shall change, None leaving it as it is; and what is known beyond the manifest.

    ``layers``: what takes the place of each layer, base first (digest, size and media type of any
    family count).  ``manifest_type``: OCI or Docker schema 2.  ``diff_ids``: digests of the
    unpacked layers, in the same order; only read where :func:`needs_diff_ids`.
    """

    layers: Sequence[Descriptor] | None = None
    manifest_type: str | None = None
    diff_ids: Sequence[Digest] | None = None


def needs_diff_ids(document: Manifest | Index | Legacy, update: ManifestUpdate) -> bool:
    """Whether ``update`` can only be made with its ``diff_ids``: a Docker schema 1 manifest has no
    config, and the one that is made for it must name them."""
    return isinstance(document, Legacy) and update.manifest_type is not None


def updated_manifest(
    raw: RawManifest,
    document: Manifest | Index | Legacy,
    config: bytes | None,
    update: ManifestUpdate,
) -> tuple[RawManifest, bytes | None]:
    """The manifest after ``update``, and its config, which keeps its bytes where there is one.

    ``document`` and ``config`` are those of ``raw``.  Where nothing changes, the bytes stay.
    Raises InvalidInputError if ``layers`` or ``diff_ids`` are missing or not as many as the image
    has layers, UnsupportedError for an index, whose members are images of their own, and for what
    the wanted type cannot say.
    """
    if isinstance(document, Index):
        raise UnsupportedError(
            f"index {raw.digest} is no image: its members are updated, each on its own"
        )
    layers = update.layers
    if layers is not None and len(layers) != len(document.layers):
        raise InvalidInputError(
            f"manifest {raw.digest} has {len(document.layers)} layers, but {len(layers)} were given"
        )
    if isinstance(document, Legacy):
        return _modern(raw, document, update)
    changes: dict[Digest, Descriptor] = {}
    for old, new in zip(document.layers, layers or (), strict=layers is not None):
        if changes.setdefault(old.digest, new).digest != new.digest:
            raise InvalidInputError(
                f"layer {old.digest} is twice in manifest {raw.digest}, and cannot become two"
            )
    return convert(raw, config, update.manifest_type or raw.media_type, changes)


def _modern(
    raw: RawManifest, legacy: Legacy, update: ManifestUpdate
) -> tuple[RawManifest, bytes | None]:
    target = update.manifest_type
    if target is None:
        if update.layers is None:
            return raw, None
        raise UnsupportedError(f"manifest {raw.digest} is Docker schema 1, which is never written")
    if target not in mt.MANIFESTS:
        raise UnsupportedError(f"manifest {raw.digest} cannot become a {target!r:.120}")
    if update.layers is None or update.diff_ids is None:
        raise InvalidInputError(
            f"manifest {raw.digest} is Docker schema 1, which tells neither the sizes of layers nor"
            " what they unpack to: layers and diff_ids must be given"
        )
    config = legacy_config(legacy, update.diff_ids)
    described = [
        Descriptor(converted_layer_type(layer.media_type, target), layer.digest, layer.size)
        for layer in update.layers
    ]
    blob = Descriptor(mt.CONFIG_OF[target], Digest.of(config), len(config))
    return legacy_manifest(target, blob, described), config
