"""Write images of the store to an archive or a directory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from kstore import mediatypes as mt
from kstore.compression import Kind
from kstore.copier import CopyOptions, CopyResult
from kstore.copier.progress import ProgressSink, ignore
from kstore.digest import Digest
from kstore.errors import ConflictError, InvalidInputError, NotFoundError, UnsupportedError
from kstore.formats.oci_layout import Selector
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.operations.carry import carry
from kstore.operations.copy import layer_facts
from kstore.reference import Named
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import STORE_TRANSPORTS, Transports, split_transport
from kstore.transports.dir import DirReference
from kstore.transports.docker_archive import DockerArchiveTransport
from kstore.transports.layout_draft import layout_draft
from kstore.transports.oci import OciReference, OciTransport
from kstore.transports.oci_archive import OciArchiveTransport
from kstore.transports.storage import StorageReference
from kstore.values import dataclass

__all__ = ["SAVE_FORMATS", "SaveFormat", "SaveOptions", "SaveResult", "save_images"]

SaveFormat = Literal["docker-archive", "oci-archive", "oci-dir", "docker-dir"]
SAVE_FORMATS: tuple[SaveFormat, ...] = ("docker-archive", "oci-archive", "oci-dir", "docker-dir")

#: What means standard output.
_STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1")


@dataclass(frozen=True, slots=True)
class SaveOptions:
    """``compression``: of all layers, at ``compression_level`` (None: the usual one); None leaves
    each as it is.  ``parallel``: layers worked on at once.  ``remove_signatures``: save without
    them, as most formats have no room for them.  ``with_referrers``: also what is attached to the
    images, whose digests must not change then.  ``policy``: which images are trusted."""

    format: SaveFormat = "docker-archive"
    compression: Kind | None = None
    compression_level: int | None = None
    parallel: int = 6
    remove_signatures: bool = False
    with_referrers: bool = False
    policy: TrustPolicy = ACCEPT_ANYTHING


@dataclass(frozen=True, slots=True)
class SaveResult:
    """Where the images are now, and the digests of their manifests, each once."""

    place: str
    manifests: tuple[Digest, ...]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """An image to save: a text that finds it, what that finds, and all names it was given by."""

    text: str
    manifest: Digest
    names: tuple[Named, ...]


def save_images(
    store: Store,
    transports: Transports,
    images: Sequence[str],
    output: str,
    options: SaveOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> SaveResult:
    """Save ``images`` (names or IDs of the store) to the new file or directory ``output``.

    ``-`` is standard output, which only archives can go to.  Each image is there once, under every
    name that was given for it; by ID it has none.  A name that stands for an index is saved as an
    index, with all its images, in the OCI formats, and as the image that runs here in docker's.
    A failure leaves nothing of the output behind.  The same images in the same order make the same
    bytes, in whatever order the names of each are given.

    Raises ImageNotFoundError, AmbiguousNameError, InvalidInputError, ConflictError if there is such
    a file already, UnsupportedError for what the format has no room for, StorageFullError and
    StorageError.
    """
    options = options or SaveOptions()
    chosen = _choose(store, images)
    if options.format == "docker-dir" and len(chosen) > 1:
        raise InvalidInputError(
            f"format docker-dir holds one image, not {len(chosen)}",
            hint="--format oci-dir, or a directory for each",
        )
    if options.with_referrers and options.format.startswith("docker"):
        raise UnsupportedError(
            f"format {options.format} has no room for what is attached to images",
            hint="--format oci-archive or oci-dir",
        )
    to_pipe = output in _STANDARD_OUTPUT
    if to_pipe and options.format.endswith("-dir"):
        raise InvalidInputError(
            f"format {options.format} is a directory, which cannot go to standard output",
            hint="-o DIRECTORY says where",
        )
    place = "-" if to_pipe else output
    digests: dict[Digest, None] = {}
    with _DESTINATIONS[options.format](transports, place) as write_to:
        for image in chosen:
            source = _source(transports, image, options)
            first, *others = write_to(image.names)
            result = _copy(source, first, options, progress, cancel)
            digests[result.raw.digest] = None
            alone = replace(options, with_referrers=False)
            for other in others:  # nothing of it is written again
                _copy(source, other, alone, ignore, cancel)
    return SaveResult("standard output" if to_pipe else output, tuple(digests))


def _in_store(text: str) -> str:
    split = split_transport(text)
    if split is None:
        return text
    if split[0] not in STORE_TRANSPORTS:
        raise InvalidInputError(
            f"{text[:200]!r} is not an image of the store", hint=f"kstore copy {text} DESTINATION"
        )
    return split[1]


def _choose(store: Store, images: Sequence[str]) -> Sequence[_Chosen]:
    """Each image once, with all names it is asked for by."""
    chosen: dict[tuple[Digest, Digest | None], _Chosen] = {}
    for image in images:
        text = _in_store(image)
        found = store.find_image(text)
        record = store.name(found.name) if found.name else None
        key = found.manifest, record.target if record else None
        names = (found.name,) if found.name else ()
        known = chosen.get(key, _Chosen(text, found.manifest, ()))
        chosen[key] = replace(known, names=tuple(sorted({*known.names, *names})))
    if not chosen:
        raise InvalidInputError("no image was given that shall be saved")
    return list(chosen.values())


def _source(transports: Transports, image: _Chosen, options: SaveOptions) -> StorageReference:
    """What to read: for docker's formats the image itself, and not an index it is found by."""
    by_digest = options.format.startswith("docker")
    return transports.storage.parse_reference(str(image.manifest) if by_digest else image.text)


