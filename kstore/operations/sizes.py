"""How much images and working containers hold, by looking at all of it."""

from __future__ import annotations

import stat
from contextlib import closing

from kstore.manifest import Manifest
from kstore.operations.base_layers import layer_openers
from kstore.store import ContainerRecord, Store
from kstore.streams import Cancel, pump
from kstore.tree.descent import Descent

__all__ = ["unpacked_size", "writable_size"]


def unpacked_size(store: Store, manifest: Manifest, cancel: Cancel | None = None) -> int:
    """The bytes of an image's layers as tars, each of which is read to its end.

    Raises BlobNotFoundError, StoreDamagedError, IntegrityError, CancelledError.
    """
    total = 0
    for opened in layer_openers(store, manifest.layers):
        with closing(opened()) as tar:
            total += pump(tar, lambda _: None, cancel=cancel)
    return total


def writable_size(record: ContainerRecord) -> int:
    """The bytes of the files in a container's writable layer, hard links counted once.

    Raises NotFoundError where they are gone, StorageError.
    """
    total, seen, pending = 0, set[tuple[int, int]](), [""]
    with Descent(record.upper) as tree:
        while pending:
            directory = pending.pop()
            for child in tree.children(directory):
                key = (child.info.st_dev, child.info.st_ino)
                if stat.S_ISDIR(child.info.st_mode):
                    pending.append(f"{directory}/{child.name}" if directory else child.name)
                elif stat.S_ISREG(child.info.st_mode) and key not in seen:
                    seen.add(key)
                    total += child.info.st_size
    return total
