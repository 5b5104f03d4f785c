"""Making an image that does not exist yet, to be read from.

What nobody asked to change keeps its bytes: a config without edits, a layer that is compressed as
wanted, a whole manifest.  New layers are kept in temporary files without names.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any

from kstore import mediatypes as mt
from kstore.blobs import storage_errors, write_all
from kstore.compression import Kind
from kstore.copier.recompress import spool_directory
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    REPAIR,
    BlobNotFoundError,
    DigestMismatchError,
    ImageNotFoundError,
    ManifestNotFoundError,
    NotFoundError,
    UnsupportedError,
)
from kstore.formats.spool import PlainFile
from kstore.formats.tar_image import FileStream
from kstore.image import ManifestUpdate
from kstore.interfaces import (
    BlobSource,
    ImageReference,
    ImageSource,
    RetrySink,
    SourceTraits,
)
from kstore.manifest import ImageConfig, Manifest, RawManifest, parse_image
from kstore.manifest.update import updated_manifest
from kstore.operations.base_layers import has_files, layer_openers
from kstore.operations.draft import DraftData
from kstore.operations.inspect import time_text
from kstore.operations.packed_layer import PackedLayer
from kstore.store import ContainerRecord, Found, Store
from kstore.streams import BytesStream, ByteStream, pump
from kstore.transports.base import FileBlob, OpenedBlob
from kstore.tree.layer import LayerTar, TreeRules
from kstore.values import dataclass

__all__ = ["CopySource", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an image is made of.

    ``base``: the image whose layers it has, up to ``top`` (a layer's digest or diffID; None: all
    of them).  ``container``: its files are one more layer, unless ``top`` is given.  ``config``:
    the config's bytes, before layers or dates change.  ``compression``: of all layers, None for
    what each one has (gzip for a new one).  ``timestamp``: the image's date, and the latest of a
    new file; None for what they are.
    """

    base: Found | None
    container: ContainerRecord | None
    settings: DraftData
    config: bytes = field(repr=False)
    manifest_type: str
    compression: Kind | None = None
    top: Digest | None = None
    timestamp: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer of the new image; ``file`` is None for one that the store has."""

    blob: Descriptor
    diff_id: Digest
    file: PlainFile | None = None


class CopySource(ImageSource):
    """Reads the image that a recipe makes, and keeps its base from being collected meanwhile."""

    remedy: str | None = REPAIR

    def __init__(self, reference: ImageReference, store: Store, recipe: Recipe) -> None:
        self._reference = reference
        self._store = store
        self._recipe = recipe
        self._check_type()
        self._open = contextlib.ExitStack()
        try:
            base = self._hold_base()
            diff_ids = self._kept_diff_ids(base)
            stored = base[1].layers[: len(diff_ids)] if base else ()
            self._layers = [self._stored(*each) for each in zip(stored, diff_ids, strict=True)]
            own = self._own_layer() if self._recipe.top is None else None
            if own is not None:
                self._layers.append(own)
            self._config = self._new_config(own is not None)
            self._raw = self._manifest(base)
        except BaseException:
            self.close()
            raise

    def _check_type(self) -> None:
        recipe = self._recipe
        if recipe.manifest_type not in mt.CONFIG_OF:
            raise UnsupportedError(f"an image cannot be made as a {recipe.manifest_type!r:.120}")
        kind = recipe.compression or "gzip"
        if mt.layer_type(recipe.manifest_type, kind) is None:
            raise UnsupportedError(
                f"no layer of a {recipe.manifest_type} can be compressed with {kind!r:.40}",
                hint="compress it with gzip",
            )

    def _hold_base(self) -> tuple[RawManifest, Manifest] | None:
        found = self._recipe.base
        if found is None:
            return None
        lease = self._open.enter_context(self._store.lease(f"copy {found.image.short_id}"))
        try:
            lease.hold_image(found)
        except BlobNotFoundError as exc:
            raise ImageNotFoundError(
                f"image {found.image.short_id} was removed meanwhile",
                hint="pull or load that image again",
            ) from exc
        raw = self._store.read_manifest(found.manifest)
        return raw, parse_image(raw)

    # ---- layers

    def _kept_diff_ids(self, base: tuple[RawManifest, Manifest] | None) -> tuple[Digest, ...]:
        """What those layers of the base unpack to that stay."""
        if base is None:
            return ()
        blobs = base[1].layers
        what = f"image {base[1].config.digest.hex[:12]}"
        diff_ids = ImageConfig.parse(self._recipe.config, f"config of {what}").diff_ids
        if len(diff_ids) != len(blobs):
            raise UnsupportedError(
                f"{what} has {len(blobs)} layers, but its config knows {len(diff_ids)}"
            )
        top = self._recipe.top
        for count, (blob, diff_id) in enumerate(zip(blobs, diff_ids, strict=True), start=1):
            if top in (blob.digest, diff_id):
                return diff_ids[:count]
        if top is not None:
            raise NotFoundError(f"{what} has no layer {top}", hint=f"kstore tree {what[6:]}")
        return diff_ids

    def _stored(self, blob: Descriptor, diff_id: Digest) -> _Layer:
        wanted = self._recipe.compression
        if wanted is None or wanted == mt.layer_compression(blob.media_type):
            return _Layer(blob, diff_id)
        (opened,) = layer_openers(self._store, [blob])
        made = self._packed(opened, wanted)
        if made.diff_id != diff_id and diff_id.algorithm == made.diff_id.algorithm:
            raise DigestMismatchError(
                f"layer {blob.digest} unpacks to {made.diff_id}, but the config says {diff_id}"
            )
        return made

    def _own_layer(self) -> _Layer | None:
        """The files of the container; None if there are none and the base has layers."""
        record, stamp = self._recipe.container, self._recipe.timestamp
        if record is None:
            return None
        rules = TreeRules(removals=True, newest=int(stamp.timestamp()) if stamp else None)
        with self._store.containers.hold(record):
            if self._layers and not has_files(record):
                return None
            return self._packed(
                lambda: LayerTar(record.upper, rules, warn=_ignore),
                self._recipe.compression or "gzip",
            )

    def _packed(self, open_tar: Callable[[], ByteStream], kind: Kind) -> _Layer:
        """A tar as a layer in a temporary file, which :meth:`close` closes."""
        directory = spool_directory()
        with storage_errors(f"make a temporary file in {directory}"):
            opened = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - is kept
        self._open.callback(opened.close)
        assert isinstance(opened, io.FileIO), "without a buffer"
        hasher = Digest.new_hasher()

        def take(view: memoryview) -> None:
            hasher.update(view)
            with storage_errors(f"write a temporary file in {directory}"):
                write_all(opened, view)

        with contextlib.closing(open_tar()) as tar:
            packed = PackedLayer(tar, kind)
            pump(packed, take)
        file = PlainFile(opened, "a temporary file")
        media_type = mt.layer_type(self._recipe.manifest_type, kind)
        assert media_type is not None, "checked at the beginning"
        blob = Descriptor(media_type, Digest.from_hasher(hasher), file.size)
        return _Layer(blob, packed.diff_id, file)

    # ---- documents

    def _new_config(self, with_new_layer: bool) -> bytes:
        recipe = self._recipe
        config: dict[str, Any] = json.loads(recipe.config)
        diff_ids = [str(layer.diff_id) for layer in self._layers]
        same_layers = (config.get("rootfs") or {}).get("diff_ids") == diff_ids
        if same_layers and recipe.timestamp is None:
            return recipe.config
        moment = recipe.timestamp or (dt.datetime.now(dt.UTC) if with_new_layer else None)
        if moment is not None:
            moment = moment.astimezone(dt.UTC).replace(microsecond=0)
            config["created"] = time_text(moment)
        if not same_layers:
            config["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
            history = _history_of(config.get("history") or [], len(diff_ids) - with_new_layer)
            if with_new_layer:
                history.append(recipe.settings.history_entry(time_text(moment)))
            config["history"] = history
        return _dump(config)

    def _manifest(self, base: tuple[RawManifest, Manifest] | None) -> RawManifest:
        recipe = self._recipe
        document: dict[str, Any] = {"schemaVersion": 2, "mediaType": recipe.manifest_type}
        blobs = [layer.blob for layer in self._layers]
        listed: list[dict[str, Any]] = []
        if base is not None:
            raw, manifest = base
            replaced = [*blobs[: len(manifest.layers)], *manifest.layers[len(blobs) :]]
            update = ManifestUpdate(replaced, recipe.manifest_type)
            raw, _ = updated_manifest(raw, manifest, None, update)
            if len(blobs) == len(manifest.layers) and not self._says_more(manifest):
                return raw
            document = json.loads(raw.data)
            listed = document["layers"][: len(blobs)]
        document["config"] = Descriptor(
            mt.CONFIG_OF[recipe.manifest_type], Digest.of(self._config), len(self._config)
        ).to_json()
        document["layers"] = [*listed, *(blob.to_json() for blob in blobs[len(listed) :])]
        document.pop("annotations", None)
        if recipe.settings.annotations and recipe.manifest_type == mt.OCI_MANIFEST:
            document["annotations"] = dict(recipe.settings.annotations)
        return RawManifest.receive(_dump(document), recipe.manifest_type)

    def _says_more(self, manifest: Manifest) -> bool:
        """Whether the config or the annotations are not those of the base."""
        if Digest.of(self._config, manifest.config.digest.algorithm) != manifest.config.digest:
            return True
        same = dict(self._recipe.settings.annotations) == dict(manifest.annotations)
        return not same and self._recipe.manifest_type == mt.OCI_MANIFEST

    # ---- reading

    @property
    def reference(self) -> ImageReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    @property
    def named_digest(self) -> None:
        """None: the name is one the image shall have, and says nothing about it."""
        return

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        if instance is not None and instance != self._raw.digest:
            raise ManifestNotFoundError(f"an image to be copied has no member {instance}")
        return self._raw

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        digest = descriptor.digest
        if digest == Digest.of(self._config, digest.algorithm):
            return OpenedBlob(BytesStream(self._config[offset:]), offset)
        for layer in self._layers:
            if layer.blob.digest == digest:
                if layer.file is None:
                    return FileBlob(self._store.open_blob(digest), offset)
                return OpenedBlob(FileStream(layer.file.duplicate(), offset), offset)
        raise BlobNotFoundError(f"the image to be copied has no blob {digest}")

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        """Those of the base, if this is still its manifest; nobody signed another one."""
        return self._store.signatures(self._raw.digest)

    def close(self) -> None:
        self._open.close()


def _history_of(history: Sequence[Mapping[str, Any]], layers: int) -> list[Mapping[str, Any]]:
    """The entries, oldest first, that made the first ``layers`` layers."""
    kept: list[Mapping[str, Any]] = []
    for entry in history:
        layers -= not entry.get("empty_layer")
        if layers < 0:
            break
        kept.append(entry)
    return kept


def _ignore(_: str) -> None:
    """A commit tells what no image can hold; here, nobody is listening."""


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
