"""Bring images into the store, from wherever they are."""

from __future__ import annotations

from pathlib import Path

from kstore.copier import CopyOptions
from kstore.copier.progress import ProgressSink, ignore
from kstore.errors import InvalidInputError, InvalidReferenceError, KstoreError
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.operations.copy import copy
from kstore.operations.load import LoadOptions, NotLoaded, load_images
from kstore.operations.pull import PullOptions, pull_image
from kstore.reference import LOCAL_DOMAIN, Named
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.store import ImageRecord, Store
from kstore.streams import Cancel
from kstore.transports import Transports, split_transport
from kstore.transports.oci import OciReference
from kstore.transports.oci_archive import OciArchiveReference
from kstore.transports.storage import StorageReference

__all__ = ["bring_images"]

#: Kinds of files and directories that hold several images with their names.
_HOLDERS = ("docker-archive", "oci-archive", "oci")


def bring_images(
    store: Store,
    transports: Transports,
    text: str,
    *,
    all_tags: bool = False,
    policy: TrustPolicy = ACCEPT_ANYTHING,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> tuple[ImageRecord, ...]:
    """Bring what ``text`` names into the store; the images that were brought.

    A name, or ``docker://NAME``, is pulled from its registry, with ``all_tags`` every tag of the
    repository.  ``docker-archive:``, ``oci-archive:`` and ``oci:`` with a path alone bring all
    images there, each under all its names; ``TRANSPORT:REFERENCE`` brings one image, under the name
    the reference has, or without a name.  ``policy``: which images are trusted.

    One of several that fails does not stop the others; its error is raised afterwards.  Raises what
    :func:`kstore.operations.pull.pull_image`, ``load_images`` and ``copy`` do.
    """
    if not text:
        raise InvalidInputError("the image name is empty")
    split = split_transport(text)
    failed: list[KstoreError] = []
    if split is None or split[0] == "docker":
        options = PullOptions(all_tags=all_tags, policy=policy)
        result = pull_image(store, transports, text, options, progress=progress, cancel=cancel)
        failed += [each.error for each in result.failed]
        ids = [each.image_id for each in result.pulled]
    elif all_tags:
        raise InvalidInputError(f"only a registry has tags to bring all of, not {text[:200]!r}")
    elif split[0] in _HOLDERS and ":" not in split[1] and split[1] != "-":
        ids = []
        loading = load_images(
            store,
            transports,
            Path(split[1]),
            LoadOptions(policy=policy),
            progress=progress,
            cancel=cancel,
        )
        for each in loading:
            if isinstance(each, NotLoaded):
                failed.append(each.error)
            elif each.image_id is not None:
                ids.append(each.image_id)
    else:
        ids = [_bring_one(transports, transports.parse(text), policy, progress, cancel)]
    if failed:
        raise failed[0]
    return tuple(store.image(image_id) for image_id in dict.fromkeys(ids))


def _bring_one(
    transports: Transports,
    source: ImageReference,
    policy: TrustPolicy,
    progress: ProgressSink,
    cancel: Cancel | None,
) -> str:
    """Bring one image; its ID."""
    if isinstance(source, StorageReference):
        raise InvalidInputError(f"{source.text[:200]!r} is in the store already")
    destination = transports.storage.reference(*_names(source))
    options = CopyOptions(images_only=True)
    result = copy(source, destination, options, policy=policy, progress=progress, cancel=cancel)
    record = transports.storage.store.manifest(result.raw.digest)
    assert record is not None, "it was just written"
    assert record.image_id is not None, "only images are copied"
    return record.image_id


def _names(source: ImageReference) -> tuple[Named, ...]:
    if (named := source.docker_reference) is not None:
        return (named.with_default_tag(),)
    if isinstance(source, OciReference | OciArchiveReference) and source.selector.ref:
        try:
            text = source.selector.ref
            return (Named.parse(text, default_domain=LOCAL_DOMAIN).with_default_tag(),)
        except InvalidReferenceError:
            return ()  # such a text is no name for an image, only one inside its layout
    return ()
