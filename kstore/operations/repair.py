"""Fetch what is damaged again, by digest, from wherever it can be had.

Nothing is removed for it: the whole blob replaces the damaged one in one step, and until then the
damaged bytes stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from kstore.copier.blobs import SourceFeed
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    CancelledError,
    InvalidInputError,
    KstoreError,
    ManifestNotFoundError,
    StorageFullError,
)
from kstore.interfaces import BlobOpener, BlobSource, ImageSource, RetrySink
from kstore.mediatypes import INDEXES, MANIFESTS
from kstore.operations.containers import images_in
from kstore.reference import Named
from kstore.store import CheckReport, DamagedBlob, Problem, Store
from kstore.streams import Cancel
from kstore.transports import Transports, split_transport
from kstore.transports.base import BytesBlob
from kstore.transports.docker import DockerTransport
from kstore.transports.oci_directory import LayoutDirectory
from kstore.values import dataclass

__all__ = ["Failed", "Fetched", "RepairResult", "repair_store"]

#: Kinds of problems that are gone once every damaged blob is whole.
_OF_BLOBS = frozenset(
    {"missing-blob", "wrong-size", "wrong-digest", "unreadable-blob", "missing-row"}
)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A blob that is whole again; ``place`` is where it came from, None if its own file proved
    good."""

    digest: Digest
    size: int
    place: str | None


@dataclass(frozen=True, slots=True)
class Failed:
    """A blob that nobody could give; ``images`` cannot be used without it, ``reasons`` says, a
    sentence for each place, why not."""

    digest: Digest
    images: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What was repaired, and what was not: ``remaining`` are problems that no fetching solves."""

    fetched: tuple[Fetched, ...] = ()
    mended: tuple[Problem, ...] = ()
    failed: tuple[Failed, ...] = ()
    remaining: tuple[Problem, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether no damage is left."""
        return not self.failed and not self.remaining


@dataclass(frozen=True, slots=True)
class _Place:
    """Somewhere blobs may be, and what it is called."""

    name: str
    blobs: BlobOpener
    origins: tuple[str, ...] = ()


