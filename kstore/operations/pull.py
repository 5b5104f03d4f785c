"""Bring an image from a registry into the store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kstore.copier import CopyOptions
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.digest import Digest
from kstore.errors import (
    AuthError,
    CancelledError,
    ImageNotFoundError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    RemoteError,
    UnsupportedError,
)
from kstore.image import TrustPolicy
from kstore.manifest.attached import is_attachment_tag
from kstore.operations.carry import carry
from kstore.operations.several import OF_ONE_IMAGE, image_named
from kstore.platforms import Platform, host_platform
from kstore.reference import Named, has_domain
from kstore.registry.shortnames import Resolved
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.store import Store
from kstore.streams import Cancel
from kstore.transports import STORE_TRANSPORTS, Transports, split_transport
from kstore.values import dataclass

__all__ = ["NotPulled", "PullOptions", "PullResult", "Pulled", "pull_image"]


@dataclass(frozen=True, slots=True)
class PullOptions:
    """``platform``: the wanted member of an index (None: this machine's); ``all_tags``: every tag
    of the repository; ``parallel``: blobs moved at once; ``with_referrers``: also what is attached
    to the image (signatures, attestations, ...), and to that in turn; ``if_missing``: an image that
    the store has under the name, undamaged (and for the ``platform``, if that is given), stays as
    it is, and no registry is asked for it; ``policy``: which images are trusted when they are
    pulled."""

    platform: Platform | None = None
    all_tags: bool = False
    parallel: int = 6
    with_referrers: bool = False
    if_missing: bool = False
    policy: TrustPolicy = ACCEPT_ANYTHING


@dataclass(frozen=True, slots=True)
class Pulled:
    """One image that was pulled, or ``present`` already where only a missing one was wanted.

    ``previous`` is the ID of the image that had the name before, if it has no name left now.
    ``other_platform`` is the image's platform where that is not the wanted one: an image that is
    not a member of an index is pulled whatever it is for.
    """

    image_id: str
    name: Named
    manifest: Digest
    previous: str | None
    other_platform: Platform | None = None
    present: bool = False


@dataclass(frozen=True, slots=True)
class NotPulled:
    """One of many tags that could not be pulled, and why."""

    name: Named
    error: KstoreError


@dataclass(frozen=True, slots=True)
class PullResult:
    """The images that were pulled, in the registry's order of tags; ``failed`` is empty unless
    all tags were asked for."""

    pulled: tuple[Pulled, ...]
    failed: tuple[NotPulled, ...] = ()


def pull_image(
    store: Store,
    transports: Transports,
    text: str,
    options: PullOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> PullResult:
    """Pull ``text``: ``[docker://]name[:tag][@digest]``.

    A short name means what the registry configuration says, by default docker.io; of several
    registries it may mean, the first that has it.

    The image is stored under the name it was asked for; by digest, under ``name@digest``, and no
    tag moves.  Raises InvalidReferenceError, UnsupportedError for artifacts, what the registry
    answers, PolicyRejectedError, PlatformNotFoundError, IntegrityError and StorageError; names then
    point where they did before.  With ``all_tags``, a tag that cannot be pulled does not stop the
    others; those of attachments are no images, and are left out.
    """
    options = options or PullOptions()
    if options.if_missing and options.with_referrers:
        raise InvalidInputError(
            "whether an image's referrers are missing is not known without the registry",
            hint="--with-referrers without --if-missing",
        )

    def pull(named: Named) -> PullResult:
        if options.all_tags:
            return _pull_all_tags(store, transports, named, options, progress, cancel)
        name = named.with_default_tag()
        return PullResult((_pull_one(store, transports, name, options, progress, cancel),))

    if options.if_missing and not options.all_tags:
        for named in _meanings(transports, text):
            if (found := _present(store, named.with_default_tag(), options)) is not None:
                return PullResult((found,))
    meant = _meant(transports, text)
    if options.all_tags and not meant.candidates[0].is_bare:
        raise InvalidInputError(f"--all-tags takes a name without tag and digest, not {text!r}")
    result = _first_that_works(meant.candidates, pull, progress)
    if meant.chosen:
        transports.docker.short_names.remember(meant.short, meant.candidates[0])
    return result


def _first_that_works(
    candidates: tuple[Named, ...], pull: Callable[[Named], PullResult], progress: ProgressSink
) -> PullResult:
    """What ``pull`` makes of the first candidate it can pull; of several failures, all are told."""
    said = []
    for named in candidates[:-1]:
        progress(Event("note", text=f"Trying {named}"))
        try:
            return pull(named)
        except (NotFoundError, AuthError, RemoteError) as error:
            said.append(f"{named.domain}: {error.message}")
    try:
        return pull(candidates[-1])
    except (NotFoundError, AuthError, RemoteError) as error:
        if said:
            error.message = f"{error.message} (before that, {'; '.join(said)})"
            error.args = (error.message,)
        raise


def _meant(transports: Transports, text: str) -> Resolved:
    if split_transport(text) is None:
        resolved = transports.docker.short_names.resolve(text)
        if resolved is not None:
            return resolved
    return Resolved(text, (_registry_name(transports, text),), "a full name")


def _meanings(transports: Transports, text: str) -> tuple[Named, ...]:
    """All names that ``text`` may mean; nobody is asked to choose."""
    if split_transport(text) is None and not has_domain(text):
        return transports.docker.short_names.meanings(text) or (Named.parse(text),)
    return (_registry_name(transports, text),)


def _registry_name(transports: Transports, text: str) -> Named:
    split = split_transport(text)
    if split is None:
        return Named.parse(text)
    if split[0] in STORE_TRANSPORTS:
        raise InvalidInputError(f"{text[:200]!r} is in the store, so there is nothing to pull")
    transport = transports.parse(text).transport  # raises for one that is unknown
    if transport != "docker":
        raise UnsupportedError(
            f"an image is pulled from a registry, not from {transport}:",
            hint=f"kstore copy {text} kstore:NAME",
        )
    return Named.parse(split[1].removeprefix("//"))


def _pull_all_tags(
    store: Store,
    transports: Transports,
    repository: Named,
    options: PullOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> PullResult:
    listed = transports.docker.client(repository.domain).tags(repository.path)
    tags = [tag for tag in listed if not is_attachment_tag(tag)]
    if not tags:
        raise ImageNotFoundError(f"repository {repository} has no tags")
    pulled, failed = [], []
    for name in map(repository.with_tag, tags):
        progress(Event("note", text=f"Pulling {name}"))
        try:
            pulled.append(_pull_one(store, transports, name, options, progress, cancel))
        except CancelledError:
            raise
        except KstoreError as error:
            failed.append(NotPulled(name, error))
            if not isinstance(error, OF_ONE_IMAGE):
                break
    return PullResult(tuple(pulled), tuple(failed))


def _pull_one(
    store: Store,
    transports: Transports,
    name: Named,
    options: PullOptions,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> Pulled:
    if options.if_missing and (found := _present(store, name, options)) is not None:
        return found
    local = _local(name)
    before = image_named(store, local)
    source, destination = transports.docker.reference(name), transports.storage.reference(local)
    how = CopyOptions(
        platform=options.platform,
        parallel=options.parallel,
        images_only=True,
    )
    try:
        result = carry(
            source,
            destination,
            options.policy,
            how,
            with_referrers=options.with_referrers,
            progress=progress,
            cancel=cancel,
        )
    except RemoteError as error:
        if before is not None:
            stored = f"with --if-missing, as {local} is in the store"
            error.hint = f"{error.hint}, or {stored}" if error.hint else f"pull it {stored}"
        raise
    image_id = image_named(store, local)
    assert image_id is not None, "only images are copied, and their name was just set"
    moved = before if before != image_id else None
    return Pulled(
        image_id,
        local,
        result.raw.digest,
        _if_nameless(store, moved),
        _if_other(store.image(image_id).platform, options.platform or host_platform()),
    )


def _local(name: Named) -> Named:
    """What the store calls an image pulled as ``name``."""
    return replace(name, tag=None) if name.digest else name


def _present(store: Store, name: Named, options: PullOptions) -> Pulled | None:
    """The image that the store has as ``name``, None if there is none that will do."""
    local = _local(name)
    record, image_id = store.name(local), image_named(store, local)
    if record is None or record.manifest is None or image_id is None:
        return None
    image = store.image(image_id)
    other = _if_other(image.platform, options.platform or host_platform())
    if not image.complete or (other is not None and options.platform is not None):
        return None
    return Pulled(image_id, local, record.manifest, None, other, present=True)


def _if_other(has: Platform, want: Platform) -> Platform | None:
    return None if has.suits(want) else has


def _if_nameless(store: Store, image_id: str | None) -> str | None:
    return image_id if image_id is not None and not store.image(image_id).names else None
