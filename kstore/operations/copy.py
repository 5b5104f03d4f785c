"""Copy an image from anywhere to anywhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kstore.copier import CopyOptions, CopyResult, Facts
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.errors import InvalidInputError, InvalidReferenceError, NotFoundError, RemoteError
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.operations.attached import Place
from kstore.operations.carry import carry
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.streams import Cancel
from kstore.transports import FACTORIES, STORE_TRANSPORTS, Transports, split_transport
from kstore.transports.storage import StorageReference

__all__ = ["copy", "layer_facts", "parse_end", "retrying"]

#: Seconds before the second attempt; doubled each time, up to the longest pause.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

_FILES = "oci:PATH, dir:PATH, oci-archive:PATH or docker-archive:PATH says what it is"

_ARCHIVE = re.compile(r"\.(tar|tgz)(\.\w+)?\Z", re.ASCII)

T = TypeVar("T")


def copy(
    source: ImageReference,
    destination: ImageReference,
    options: CopyOptions | None = None,
    *,
    policy: TrustPolicy = ACCEPT_ANYTHING,
    retries: int = 0,
    with_referrers: bool = False,
    attached: Place | None = None,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> CopyResult:
    """Copy ``source`` to ``destination``; see ``copier.copy_image`` for how and what it raises.

    ``policy``: which images are trusted; ``retries``: further attempts after a failure of the
    network; ``with_referrers``: also what is attached to the image, whose digest must not change
    then; ``attached``: the same, found in a place that is open already.  InvalidInputError if both
    are the same image and nothing about it is to change.
    """
    options = options or CopyOptions()
    if _is_same(source, destination) and not _changes(options):
        raise InvalidInputError(
            f"source and destination are the same image, {_shown(source)}",
            hint="kstore copy SOURCE DESTINATION",
        )
    facts = layer_facts(source, destination)

    def attempt() -> CopyResult:
        return carry(
            source,
            destination,
            policy,
            options,
            with_referrers=with_referrers,
            attached=attached,
            facts=facts,
            progress=progress,
            cancel=cancel,
        )

    try:
        return retrying(attempt, retries, progress=progress, cancel=cancel)
    except NotFoundError as error:
        if error.hint is None and _looks_swapped(source, destination):
            error.hint = "the source comes first: kstore copy SOURCE DESTINATION"
        raise


def parse_end(transports: Transports, text: str) -> ImageReference:
    """Parse ``transport:reference``.

    Raises InvalidReferenceError with the way to say it for what newcomers write instead.
    """
    if not text:
        raise InvalidReferenceError("the image name is empty")
    split = split_transport(text)
    if split is None:
        raise InvalidReferenceError(
            f"{text[:200]!r} does not say where the image is", hint=_right_form(text)
        )
    name, rest = split
    if name != "docker" and name in FACTORIES and rest.startswith("//"):
        raise InvalidReferenceError(
            f"{text[:200]!r} has // that only docker references begin with",
            hint=f"{name}:{rest[2:200]}",
        )
    return transports.parse(text)


def _right_form(text: str) -> str:
    name, colon, rest = text.partition(":")
    if colon and name.lower() == "docker":
        return f"docker://{rest.lstrip('/')[:200]}"
    from difflib import get_close_matches  # only mistakes pay for it

    if colon and (near := get_close_matches(name, FACTORIES, n=1)):
        return f"did you mean {near[0]}:{rest[:200]}?"
    if text == "-" or text.startswith(("/", ".", "~")) or _ARCHIVE.search(text):
        return _FILES
    return f"docker://{text[:200]} for a registry's, kstore:{text[:200]} for the store's"


def retrying(
    attempt: Callable[[], T],
    retries: int,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> T:
    """What ``attempt`` returns; failures of the network are followed by another one, up to
    ``retries`` times, with pauses that grow.  Other failures, and refusals, are final."""
    cancel = cancel or Cancel()
    pause = FIRST_PAUSE
    for left in reversed(range(retries + 1)):
        try:
            return attempt()
        except RemoteError as error:
            if not left or not (error.retryable or error.status is None):
                raise
            progress(Event("note", text=f"{error}; trying again in {pause:.0f} s"))
        cancel.wait(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("unreachable: the last attempt returns or raises")


def layer_facts(*ends: ImageReference) -> Facts | None:
    """What the store knows about layers, where it takes part in a copy."""
    for end in ends:
        if isinstance(end, StorageReference) and not end.home.store.read_only:
            return end.home.store.layer_facts
    return None


def _is_same(one: ImageReference, other: ImageReference) -> bool:
    if one.transport != other.transport or one.policy_identity != other.policy_identity:
        return False
    if one.transport == "docker" or one.transport in STORE_TRANSPORTS:
        return True
    # Of a path, the identity is without the image inside, which follows the first colon.
    (path, _, inside), (_, _, other_inside) = (
        end.within_transport.partition(":") for end in (one, other)
    )
    return path != "-" and inside == other_inside


def _changes(options: CopyOptions) -> bool:
    return bool(
        options.manifest_type
        or options.compression
        or options.remove_signatures
        or options.signers
        or options.instances == "platforms"
        or options.platform
    )


def _looks_swapped(source: ImageReference, destination: ImageReference) -> bool:
    """Whether the source is a path where nothing is, and the destination is no such path."""
    return _is_vacant(source) and not _is_vacant(destination)


def _is_vacant(end: ImageReference) -> bool:
    path = end.policy_identity
    return path.startswith("/") and not Path(path).exists()


def _shown(reference: ImageReference) -> str:
    return f"{reference.transport}:{reference.within_transport}"
