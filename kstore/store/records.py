"""What the store answers: snapshots, never live records."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kstore.descriptor import Descriptor
from kstore.digest import SHORT_ID_LENGTH, Digest
from kstore.manifest import RawManifest
from kstore.platforms import Platform
from kstore.reference import Named

__all__ = [
    "CheckReport",
    "Found",
    "ImageRecord",
    "ManifestRecord",
    "NameChange",
    "NameRecord",
    "PartialDownload",
    "Problem",
    "PruneReport",
    "Publication",
    "RemovalReport",
    "StoreFacts",
]


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
    when a blob of it is missing or damaged.
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

    @property
    def short_id(self) -> str:
        return self.id[:SHORT_ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a lookup: the image, the name that matched (None for an ID), the manifest."""

    image: ImageRecord
    name: Named | None
    manifest: Digest


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
    wherever they are.  ``via`` is the index ``raw`` was chosen from.
    """

    raw: RawManifest
    names: tuple[Named, ...] = ()
    members: tuple[RawManifest, ...] = ()
    via: RawManifest | None = None


@dataclass(frozen=True, slots=True)
class RemovalReport:
    """What a removal did: names gone, images deleted (IDs), files swept and bytes freed."""

    untagged: tuple[Named, ...] = ()
    deleted: tuple[str, ...] = ()
    blobs_removed: int = 0
    bytes_freed: int = 0

    def __add__(self, other: RemovalReport) -> RemovalReport:
        return RemovalReport(
            self.untagged + other.untagged,
            self.deleted + other.deleted,
            self.blobs_removed + other.blobs_removed,
            self.bytes_freed + other.bytes_freed,
        )


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What garbage collection did (or, dry, would do).

    ``already_running``: another process was collecting, so nothing was done here.
    """

    deleted: tuple[str, ...] = ()
    blobs_removed: int = 0
    partials_removed: int = 0
    bytes_freed: int = 0
    skipped_busy: int = 0
    already_running: bool = False


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """A blob that was begun and not finished: ``bytes`` held of ``size`` (None if unknown).

    ``origin`` is where it came from, as the download put it; ``age_seconds`` the time since it
    last grew.
    """

    digest: Digest
    bytes: int
    size: int | None
    origin: str | None
    age_seconds: float


ProblemKind = Literal[
    "missing-blob",
    "wrong-size",
    "wrong-digest",
    "unreadable-blob",
    "orphan-file",
    "missing-row",
    "wrong-diff-id",
    "bad-manifest",
    "damaged-name",
    "database",
    "index-json",
    "layout",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a check; ``garbage`` ones are harmless and go away with ``prune``."""

    kind: ProblemKind
    object: str
    detail: str
    images: tuple[str, ...] = ()
    garbage: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check looked at, and what it found."""

    problems: tuple[Problem, ...]
    blobs_checked: int
    bytes_hashed: int
    images_checked: int

    @property
    def damaged(self) -> bool:
        """Whether anything but garbage was found."""
        return any(not problem.garbage for problem in self.problems)


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Numbers about a store; sizes in bytes."""

    root: str
    schema_version: int
    sqlite_version: str
    images: int
    names: int
    blobs: int
    blob_bytes: int
    partial_downloads: int
    partial_bytes: int
    database_bytes: int
    free_bytes: int
