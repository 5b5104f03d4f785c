"""Bring an image from a registry into the store."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kstore.copier import CopyOptions, copy_image
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.digest import Digest
from kstore.errors import ImageNotFoundError, InvalidInputError, UnsupportedError
from kstore.platforms import Platform
from kstore.reference import Named
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import Transports, split_transport

__all__ = ["PullOptions", "PullResult", "Pulled", "pull_image"]


@dataclass(frozen=True, slots=True)
class PullOptions:
    """``platform``: the wanted member of an index (None: this machine's); ``all_tags``: every tag
    of the repository; ``parallel``: blobs moved at once."""

    platform: Platform | None = None
    all_tags: bool = False
    parallel: int = 6


@dataclass(frozen=True, slots=True)
class Pulled:
    """One image that was pulled.

    ``previous`` is the ID of the image that had the name before, if it has no name left now.
    """

    image_id: str
    name: Named
    manifest: Digest
    previous: str | None


@dataclass(frozen=True, slots=True)
class PullResult:
    """The images that were pulled, in the registry's order of tags."""

    pulled: tuple[Pulled, ...]


def pull_image(
    store: Store,
    transports: Transports,
    text: str,
    options: PullOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> PullResult:
    """Pull ``text``: ``[docker://]name[:tag][@digest]``, a bare name meaning docker.io.

    The image is stored under the name it was asked for; by digest, under ``name@digest``, and no
    tag moves.  Raises InvalidReferenceError, UnsupportedError for artifacts, what the registry
    answers, PlatformNotFoundError, IntegrityError and StorageError; names then point where they
    did before.
    """
    options = options or PullOptions()
    named = _registry_name(text)
    if options.all_tags:
        if not named.is_bare:
            raise InvalidInputError(f"--all-tags takes a name without tag and digest, not {text!r}")
        tags = list(transports.docker.client(named.domain).tags(named.path))
        if not tags:
            raise ImageNotFoundError(f"repository {named} has no tags")
        wanted = [named.with_tag(tag) for tag in tags]
    else:
        wanted = [named.with_default_tag()]
    pulled = []
    for name in wanted:
        if len(wanted) > 1:
            progress(Event("note", text=f"Pulling {name}"))
        pulled.append(_pull_one(store, transports, name, options, progress, cancel))
    return PullResult(tuple(pulled))


def _registry_name(text: str) -> Named:
    split = split_transport(text)
    if split is None:
        return Named.parse(text)
    transport, rest = split
    if transport != "docker":
        raise UnsupportedError(f"cannot pull from {transport}: yet; only docker:// is supported")
    return Named.parse(rest[2:])


def _pull_one(
    store: Store,
    transports: Transports,
    name: Named,
    options: PullOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> Pulled:
    local = replace(name, tag=None) if name.digest else name
    before = _image_named(store, local)
    destination = transports.storage.reference(local)
    result = copy_image(
        transports.docker.reference(name),
        destination,
        AcceptAnything(),
        CopyOptions(platform=options.platform, parallel=options.parallel, images_only=True),
        progress=progress,
        cancel=cancel,
    )
    image_id = _image_named(store, local)
    assert image_id is not None, "only images are copied, and their name was just set"
    moved = before if before != image_id else None
    return Pulled(image_id, local, result.raw.digest, _if_nameless(store, moved))


def _image_named(store: Store, name: Named) -> str | None:
    record = store.name(name)
    manifest = store.manifest(record.manifest) if record and record.manifest else None
    return manifest.image_id if manifest else None


def _if_nameless(store: Store, image_id: str | None) -> str | None:
    return image_id if image_id is not None and not store.image(image_id).names else None