def _copy(
    source: StorageReference,
    destination: ImageReference,
    options: SaveOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> CopyResult:
    settings = CopyOptions(
        parallel=options.parallel,
        instances="all",
        manifest_type=mt.DOCKER_MANIFEST if options.format == "docker-dir" else None,
        compression=options.compression,
        compression_level=options.compression_level,
        force_compression=options.compression is not None,
        remove_signatures=options.remove_signatures,
    )
    return carry(
        source,
        destination,
        options.policy,
        settings,
        with_referrers=options.with_referrers,
        facts=layer_facts(source),
        progress=progress,
        cancel=cancel,
    )


#: Gives the references by which the next image is written under all its names.
_WriteTo = Callable[[Sequence[Named]], Sequence[ImageReference]]


@contextlib.contextmanager
def _docker_archive(transports: Transports, place: str) -> Iterator[_WriteTo]:
    home = transports.get("docker-archive")
    assert isinstance(home, DockerArchiveTransport)
    with home.open_writer(place) as writer:
        # Only tags are names there: an image asked for by digest has none, as in `docker save`.
        yield lambda names: [writer.reference([name for name in names if name.digest is None])]


@contextlib.contextmanager
def _oci_archive(transports: Transports, place: str) -> Iterator[_WriteTo]:
    home = transports.get("oci-archive")
    assert isinstance(home, OciArchiveTransport)
    with home.writer(place) as writer:
        yield lambda names: [writer.reference(ref) for ref in _refs(names)]


@contextlib.contextmanager
def _oci_directory(transports: Transports, place: str) -> Iterator[_WriteTo]:
    """A layout that takes shape beside its place, and appears there when it is complete."""
    home = transports.get("oci")
    assert isinstance(home, OciTransport)
    target = _new_directory(place, hint=f"kstore copy kstore:IMAGE oci:{place} adds to a layout")
    with layout_draft(target) as draft:
        yield lambda names: [
            OciReference(str(draft), Selector.parse(ref), home) for ref in _refs(names)
        ]


@contextlib.contextmanager
def _docker_directory(transports: Transports, place: str) -> Iterator[_WriteTo]:
    target = _new_directory(place, hint=f"kstore copy kstore:IMAGE dir:{place} replaces an image")
    yield lambda names: [DirReference(str(target))]


def _refs(names: Sequence[Named]) -> Sequence[str | None]:
    return [str(name) for name in names] or [None]


def _new_directory(place: str, *, hint: str) -> Path:
    """The path of a directory that is to be made; an empty one may be there."""
    target = Path(place).resolve()
    if not target.parent.is_dir():
        raise NotFoundError(f"cannot write {place}: there is no directory {target.parent}")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConflictError(
            f"{place} exists already, and an image cannot take its place", hint=hint
        )
    return target


_DESTINATIONS: Mapping[
    SaveFormat, Callable[[Transports, str], contextlib.AbstractContextManager[_WriteTo]]
] = {
    "docker-archive": _docker_archive,
    "oci-archive": _oci_archive,
    "oci-dir": _oci_directory,
    "docker-dir": _docker_directory,
}
