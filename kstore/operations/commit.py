"""A working container as an image: its base as it is, its settings, and one layer of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.compression import Kind
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    InvalidInputError,
    UnsupportedError,
)
from kstore.manifest import (
    MAX_CONFIG_SIZE,
    MAX_MANIFEST_SIZE,
    ImageConfig,
    RawManifest,
    parse_image,
)
from kstore.manifest.convert import convert
from kstore.operations.base_layers import has_files, hold_base, layer_openers
from kstore.operations.changes import require_text
from kstore.operations.draft import Draft
from kstore.operations.inspect import time_text
from kstore.operations.packed_layer import PackedLayer
from kstore.operations.tag import parse_new_name
from kstore.reference import Named
from kstore.store import ContainerRecord, Lease, Publication, Store
from kstore.streams import Cancel, Readable
from kstore.tree.layer import LayerTar, TreeRules
from kstore.tree.squash import SquashedTar
from kstore.values import dataclass

__all__ = ["CommitOptions", "CommitResult", "commit_container"]

_MANIFESTS = {"oci": mt.OCI_MANIFEST, "docker": mt.DOCKER_MANIFEST}


@dataclass(frozen=True, slots=True)
class CommitOptions:
    """``form``: the manifest's format.  ``compression`` and ``level``: of the new layer.

    ``timestamp``: the date of the image, and the latest that any new file may have; the same
    settings and files then give the same image (None: now, and files keep their dates).
    ``squash``: one layer of everything.  ``message``: comment of the history's new entry, instead
    of that of the settings.
    """

    form: Literal["oci", "docker"] = "oci"
    compression: Kind = "gzip"
    level: int | None = None
    timestamp: dt.datetime | None = None
    squash: bool = False
    message: str | None = None


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The new image; ``layer`` is the layer that was made, None where nothing was changed."""

    image_id: str
    name: Named | None
    manifest: Digest
    layer: Descriptor | None


@dataclass(frozen=True, slots=True)
class _Base:
    """What the container was made from: the layers as JSON knows them, in the wanted format."""

    layers: tuple[dict[str, Any], ...] = ()
    blobs: tuple[Descriptor, ...] = ()
    diff_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _NewLayer:
    blob: Descriptor
    diff_id: Digest


def commit_container(
    store: Store,
    container: str,
    name: str | None = None,
    options: CommitOptions | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    warn: Callable[[str], None] = lambda _: None,
    cancel: Cancel | None = None,
) -> CommitResult:
    """Make an image called ``name`` of the container (a name or an ID), which stays.

    ``progress`` is told the size of every piece of the new layer's tar; ``warn`` hears of files
    that no image can hold.  Raises NotFoundError, ImageNotFoundError where the container's image
    is gone, UnsupportedError for what the format cannot say, ConflictError for files that change
    meanwhile, StoreDamagedError; leaves nothing behind then.
    """
    options = options or CommitOptions()
    require_text(options.message or "", "the message")
    named = parse_new_name(name) if name is not None else None
    target = _MANIFESTS[options.form]
    if mt.layer_type(target, options.compression) is None:
        raise UnsupportedError(
            f"a layer compressed with {options.compression} cannot go into a {options.form} image",
            hint="commit with --format oci, or --compress gzip",
        )
    record = store.containers.find(container)
    with (
        store.containers.hold(record),
        store.lease(f"commit {record.name}") as lease,
    ):
        draft = Draft.of_container(record)
        work = _Commit(store, lease, record, draft, options, target)
        base = work.base()
        layer = work.new_layer(base, progress, warn, cancel)
        raw = work.manifest(base, layer)
        image = lease.publish(Publication(raw, names=(named,) if named else ()))
    if image is None:
        raise InvalidInputError(
            f"container {record.name} is for no known platform, so it cannot be an image",
            hint=f"kstore config --os linux --arch amd64 {record.name}",
        )
    return CommitResult(image.id, named, raw.digest, layer.blob if layer else None)


