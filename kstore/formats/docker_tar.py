"""Archives as ``docker save`` writes them: the images inside, and how to choose one.

Three generations are read: Docker 25 and later (``manifest.json`` beside an OCI image layout),
Docker 1.10 and later (``manifest.json``), and before (``repositories``, see ``docker_legacy``).
Podman, skopeo, crane, kaniko and bazel write the second form.

Source: moby ``image/spec/v1.2.md``, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kstore import strictjson
from kstore.errors import (
    AmbiguousNameError,
    ImageNotFoundError,
    IntegrityError,
    InvalidManifestError,
    InvalidReferenceError,
)
from kstore.formats.archive import Archive
from kstore.formats.docker_image import ArchivedImage
from kstore.formats.docker_legacy import legacy_images
from kstore.reference import Named

__all__ = ["LIST", "MAX_LIST_SIZE", "choose_image", "list_images"]

#: The file that lists the images.
LIST = "manifest.json"
#: Largest list accepted, in bytes.
MAX_LIST_SIZE = 1 << 20

_FIELDS = {name.casefold(): name for name in ("Config", "RepoTags", "Layers")}
_SHOWN = 10


def list_images(archive: Archive) -> tuple[ArchivedImage, ...]:
    """The images of ``archive``, in its order.

    Raises InvalidManifestError if the list is malformed or too large, IntegrityError if the archive
    is not of docker's kind.
    """
    if LIST in archive:
        what = f"{LIST} in {archive.what}"
        value = strictjson.loads(archive.read(LIST, MAX_LIST_SIZE), what, cap=MAX_LIST_SIZE)
        if not isinstance(value, list):
            raise InvalidManifestError(f"{what} is not a list of images")
        return tuple(_image(position, item, what) for position, item in enumerate(value))
    legacy = legacy_images(archive)
    if not legacy:
        raise IntegrityError(
            f"{archive.what} is not a docker archive: it has no {LIST}",
            hint="it is an OCI archive: use oci-archive:" if "index.json" in archive else None,
        )
    return tuple(
        ArchivedImage(position, _names(image.tags), None, image.layers, image)
        for position, image in enumerate(legacy)
    )


def choose_image(
    images: Sequence[ArchivedImage], what: str, name: Named | None, position: int | None
) -> ArchivedImage:
    """The image called ``name``, or at ``position`` (from 0), or the only one.

    Raises ImageNotFoundError, or AmbiguousNameError where several may be meant; both say what
    there is in the archive ``what``.
    """
    if position is not None:
        if position >= len(images):
            raise ImageNotFoundError(f"{what} has no image @{position}; {_inventory(images)}")
        return images[position]
    found = [image for image in images if name is None or name in image.names]
    if len(found) == 1:
        return found[0]
    if not found:
        wanted = f"no image {name}" if name is not None else "no image"
        raise ImageNotFoundError(f"{what} has {wanted}; {_inventory(images)}")
    wanted = f"called {name}" if name is not None else "and none was chosen"
    raise AmbiguousNameError(
        f"{what} has {len(found)} images {wanted}; {_inventory(images)}",
        hint=f"choose one by its name or place, for example :@{found[0].position}",
    )


def _image(position: int, item: Any, what: str) -> ArchivedImage:
    what = f"image {position} of {what}"
    entry = strictjson.as_object(item, what)
    strictjson.check_spelling(entry, _FIELDS, what)
    config = entry.get("Config")
    if not isinstance(config, str) or not config:
        raise InvalidManifestError(f"{what} names no config")
    return ArchivedImage(
        position=position,
        names=_names(_texts(entry, "RepoTags", what)),
        config=config,
        layers=_texts(entry, "Layers", what),
    )


def _texts(entry: dict[str, Any], key: str, what: str) -> tuple[str, ...]:
    value = entry.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidManifestError(f"{what} has {key} that are not a list of texts")
    return tuple(value)


def _names(tags: Iterable[str]) -> tuple[Named, ...]:
    """Those tags that are names: old archives also hold ``<none>:<none>``."""
    names: dict[Named, None] = {}
    for tag in tags:
        try:
            names[Named.parse(tag).with_default_tag()] = None
        except InvalidReferenceError:
            continue
    return tuple(names)


def _inventory(images: Sequence[ArchivedImage]) -> str:
    """What may be chosen, bounded."""
    if not images:
        return "it is empty"
    shown = [
        f"@{image.position}" + (f" ({image.names[0].familiar})" if image.names else "")
        for image in images[:_SHOWN]
    ]
    more = f" and {len(images) - _SHOWN} more" if len(images) > _SHOWN else ""
    return f"it has {', '.join(shown)}{more}"
