"""What an image says about itself, wherever it is, without fetching its layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kstore.copier import CopyOptions
from kstore.copier.selection import select
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import AuthError, NotFoundError, PolicyRejectedError, RemoteError
from kstore.image import Image, UnparsedImage, admit
from kstore.interfaces import ImageReference, ImageSource
from kstore.manifest import ImageConfig, Manifest, RawManifest
from kstore.manifest.schema1 import Legacy
from kstore.operations.inspect import time_text
from kstore.platforms import Platform
from kstore.signing.policy import AcceptAnything
from kstore.transports import Transports
from kstore.values import dataclass

__all__ = ["RemoteInspection", "inspect_remote", "read_remote_config", "read_remote_manifest"]


@dataclass(frozen=True, slots=True)
class RemoteInspection:
    """One image.

    ``top`` is what its name stands for, an index perhaps; ``image`` is the manifest itself.
    ``config`` is None for an artifact.  ``name`` is its repository, ``tags`` those of the
    repository; None where they are not known.
    """

    name: str | None
    top: RawManifest
    image: RawManifest
    layers: tuple[Descriptor | Digest, ...]
    config: ImageConfig | None
    tags: tuple[str, ...] | None

    def to_json(self) -> dict[str, Any]:
        """The inspection with the keys skopeo uses, sizes in bytes, times in RFC 3339.

        What is not known (a layer's size in Docker schema 1) is null.
        """
        config = self.config
        return {
            "Name": self.name or "",
            "Digest": str(self.top.digest),
            "RepoTags": list(self.tags or ()),
            "Created": time_text(config.created) if config else None,
            "DockerVersion": (config and config.docker_version) or "",
            "Labels": dict(config.run.labels) if config else {},
            "Architecture": config.platform.architecture if config else "",
            "Variant": (config and config.platform.variant) or "",
            "Os": config.platform.os if config else "",
            "ManifestType": self.image.media_type,
            "Layers": [_digest(layer) for layer in self.layers],
            "LayersData": [_layer_json(layer) for layer in self.layers],
            "Env": list(config.run.env) if config else [],
        }


def inspect_remote(
    transports: Transports,
    text: str,
    *,
    platform: Platform | None = None,
    tags: bool = True,
    warn: Callable[[str], None] = lambda _: None,
) -> RemoteInspection:
    """Inspect the image ``text`` (``transport:reference``); of an index, the member for
    ``platform`` (None: this machine's).

    ``tags``: list those of its repository as well; a registry that refuses is a warning.  Raises
    what the transport raises, PlatformNotFoundError, InvalidManifestError.
    """
    reference = transports.parse(text)
    with reference.open_source() as source:
        top, image = _open(source, platform)
        config = _config(image)
    named = reference.docker_reference
    return RemoteInspection(
        name=named.repository if named else None,
        top=top,
        image=image.raw,
        layers=_layers(image),
        config=config,
        tags=_tags(transports, reference, warn) if tags else None,
    )


def read_remote_manifest(
    transports: Transports, text: str, *, platform: Platform | None = None
) -> RawManifest:
    """The manifest of ``text``, exactly as it is; with ``platform``, that of the index's member."""
    with transports.parse(text).open_source() as source:
        if platform is None:
            return admit(UnparsedImage(source), AcceptAnything()).unparsed.raw
        return _open(source, platform)[1].raw


def read_remote_config(
    transports: Transports, text: str, *, platform: Platform | None = None
) -> bytes:
    """The config of the image ``text``, exactly as it is; of an index, of the member for
    ``platform`` (None: this machine's).

    InvalidManifestError for Docker schema 1, which has none.
    """
    with transports.parse(text).open_source() as source:
        return _open(source, platform)[1].read_config()


def _open(source: ImageSource, platform: Platform | None) -> tuple[RawManifest, Image]:
    """What the name stands for, and the image: its own manifest, or that of a member."""
    selection = select(source, AcceptAnything(), CopyOptions(platform=platform))
    [image] = selection.images
    return selection.via or image.raw, image


def _layers(image: Image) -> tuple[Descriptor | Digest, ...]:
    assert isinstance(image.document, Manifest | Legacy)
    return image.document.layers


def _config(image: Image) -> ImageConfig | None:
    document = image.document
    if isinstance(document, Legacy):
        newest = {**document.steps[-1].about}
        for key in ("rootfs", "history"):
            newest.pop(key, None)
        return ImageConfig.parse(json.dumps(newest).encode(), f"manifest {image.raw.digest}")
    assert isinstance(document, Manifest)
    return image.config if document.is_image else None


def _tags(
    transports: Transports, reference: ImageReference, warn: Callable[[str], None]
) -> tuple[str, ...] | None:
    named = reference.docker_reference
    if named is None or reference.transport != "docker":
        return None
    try:
        return tuple(transports.docker.client(named.domain, named.path).tags(named.path))
    except (AuthError, NotFoundError, PolicyRejectedError, RemoteError) as exc:
        warn(f"the tags of {named.repository} are left out: {exc.message}")
        return None


def _digest(layer: Descriptor | Digest) -> str:
    return str(layer if isinstance(layer, Digest) else layer.digest)


def _layer_json(layer: Descriptor | Digest) -> dict[str, Any]:
    if isinstance(layer, Digest):
        return {"MIMEType": None, "Digest": str(layer), "Size": None, "Annotations": None}
    return {
        "MIMEType": layer.media_type,
        "Digest": str(layer.digest),
        "Size": layer.size,
        "Annotations": dict(layer.annotations) or None,
    }
