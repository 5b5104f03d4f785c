"""Which files an image adds, changes and removes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kstore.compression import decompressor, detect
from kstore.descriptor import Descriptor
from kstore.errors import REPAIR, BlobNotFoundError, IntegrityError, StoreDamagedError
from kstore.formats.layer_tar import TarLimits, TarReader
from kstore.formats.spool import file_errors
from kstore.manifest import parse_image
from kstore.operations.base_layers import read_base
from kstore.operations.layer_stream import MAX_TAR
from kstore.store import ContainerRecord, Store
from kstore.streams import Cancel, VerifiedStream
from kstore.tree.contents import MAX_FILES, Change, Contents, changes
from kstore.tree.layer import LayerTar, TreeRules

__all__ = ["diff_container", "diff_image", "diff_images"]

#: The longest path Linux takes, in bytes.
_LIMITS = TarLimits(max_entries=MAX_FILES, max_name=4096)


def diff_image(store: Store, text: str, *, cancel: Cancel | None = None) -> tuple[Change, ...]:
    """What the top layer of image ``text`` (a name or an ID) does to the layers below it.

    Raises ImageNotFoundError, AmbiguousNameError, BlobNotFoundError for a layer that is not in the
    store, StoreDamagedError, and IntegrityError for layers beyond the limits.
    """
    layers = _layers(store, text)
    below = Contents()
    _stack(store, below, layers[:-1], (), cancel)
    whole = below.copy()
    _stack(store, whole, layers[-1:], (), cancel)
    return tuple(changes(below, whole))


def diff_container(
    store: Store, record: ContainerRecord, *, cancel: Cancel | None = None
) -> tuple[Change, ...]:
    """What was done in a working container to the image it was made from.

    Raises ImageNotFoundError if that image is gone, StorageError, and what :func:`diff_image` does.
    """
    below = Contents()
    if (base := read_base(store, record)) is not None:
        _stack(store, below, parse_image(base).layers, (), cancel)
    whole = below.copy()
    rules = TreeRules(removals=True, hollow=True)
    with LayerTar(record.upper, rules, warn=lambda _: None) as tar:
        what = f"the writable layer of container {record.name}"
        whole.add_layer(TarReader(tar, limits=_LIMITS, what=what), record.id, cancel=cancel)
    return tuple(changes(below, whole))


def diff_images(
    store: Store, old: str, new: str, *, cancel: Cancel | None = None
) -> tuple[Change, ...]:
    """How the files of image ``new`` differ from those of ``old``; raises as :func:`diff_image`.

    Files that layers of their own brought are compared by content, too.
    """
    before, after = _layers(store, old), _layers(store, new)
    count = _common(before, after)
    base = Contents()
    shared = {layer.digest for layer in before} & {layer.digest for layer in after}
    known = [layer for layer in before if layer.digest in shared]
    _stack(store, base, before[:count], known, cancel)
    one, two = base.copy(), base
    _stack(store, one, before[count:], known, cancel, hashed=True)
    _stack(store, two, after[count:], known, cancel, hashed=True)
    return tuple(changes(one, two))


def _layers(store: Store, text: str) -> tuple[Descriptor, ...]:
    """The layers of an image, base first."""
    return parse_image(store.read_manifest(store.find_image(text).manifest)).layers


def _common(one: Sequence[Descriptor], two: Sequence[Descriptor]) -> int:
    """How many layers both stacks begin with."""
    count = 0
    for first, second in zip(one, two, strict=False):
        if first.digest != second.digest:
            break
        count += 1
    return count


def _stack(
    store: Store,
    contents: Contents,
    layers: Sequence[Descriptor],
    known: Sequence[Descriptor],
    cancel: Cancel | None,
    *,
    hashed: bool = False,
) -> None:
    """Add ``layers``; those that are ``known`` to be on both sides need no digests of files."""
    same = {layer.digest for layer in known}
    for layer in layers:
        with _opened(store, layer, cancel) as tar:
            contents.add_layer(tar, str(layer.digest), hashed=hashed and layer.digest not in same)


@contextmanager
def _opened(store: Store, layer: Descriptor, cancel: Cancel | None) -> Iterator[TarReader]:
    """A stored layer as a tar, its bytes verified on the way."""
    what = f"layer {layer.digest}"
    try:
        file = store.open_blob(layer.digest)
    except BlobNotFoundError as exc:
        raise BlobNotFoundError(f"{what} is not in the store", hint=REPAIR) from exc
    with file_errors(f"read {what}"), file:
        kind = detect(file.read(8))
        file.seek(0)
        plain = decompressor(kind, VerifiedStream(file, layer, cancel=cancel), max_output=MAX_TAR)
        try:
            yield TarReader(plain, limits=_LIMITS, what=what)
        except IntegrityError as exc:
            raise StoreDamagedError(f"{what} cannot be read: {exc.message}", hint=REPAIR) from exc
