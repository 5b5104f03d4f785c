"""The settings of an image to come, together with the image they began from."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from kstore import mediatypes as mt
from kstore.compression import Kind
from kstore.digest import Digest
from kstore.errors import ImageNotFoundError, InvalidInputError, UnsupportedError
from kstore.manifest import MAX_CONFIG_SIZE, ImageConfig, parse_image
from kstore.operations.changes import require_text
from kstore.operations.copy_ref import CopyRef
from kstore.operations.copy_source import Recipe
from kstore.operations.draft import TYPE, Draft, DraftData
from kstore.store import ContainerRecord, Found, Store

__all__ = ["CopyData"]

_KINDS = ("none", "gzip", "zstd")


class CopyData:
    """What is known about an image to be copied: the image it began from, and its settings.

    Made by :meth:`of_container`, :meth:`of_image` or :meth:`of_scratch`.  The settings that kpod
    knew are properties here; all others are those of :attr:`draft`.  Texts that are not UTF-8, or
    that contain a zero byte, are an InvalidInputError wherever they are set.
    """

    #: What the description of a container says it is.
    type = TYPE
    #: Every setting; see :class:`kstore.operations.draft.Draft`.
    draft: Draft
    #: The manifest of the image it began from, as stored; None for scratch, and for an image that
    #: is gone.
    manifest: bytes | None
    #: The config of that image, as stored; None as above.
    config: bytes | None

    def __init__(self, store: Store, draft: Draft, base: Found | None) -> None:
        self._store = store
        self._base = base
        self.draft = draft
        self.manifest = None
        self.config = None
        self._unedited: Mapping[str, Any] | None = None
        if base is not None:
            raw = store.read_manifest(base.manifest)
            self.manifest = raw.data
            digest = parse_image(raw).config.digest
            self.config = store.read_blob(digest, cap=MAX_CONFIG_SIZE)
            self._unedited = Draft.of_image(store, base).data.config

    @classmethod
    def of_image(cls, store: Store, found: Found, home: ContainerRecord | None = None) -> CopyData:
        """The settings of an image; ``home`` is the container :meth:`save` writes them into.

        Raises InvalidManifestError, BlobNotFoundError, StoreDamagedError.
        """
        return cls(store, Draft.of_image(store, found, home), found)

    @classmethod
    def of_container(cls, store: Store, record: ContainerRecord) -> CopyData:
        """The settings of a working container.

        Raises StoreDamagedError if its description is gone, IntegrityError if it makes no sense.
        """
        base = None
        if record.image_id is not None and record.manifest is not None:
            with contextlib.suppress(ImageNotFoundError):  # make_image_ref says what is missing
                base = Found(store.image(record.image_id), None, record.manifest)
        return cls(store, Draft.of_container(record), base)

    @classmethod
    def of_scratch(cls, store: Store, home: ContainerRecord | None = None) -> CopyData:
        """An image without anything, for this machine's platform."""
        return cls(store, Draft.of_scratch(home), None)

    # ---- what it is of

    @property
    def image(self) -> str | None:
        """The name of the image it began from; None for scratch and for one without a name."""
        return self.draft.data.image

    @property
    def image_id(self) -> str | None:
        """The ID of that image, None for scratch."""
        return self.draft.data.image_id

    @property
    def container(self) -> str | None:
        """The name of the container, None where it is of none."""
        return self.draft.data.container_name

    @property
    def container_id(self) -> str | None:
        """The ID of the container, None where it is of none."""
        return self.draft.data.container_id

    @property
    def mount_point(self) -> Path | None:
        """The directory of the container's own files, None without a container.  Nothing is ever
        mounted: what the image below shows is not in it."""
        return self.draft.home.upper if self.draft.home else None

    @property
    def view(self) -> ImageConfig:
        """The config as it is now, in this project's terms; OCI's and Docker's are one."""
        return self.draft.data.view

    # ---- settings

    @property
    def os(self) -> str | None:
        """The operating system, in Go's words (``linux``)."""
        return self.draft.os

    @os.setter
    def os(self, value: str) -> None:
        self.draft.os = value

    @property
    def architecture(self) -> str | None:
        """The processor, in Go's words (``amd64``)."""
        return self.draft.architecture

    @architecture.setter
    def architecture(self, value: str) -> None:
        self.draft.architecture = value

    @property
    def work_dir(self) -> str:
        """The directory programs start in; ``/`` where none is set."""
        return self.draft.work_dir

    @work_dir.setter
    def work_dir(self, value: str | None) -> None:
        self.draft.work_dir = value

    @property
    def annotations(self) -> dict[str, str]:
        """A copy of the manifest's annotations."""
        return self.draft.annotations

    @annotations.setter
    def annotations(self, value: Mapping[str, str]) -> None:
        for key, text in value.items():
            self.draft.set_annotation(key, text)
        for key in self.annotations.keys() - value.keys():
            self.draft.set_annotation(key, None)

    @property
    def created_by(self) -> str | None:
        """What the new entry of the history says it was made by."""
        return self.draft.created_by

    @created_by.setter
    def created_by(self, value: str | None) -> None:
        self.draft.created_by = value

    # ---- what it becomes

    def save(self) -> None:
        """Write the settings into their container (``kstore.json``, mode 0600), atomically.

        Raises InvalidInputError for settings that are of no container, NotFoundError if it is gone,
        StorageError.
        """
        if self.draft.home is None:
            self.draft.save()  # says what is wrong
        else:
            with self._store.containers.hold(self.draft.home):
                self.draft.save()

    def make_image_ref(
        self,
        manifest_type: str = mt.OCI_MANIFEST,
        compress: str | None = None,
        names: Sequence[str] = (),
        layer_id: Digest | None = None,
        timestamp: dt.datetime | None = None,
    ) -> CopyRef:
        """The image as a source for copies; later changes of the settings do not show in it.

        ``manifest_type``: OCI or Docker schema 2.  ``compress``: how all layers are compressed
        (``none``, ``gzip``, ``zstd``); None leaves them as they are.  ``names``: what it shall be
        called, in full form.  ``layer_id``: the topmost layer of the base that it has, by digest
        or diffID; None for all of them, with the container's own files on top.  ``timestamp``: its
        date, and the latest of a new file; the same settings and files then give the same image.

        The config's bytes are those of the base unless a setting, a layer or the date differs.
        Types and layers are checked when it is opened.  Raises UnsupportedError for a compression
        that layers cannot have, InvalidInputError for a date without a time zone,
        ImageNotFoundError if the image it began from is gone.
        """
        if compress not in (None, *_KINDS):
            raise UnsupportedError(
                f"layers cannot be compressed with {compress!r:.40} (known: {', '.join(_KINDS)})"
            )
        if timestamp is not None and timestamp.tzinfo is None:
            raise InvalidInputError(f"the date {timestamp.isoformat()} has no time zone")
        for name in names:
            require_text(name, f"the name {name[:100]!r}")
        data = self.draft.data
        if self._base is None and data.image_id is not None:
            raise ImageNotFoundError(
                f"the image {data.image_id[:12]} of container {data.container_name} is gone",
                hint="pull or load that image again",
            )
        recipe = Recipe(
            base=self._base,
            container=self.draft.home,
            settings=data,
            config=self._config_bytes(data),
            manifest_type=manifest_type,
            compression=cast("Kind | None", compress),
            top=layer_id,
            timestamp=timestamp,
        )
        return CopyRef(self._store, recipe, tuple(names))

    def _config_bytes(self, data: DraftData) -> bytes:
        """The config: the bytes of the base's where no setting differs."""
        if self.config is not None and data.config == self._unedited:
            return self.config
        return json.dumps(data.config, separators=(",", ":"), ensure_ascii=False).encode()