def repair_store(
    store: Store,
    transports: Transports,
    report: CheckReport,
    sources: Sequence[str] = (),
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> RepairResult:
    """Repair what ``report`` found.

    Damaged blobs come from ``sources`` (a store or an OCI layout, an archive, any
    ``transport:reference``), tried in this order, then from additional stores, then from the
    repositories they came from or their images are named after.  A blob that cannot be had does not
    stop the others.  Raises InvalidInputError for a source that is none, StorageFullError,
    CancelledError.
    """
    cancel = cancel or Cancel()
    mended = store.repairs.mend(report.problems)
    fetched: list[Fetched] = []
    failed: list[Failed] = []
    with ExitStack() as stack:
        given = [place for text in sources for place in _given(text, transports, stack, cancel)]
        given += [_Place(str(path), _OfLayout(path)) for path in store.additional_stores]
        tried: set[Digest] = set()
        while waiting := [
            blob for blob in store.repairs.damaged_blobs() if blob.digest not in tried
        ]:
            for damaged in waiting:
                tried.add(damaged.digest)
                places = [*given, *_registries(damaged, transports)]
                outcome = _repair(store, transports, damaged, places, progress, cancel)
                if isinstance(outcome, Fetched):
                    fetched.append(outcome)
                else:
                    failed.append(outcome)
            # A manifest that nobody could read before tells now what else its image needs.
            store.repairs.complete(blob.digest for blob in fetched)
    store.repairs.forget_aside(blob.digest for blob in fetched)
    remaining = tuple(
        problem
        for problem in report.problems
        if not problem.harmless and problem.kind not in _OF_BLOBS and problem not in mended
    )
    return RepairResult(tuple(fetched), tuple(mended), tuple(failed), remaining)


def _repair(
    store: Store,
    transports: Transports,
    damaged: DamagedBlob,
    places: Sequence[_Place],
    progress: ProgressSink,
    cancel: Cancel,
) -> Fetched | Failed:
    blob = damaged.blob
    reasons: list[str] = []
    store.repairs.set_aside(blob.digest)
    with transports.storage.reference().open_destination() as destination:
        if destination.reuse_blobs([_hint(blob)]) == [True]:
            return Fetched(blob.digest, blob.size, None)
        progress(Event("plan", digest=blob.digest, size=blob.size, blob="layer"))
        for place in places:
            try:
                with SourceFeed(place.blobs, blob, progress, cancel) as feed:
                    destination.write_blob(feed, _hint(blob, place.origins))
                destination.settle()
            except (CancelledError, StorageFullError):
                raise
            except KstoreError as error:
                reasons.append(f"{place.name}: {error}")
            else:
                progress(Event("finish", digest=blob.digest, size=blob.size, how="copied"))
                return Fetched(blob.digest, blob.size, place.name)
    return Failed(blob.digest, damaged.images, tuple(reasons))


def _hint(blob: Descriptor, origins: tuple[str, ...] = ()) -> BlobHint:
    return BlobHint(digest=blob.digest, size=blob.size, media_type=blob.media_type, origins=origins)


# ---- where blobs may be


class _OfRegistry(BlobOpener):
    """The blobs of one repository, at its mirrors or itself; manifests are asked for as what they
    are."""

    def __init__(self, docker: DockerTransport, repository: Named) -> None:
        self._docker = docker
        self._repository = repository

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        # By digest: mirrors that may not say what a tag means may give this.
        places = self._docker.places(replace(self._repository, digest=descriptor.digest))
        if descriptor.media_type in MANIFESTS | INDEXES:
            return BytesBlob(places.manifest(descriptor.digest).data)
        return places.open_blob(descriptor, offset, validator, on_retry)


class _OfLayout(BlobOpener):
    """The blobs of an OCI layout, which every store is; what its index says does not matter."""

    def __init__(self, path: Path) -> None:
        self._layout = LayoutDirectory(path)

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        return self._layout.open_blob(descriptor.digest, offset)


class _OfImage(BlobOpener):
    """The blobs and manifests of one image, wherever that is."""

    def __init__(self, source: ImageSource) -> None:
        self._source = source

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        if descriptor.media_type not in MANIFESTS | INDEXES:
            return self._source.open_blob(descriptor, offset, validator, on_retry)
        top = self._source.read_manifest()
        if top.digest == descriptor.digest:
            return BytesBlob(top.data)
        try:
            return BytesBlob(self._source.read_manifest(descriptor.digest).data)
        except ManifestNotFoundError as error:
            raise BlobNotFoundError(error.message) from error

    def refute(self, digest: Digest) -> str | None:
        return self._source.refute(digest)


def _given(text: str, transports: Transports, stack: ExitStack, cancel: Cancel) -> Iterator[_Place]:
    """The places a user's word for a source stands for."""
    if split_transport(text) is not None:
        source = stack.enter_context(transports.parse(text).open_source())
        yield _Place(text, _OfImage(source))
        return
    path = Path(text)
    if (path / "blobs").is_dir():
        yield _Place(text, _OfLayout(path))
        return
    if not path.exists():
        raise InvalidInputError(
            f"{text[:300]!r} is neither a file or directory nor TRANSPORT:REFERENCE",
            hint="docker://NAME is an image at a registry",
        )
    spool = transports.settings.spool_dir
    for image in stack.enter_context(images_in(path, spool_dir=spool, cancel=cancel)):
        source = stack.enter_context(image.reference.open_source())
        yield _Place(text, _OfImage(source))


def _registries(damaged: DamagedBlob, transports: Transports) -> Iterator[_Place]:
    for repository in damaged.repositories:
        blobs = _OfRegistry(transports.docker, Named.parse(repository))
        yield _Place(repository, blobs, (repository,))