class _Commit:
    """The steps of one commit; a class because they share what they work on."""

    def __init__(
        self,
        store: Store,
        lease: Lease,
        record: ContainerRecord,
        draft: Draft,
        options: CommitOptions,
        target: str,
    ) -> None:
        self._store = store
        self._lease = lease
        self._record = record
        self._draft = draft
        self._options = options
        self._target = target
        moment = options.timestamp or dt.datetime.now(dt.UTC)
        self._moment = moment.astimezone(dt.UTC).replace(microsecond=0)

    def base(self) -> _Base:
        """The layers the container began with, held from now on."""
        raw = hold_base(self._store, self._lease, self._record)
        if raw is None:
            return _Base()
        blobs = parse_image(raw).layers
        digest = parse_image(raw).config.digest
        data = self._store.read_blob(digest, cap=MAX_CONFIG_SIZE)
        config = ImageConfig.parse(data, f"config {digest}")
        if len(config.diff_ids) != len(blobs):
            raise UnsupportedError(
                f"image {digest.hex[:12]} has {len(blobs)} layers, but its config knows"
                f" {len(config.diff_ids)}"
            )
        if not self._options.squash:
            raw, _ = convert(raw, data, self._target)
        document = strictjson.loads(raw.data, f"manifest {raw.digest}", cap=MAX_MANIFEST_SIZE)
        return _Base(tuple(document["layers"]), blobs, tuple(map(str, config.diff_ids)))

    def new_layer(
        self,
        base: _Base,
        progress: Callable[[int], None] | None,
        warn: Callable[[str], None],
        cancel: Cancel | None,
    ) -> _NewLayer | None:
        """Store the layer of what was changed, or of everything; None where nothing was."""
        kind, level = self._options.compression, self._options.level
        with self._tar(base, warn) as tar:
            if tar is None:
                return None
            with PackedLayer(tar, kind, level, progress=progress, cancel=cancel) as packed:
                digest, size = self._lease.put_stream(packed, cancel=cancel)
        media_type = mt.layer_type(self._target, kind)
        assert media_type is not None, "checked at the beginning"
        return _NewLayer(Descriptor(media_type, digest, size), packed.diff_id)

    @contextlib.contextmanager
    def _tar(self, base: _Base, warn: Callable[[str], None]) -> Iterator[Readable | None]:
        upper = self._record.upper
        newest = int(self._moment.timestamp()) if self._options.timestamp else None
        changed = has_files(self._record)
        if base.blobs and not changed and not self._options.squash:
            yield None
            return
        rules = TreeRules(removals=True, newest=newest)
        if not self._options.squash:
            with LayerTar(upper, rules, warn=warn) as tar:
                yield tar
            return
        layers = [
            *layer_openers(self._store, base.blobs),
            lambda: LayerTar(upper, rules, warn=warn),
        ]
        with SquashedTar(layers, newest=newest) as merged:
            yield merged

    def manifest(self, base: _Base, layer: _NewLayer | None) -> RawManifest:
        """Store the config; the manifest that names it."""
        squash = self._options.squash
        blobs = [] if squash else list(base.layers)
        diff_ids = [] if squash else list(base.diff_ids)
        if layer is not None:
            blobs.append(layer.blob.to_json())
            diff_ids.append(str(layer.diff_id))
        config = self._lease.put_bytes(
            _dump(self._config(diff_ids, empty=layer is None)), mt.CONFIG_OF[self._target]
        )
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self._target,
            "config": config.to_json(),
            "layers": blobs,
        }
        annotations = self._draft.annotations
        if annotations and self._target == mt.OCI_MANIFEST:
            document["annotations"] = annotations
        return RawManifest.receive(_dump(document), self._target)

    def _config(self, diff_ids: list[str], *, empty: bool) -> dict[str, Any]:
        data = self._draft.data
        config = dict(data.config)
        stamp = time_text(self._moment)
        history = list(config.get("history") or [])
        if self._options.squash:  # what these entries made is in the one layer now
            history = [{**entry, "empty_layer": True} for entry in history]
        config["created"] = stamp
        config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
        entry = data.history_entry(stamp, message=self._options.message, empty=empty)
        config["history"] = [*history, entry]
        return config


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
