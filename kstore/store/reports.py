"""What removals, checks and counts of the store report: values of the rarer commands."""

from __future__ import annotations

from typing import Literal

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.reference import Named
from kstore.values import dataclass

__all__ = [
    "CheckReport",
    "DamagedBlob",
    "ImageUsage",
    "KindUsage",
    "PartialDownload",
    "Problem",
    "ProblemKind",
    "PruneReport",
    "RebuildReport",
    "RemovalReport",
    "StoreFacts",
    "UsageReport",
]


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
    """What garbage collection did (or, dry, would do): images deleted (IDs), names taken away,
    files and bytes.

    ``log_entries_removed``: old changes of names that were forgotten.  ``already_running``:
    another process was collecting, so nothing was done here.
    """

    deleted: tuple[str, ...] = ()
    untagged: tuple[Named, ...] = ()
    blobs_removed: int = 0
    partials_removed: int = 0
    bytes_freed: int = 0
    skipped_busy: int = 0
    log_entries_removed: int = 0
    already_running: bool = False


@dataclass(frozen=True, slots=True)
class PartialDownload:
    """A blob that was begun and not finished: ``bytes`` held of ``size`` (None if unknown).

    ``origin`` is where it came from, as the download put it; ``age_seconds`` the time since it
    last grew.  Of an upload to the server, whose digest is told at its end, ``digest`` is its ID.
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
    "wrong-edges",
    "damaged-name",
    "database",
    "index-json",
    "layout",
    "provenance",
    "odd-file",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a check; ``garbage`` goes away with ``prune``."""

    kind: ProblemKind
    object: str
    detail: str
    images: tuple[str, ...] = ()
    garbage: bool = False

    @property
    def harmless(self) -> bool:
        """Whether the store works as well with it: garbage, and files of somebody else."""
        return self.garbage or self.kind == "odd-file"


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check looked at, and what it found; ``blobs_left`` were to be read, too, but the time
    was over."""

    problems: tuple[Problem, ...]
    blobs_checked: int
    bytes_hashed: int
    images_checked: int
    blobs_left: int = 0

    @property
    def damaged(self) -> bool:
        """Whether anything was found that does harm."""
        return any(not problem.harmless for problem in self.problems)


@dataclass(frozen=True, slots=True)
class DamagedBlob:
    """A blob that something needs and that cannot be used.

    ``images``: the IDs of those it is missing in; ``repositories`` (``registry/path``) may have it,
    likeliest first.
    """

    blob: Descriptor
    images: tuple[str, ...]
    repositories: tuple[str, ...]

    @property
    def digest(self) -> Digest:
        """The name of the blob."""
        return self.blob.digest


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuilt database holds.

    ``sources`` told the names.  ``lost_names`` are those whose manifest is gone or damaged;
    ``not_understood`` says, a sentence each, which manifests are there but tell nothing.
    """

    images: int
    names: int
    blobs: int
    unusable_blobs: int
    sources: tuple[str, ...] = ()
    lost_names: tuple[Named, ...] = ()
    not_understood: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """Numbers about a store; sizes in bytes."""

    root: str
    schema_version: int
    sqlite_version: str
    images: int
    names: int
    containers: int
    blobs: int
    blob_bytes: int
    partial_downloads: int
    partial_bytes: int
    database_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class ImageUsage:
    """Bytes of an image's blobs: those only it has, and those others have, too."""

    image_id: str
    names: tuple[Named, ...]
    unique: int
    shared: int

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return self.unique + self.shared


@dataclass(frozen=True, slots=True)
class KindUsage:
    """Files of one kind, and the bytes they occupy on the disk.

    ``images``: blobs that names, containers or running operations need; ``unreferenced``: those
    that a prune removes; ``partial`` downloads; ``containers``; the ``database`` with its backups;
    ``quarantine``: damaged blobs put aside; ``other``: directories, the reserve, small files.
    """

    kind: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What takes the space of a store; ``kinds`` add up to all its files."""

    images: tuple[ImageUsage, ...]
    kinds: tuple[KindUsage, ...]
    free_bytes: int

    @property
    def total(self) -> int:
        """Bytes on the disk."""
        return sum(kind.bytes for kind in self.kinds)
