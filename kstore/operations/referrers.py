"""What is attached to images: found, and brought along when they are copied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from kstore.copier import CopyOptions, CopyResult, copy_image
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import ConflictError, ImageNotFoundError, UnsupportedError
from kstore.image import Image, UnparsedImage, admit
from kstore.interfaces import ImageReference
from kstore.manifest import Manifest, parse_index
from kstore.mediatypes import IMAGE_CONFIGS
from kstore.operations.attached import Attached, Place
from kstore.operations.copy import parse_end
from kstore.operations.referrer_places import open_place
from kstore.signing.policy import AcceptAnything
from kstore.streams import Cancel
from kstore.transports import Transports, split_transport

__all__ = [
    "MAX_DEPTH",
    "MAX_REFERRERS",
    "copy_referrers",
    "describe",
    "list_referrers",
    "missing_referrers",
]

#: Referrers of referrers that are followed, and how many there may be of one image.
MAX_DEPTH = 8
MAX_REFERRERS = 1000


def list_referrers(
    transports: Transports,
    text: str,
    *,
    artifact_type: str | None = None,
    recursive: bool = False,
) -> tuple[Attached, ...]:
    """What is attached to ``text``: an image of the store, or ``transport:reference``.

    ``artifact_type``: only those of this type; ``recursive``: also what is attached to them.
    Raises UnsupportedError beyond 1000, for a transport whose images have no attachments, and what
    the transport raises.
    """
    with open_place(_reference(transports, text)) as place:
        try:
            subjects = place.subjects()
        except ImageNotFoundError as error:
            if split_transport(text) is None:
                error.hint = f"kstore referrers docker://{text[:200]}"
            raise
        found = _walk(place, subjects, depth=MAX_DEPTH if recursive else 1)
        return tuple(each for each in found if artifact_type in (None, each.kind))


def _reference(transports: Transports, text: str) -> ImageReference:
    if split_transport(text) is None:
        return transports.storage.parse_reference(text)
    return parse_end(transports, text)


def describe(attached: Attached) -> dict[str, Any]:
    """What is known about it, for programs to read."""
    descriptor = attached.descriptor
    return {
        "digest": str(descriptor.digest),
        "mediaType": descriptor.media_type,
        "artifactType": attached.kind,
        "size": descriptor.size,
        "annotations": dict(descriptor.annotations),
        "subject": str(attached.subject),
        "tag": attached.tag,
    }


def copy_referrers(
    origin: Place,
    target: Place,
    result: CopyResult,
    options: CopyOptions,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> int:
    """Bring what is attached to an image that was copied, and to that in turn; return how many
    there were that the target lacked.

    ``result`` and ``options`` are those of the copy.  Raises what :func:`missing_referrers` and
    ``copier.copy_image`` raise; what was brought stays.
    """
    own = CopyOptions(
        parallel=options.parallel, instances="all", artifacts_only=True, preserve_digests=True
    )
    count = 0
    for attached in missing_referrers(origin, target, result, options, progress=progress):
        copy_image(
            origin.source(attached),
            target.target(attached),
            AcceptAnything(),
            own,
            progress=progress,
            cancel=cancel,
        )
        count += 1
    if count:
        nouns = "thing that is" if count == 1 else "things that are"
        progress(Event("note", text=f"with {count} {nouns} attached to it"))
    return count


def missing_referrers(
    origin: Place,
    target: Place,
    result: CopyResult,
    options: CopyOptions,
    *,
    progress: ProgressSink = ignore,
) -> Iterator[Attached]:
    """What is attached to an image at ``origin``, and to that in turn, and not yet at ``target``.

    Only artifacts are brought: an image that refers to another one is told of and left, because
    nobody asked a trust policy about it.  An attachment that others have added to is not replaced
    by one that lacks theirs.  Raises ConflictError for one where both lack something, and what
    :func:`list_referrers` raises.
    """
    subjects = _copied(result, options, with_via=target.remembers_index)
    for attached in _walk(origin, subjects, depth=MAX_DEPTH):
        if attached.is_signature and origin.signatures_travel:
            continue  # copied with the image, as its signatures
        if attached.descriptor.artifact_type in IMAGE_CONFIGS and attached.tag is None:
            text = f"{attached.descriptor.digest} refers to the image, but is an image itself: left"
            progress(Event("note", text=text))
            continue
        if _is_news(attached, origin, target):
            yield attached


def _is_news(attached: Attached, origin: Place, target: Place) -> bool:
    """Whether a referrer is not there, or an attachment under a tag has more than what is.

    Others may have attached theirs there: ConflictError where these would be lost.
    """
    if attached.tag is None:
        return not target.holds(attached)
    there = target.tagged(attached.tag)
    if there is None:
        return True
    if there == attached.descriptor.digest:
        return False
    held = replace(attached, descriptor=replace(attached.descriptor, digest=there))
    here, kept = _layers(origin.source(attached)), _layers(target.source(held))
    if kept - here and here - kept:
        raise ConflictError(
            f"{attached.tag} holds something at the destination that would be lost, and lacks"
            " something that is at the source",
            hint="--sigstore-attachments adds signatures to those that are there"
            if attached.is_signature
            else None,
        )
    return bool(here - kept)


def _layers(reference: ImageReference) -> set[Descriptor]:
    with reference.open_source() as source:
        document = Image(admit(UnparsedImage(source), AcceptAnything())).document
    return set(document.layers) if isinstance(document, Manifest) else set()


def _copied(result: CopyResult, options: CopyOptions, *, with_via: bool) -> Sequence[Digest]:
    """The manifests at the destination to which something may be attached."""
    found = [result.raw.digest]
    if result.via is not None and with_via:
        found.append(result.via.digest)
    if result.raw.is_index and options.instances == "all":
        found += [member.digest for member in parse_index(result.raw).manifests]
    return found


def _walk(place: Place, subjects: Sequence[Digest], *, depth: int) -> Iterator[Attached]:
    """Everything attached to ``subjects``, each once, before what is attached to it."""
    seen: set[Digest] = set()
    level = list(dict.fromkeys(subjects))
    for _ in range(depth):
        following: list[Digest] = []
        for subject in level:
            for attached in place.attached(subject):
                digest = attached.descriptor.digest
                if digest in seen:
                    continue
                seen.add(digest)
                if len(seen) > MAX_REFERRERS:
                    raise UnsupportedError(f"more than {MAX_REFERRERS} things are attached")
                following.append(digest)
                yield attached
        level = following
    if level and depth == MAX_DEPTH and any(_first(place, digest) for digest in level):
        raise UnsupportedError(f"referrers refer to each other more than {MAX_DEPTH} deep")


def _first(place: Place, subject: Digest) -> Attached | None:
    return next(iter(place.attached(subject)), None)
