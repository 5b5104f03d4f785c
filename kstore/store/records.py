"""What the store answers: snapshots, never live records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING

from kstore.descriptor import Descriptor
from kstore.digest import SHORT_ID_LENGTH, Digest
from kstore.platforms import Platform
from kstore.reference import Named
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.manifest import RawManifest

__all__ = [
    "ContainerRecord",
    "Found",
    "ImageRecord",
    "ManifestRecord",
    "NameChange",
    "NameRecord",
    "Publication",
]


#: The writable layer in the directory of a container.
UPPER = "upper"


@dataclass(frozen=True, slots=True)
class NameRecord:
    """A name and what it means.

    ``target`` is the manifest or index the name stands for; ``manifest`` the image manifest it
    leads to on this machine (equal to ``target`` unless that is an index; None for an index
    without a usable image); ``via`` the index ``target`` was chosen from when it was pulled.
    """

    name: Named
    target: Digest
    manifest: Digest | None
    via: Digest | None
    updated_at: dt.datetime


@dataclass(frozen=True, slots=True)
class ManifestRecord:
    """A stored manifest or index; ``image_id`` is None for indexes and artifacts."""

    descriptor: Descriptor
    image_id: str | None
    is_index: bool
    complete: bool


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image: a config, the manifests that share it, and its names.

    ``id`` is the hex of the config digest; ``size`` the bytes its blobs occupy in the store, each
    counted once; ``created`` the config's date, None where it has none; ``complete`` is False
    when a blob of it is missing or damaged.  ``location`` is the additional store it is in, None
    for an image of the own one.
    """

    id: str
    config: Descriptor
    manifests: tuple[Digest, ...]
    names: tuple[NameRecord, ...]
    created: dt.datetime | None
    added_at: dt.datetime
    platform: Platform
    labels: Mapping[str, str] = field(hash=False)
    size: int
    complete: bool
    location: Path | None = None

    @property
    def short_id(self) -> str:
        """The first 12 digits of the ID."""
        return self.id[:SHORT_ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a lookup: the image, the name that matched (None for an ID), the manifest."""

    image: ImageRecord
    name: Named | None
    manifest: Digest


@dataclass(frozen=True, slots=True)
class ContainerRecord:
    """A working container: an image (None for one that began from scratch), which may be gone by
    now, and a directory of its own with the writable layer.

    ``id`` is 64 hex digits; ``manifest`` the one of the image's that it was made from.
    """

    id: str
    name: str
    image_id: str | None
    manifest: Digest | None
    created_at: dt.datetime
    directory: Path

    @property
    def short_id(self) -> str:
        """The first 12 digits of the ID."""
        return self.id[:SHORT_ID_LENGTH]

    @property
    def upper(self) -> Path:
        """The writable layer: a directory tree in which ``.wh.NAME`` means a removal."""
        return self.directory / UPPER


@dataclass(frozen=True, slots=True)
class NameChange:
    """One entry of the name log: at ``at``, ``command`` moved ``name`` from ``old`` to ``new``.

    ``old`` is None when the name was new, ``new`` None when it was removed.
    """

    name: Named
    old: Digest | None
    new: Digest | None
    at: dt.datetime
    command: str


@dataclass(frozen=True, slots=True)
class Publication:
    """What to make visible in one transaction.

    ``raw`` and ``members`` are stored as blobs if they are not there yet; everything they need must
    be in the store and held by the lease (members of an index may be absent).  ``names`` move from
    wherever they are.  ``via`` is the index ``raw`` was chosen from.  ``signatures`` of these
    manifests are added to those that the store has.
    """

    raw: RawManifest
    names: tuple[Named, ...] = ()
    members: tuple[RawManifest, ...] = ()
    via: RawManifest | None = None
    signatures: Mapping[Digest, Sequence[bytes]] = field(default_factory=dict)
