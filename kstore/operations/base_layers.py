"""The layers below a working container, its own one, and what they show together."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial

from kstore.blobs import new_file, open_plain_file, storage_errors, write_all
from kstore.compression import decompressor, detect
from kstore.descriptor import Descriptor
from kstore.errors import BlobNotFoundError, ImageNotFoundError, StoreDamagedError
from kstore.formats.layer_tar import TarReader
from kstore.manifest import RawManifest, parse_image
from kstore.operations.layer_stream import MAX_TAR
from kstore.store import ContainerRecord, Found, Lease, Store
from kstore.streams import ByteStream, Cancel, pump
from kstore.tree.contents import Contents
from kstore.tree.layer import LayerTar, TreeRules
from kstore.tree.squash import LayerOpener, SquashedTar

__all__ = ["has_files", "hold_base", "layer_openers", "read_base", "shown_files"]

#: What the base shows, without the contents of files: found out once, and kept.
_OUTLINE = "base.tar"
_MAGIC_BYTES = 6


def hold_base(store: Store, lease: Lease, record: ContainerRecord) -> RawManifest | None:
    """The manifest a container was made from, held from now on; None for scratch.

    Raises ImageNotFoundError naming the container if the image is gone.
    """
    with _gone_is_named(record):
        if record.image_id is not None and record.manifest is not None:
            image = store.image(record.image_id)
            lease.hold_image(Found(image, None, record.manifest))
    return read_base(store, record)


def read_base(store: Store, record: ContainerRecord) -> RawManifest | None:
    """The manifest a container was made from; None for scratch.  Raises as :func:`hold_base`."""
    with _gone_is_named(record):
        return store.read_manifest(record.manifest) if record.manifest is not None else None


@contextlib.contextmanager
def _gone_is_named(record: ContainerRecord) -> Iterator[None]:
    try:
        yield
    except (ImageNotFoundError, BlobNotFoundError) as exc:
        raise ImageNotFoundError(
            f"the image {str(record.image_id)[:12]} of container {record.name} is gone",
            hint="pull or load that image again",
        ) from exc


def has_files(record: ContainerRecord) -> bool:
    """Whether anything is in a container's writable layer; StoreDamagedError."""
    try:
        return bool(os.listdir(record.upper))  # noqa: PTH208 - only whether there is any
    except OSError as exc:
        raise StoreDamagedError(
            f"cannot read the files of container {record.name}: {exc.strerror}",
            hint=f"kstore rm {record.name}",
        ) from exc


def layer_openers(store: Store, layers: Sequence[Descriptor]) -> list[LayerOpener]:
    """How to open the uncompressed tars of stored layers, base first."""
    return [partial(_open_layer, store, layer) for layer in layers]


def _open_layer(store: Store, layer: Descriptor) -> ByteStream:
    with store.open_blob(layer.digest) as file, storage_errors(f"read blob {layer.digest}"):
        kind = detect(file.read(_MAGIC_BYTES))
    return decompressor(kind, store.open_blob(layer.digest), max_output=MAX_TAR)


def shown_files(store: Store, lease: Lease, record: ContainerRecord, cancel: Cancel) -> Contents:
    """What a container's base and its writable layer show together.

    Raises what :func:`hold_base` does, IntegrityError, StorageError, CancelledError.
    """
    contents = Contents()
    raw = hold_base(store, lease, record)
    if raw is not None:
        outline = record.directory / _OUTLINE
        if not outline.exists():
            _keep_outline(record, layer_openers(store, parse_image(raw).layers), cancel)
        with storage_errors(f"read {outline}"), open_plain_file(outline) as file:
            contents.add_layer(TarReader(file, what=str(outline)), "base", cancel=cancel)
    with LayerTar(record.upper, TreeRules(removals=True, hollow=True), warn=_ignore) as tar:
        contents.add_layer(TarReader(tar, what=str(record.upper)), "upper", cancel=cancel)
    return contents


def _keep_outline(record: ContainerRecord, layers: Sequence[LayerOpener], cancel: Cancel) -> None:
    outline = record.directory / _OUTLINE
    unfinished = outline.with_suffix(".new")
    with SquashedTar(layers, hollow=True) as tar, storage_errors(f"write {outline}"):
        unfinished.unlink(missing_ok=True)
        with new_file(unfinished, mode=0o600, durable=False) as file:
            pump(tar, lambda view: write_all(file, view), cancel=cancel)
        unfinished.replace(outline)


def _ignore(_: str) -> None:
    """The commit tells what no image can hold."""
