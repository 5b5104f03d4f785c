"""Bring the images of an archive, a layout or a directory into the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from kstore.copier import CopyOptions, CopyResult, copy_image
from kstore.copier.progress import ProgressSink, ignore
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    ConflictError,
    ImageNotFoundError,
    KstoreError,
    ManifestNotFoundError,
)
from kstore.image import TrustPolicy, UnparsedImage
from kstore.interfaces import ImageReference
from kstore.manifest import RawManifest, parse_image
from kstore.operations.attached import Place
from kstore.operations.containers import Offered, images_in
from kstore.operations.copy import layer_facts
from kstore.operations.several import OF_ONE_IMAGE, image_named
from kstore.reference import Named
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.store import NameRecord, Store
from kstore.streams import Cancel
from kstore.transports import Transports
from kstore.values import dataclass

__all__ = ["LoadOptions", "Loaded", "MovedName", "NotLoaded", "load_images"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """``clobber``: names that mean other images may move; ``parallel``: blobs moved at once;
    ``with_referrers``: also what is attached to the images; ``policy``: which images are
    trusted."""

    clobber: bool = True
    parallel: int = 6
    with_referrers: bool = False
    policy: TrustPolicy = ACCEPT_ANYTHING


@dataclass(frozen=True, slots=True)
class MovedName:
    """A name that meant the image ``previous`` (its ID) before; ``nameless``: that one has no name
    left."""

    name: Named
    previous: str
    nameless: bool


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that is in the store now, under ``names``; ``moved`` are those of them that meant
    another one.  ``image_id`` is None for an index of which no image runs anywhere."""

    image_id: str | None
    names: tuple[Named, ...]
    manifest: Digest
    moved: tuple[MovedName, ...]


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """One of several images that could not be loaded, and why; ``place`` is its reference."""

    place: str
    names: tuple[Named, ...]
    error: KstoreError


def load_images(
    store: Store,
    transports: Transports,
    source: Path | BinaryIO,
    options: LoadOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> Iterator[Loaded | NotLoaded]:
    """Load every image of a file, a directory or a stream, of any format; each as it is done.

    An image appears with all its names at once.  One that is damaged does not stop the others; if
    there is only one, its error is raised.  Manifests keep their bytes wherever the format has
    them.  An index of which all images are there is loaded whole.  What is attached to images in an
    OCI layout is none itself, and comes along with ``options.with_referrers``.

    Raises what ``containers.images_in`` raises, ImageNotFoundError if there is no image,
    ConflictError without ``options.clobber``, UnsupportedError, and what the store raises.
    """
    options = options or LoadOptions()
    spool = transports.settings.spool_dir
    with images_in(source, spool_dir=spool, cancel=cancel) as found, ExitStack() as stack:
        offered = [image for image in found if not image.attached]
        if not offered:
            raise ImageNotFoundError(f"{_place(source)} holds no image")
        # All of them are in one place: what is attached to which is found out once.
        place = stack.enter_context(_open_place(offered[0])) if options.with_referrers else None
        if not options.clobber:
            _refuse_moves(store, offered)
        for image in offered:
            try:
                yield _load(store, transports, image, place, options, progress, cancel)
            except OF_ONE_IMAGE as error:
                if len(offered) == 1:
                    raise
                yield NotLoaded(_shown(image.reference), image.names, error)


def _open_place(image: Offered) -> AbstractContextManager[Place]:
    """What is attached to images there; UnsupportedError for a format in which nothing can be."""
    from kstore.operations.referrer_places import open_place

    return open_place(image.reference)


def _load(
    store: Store,
    transports: Transports,
    image: Offered,
    place: Place | None,
    options: LoadOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> Loaded:
    before = {name: image_named(store, name) for name in image.names}
    digest = _copied(transports, image, place, options, progress, cancel).raw.digest
    if image.names:
        image_id = image_named(store, image.names[0])
    else:
        record = store.manifest(digest)
        image_id = record.image_id if record else None
    moved = tuple(
        MovedName(name, previous, nameless=not store.image(previous).names)
        for name, previous in before.items()
        if previous is not None and previous != image_id
    )
    return Loaded(image_id, image.names, digest, moved)


def _copied(
    transports: Transports,
    image: Offered,
    place: Place | None,
    options: LoadOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> CopyResult:
    destination = transports.storage.reference(*image.names)
    # Nothing could ever lead to an index without a name.
    how = CopyOptions(
        parallel=options.parallel,
        images_only=True,
        instances="all" if image.names else "system",
        preserve_digests=place is not None,
    )

    def attempt(how: CopyOptions) -> CopyResult:
        return copy_image(
            image.reference,
            destination,
            options.policy,
            how,
            facts=layer_facts(destination),
            progress=progress,
            cancel=cancel,
        )

    try:
        result = attempt(how)
    except (ManifestNotFoundError, BlobNotFoundError) as missing:
        if how.instances == "system":
            raise
        # A sparse index: archives often hold but one of the platforms it lists.
        how = replace(how, instances="system")
        try:
            result = attempt(how)
        except (ManifestNotFoundError, BlobNotFoundError):
            raise missing from None
    if place is not None:
        _bring_attached(place, destination, result, how, progress, cancel)
    return result


def _bring_attached(
    place: Place,
    destination: ImageReference,
    result: CopyResult,
    how: CopyOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> None:
    """After the image: what is missing here says nothing of that."""
    from kstore.operations.referrer_places import open_place
    from kstore.operations.referrers import copy_referrers

    with open_place(destination, new=True) as target:
        copy_referrers(place, target, result, how, progress=progress, cancel=cancel)


def _refuse_moves(store: Store, offered: Sequence[Offered]) -> None:
    """Raise ConflictError if loading would take a name from an image."""
    claimed: dict[Named, Digest] = {}
    for image in offered:
        if not image.names:
            continue
        with image.reference.open_source() as source:
            raw = UnparsedImage(source).raw
        for name in image.names:
            record = store.name(name)
            taken = record is not None and not _means(store, record, raw)
            if taken or claimed.setdefault(name, raw.digest) != raw.digest:
                raise ConflictError(
                    f"{name} already means another image, and nothing was loaded",
                    hint=f"kstore untag {name.familiar}, or load without --no-clobber",
                )


def _means(store: Store, record: NameRecord, raw: RawManifest) -> bool:
    """Whether a name already stands for this image."""
    if raw.digest in (record.target, record.manifest, record.via):
        return True
    return (
        not raw.is_index and image_named(store, record.name) == parse_image(raw).config.digest.hex
    )


def _place(source: Path | BinaryIO) -> str:
    return str(source) if isinstance(source, Path) else "standard input"


def _shown(reference: ImageReference) -> str:
    return f"{reference.transport}:{reference.within_transport}"
