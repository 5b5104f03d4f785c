"""The few facts about an image that every tool shows, whatever its manifest's type."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import field

from kstore.descriptor import text_map
from kstore.digest import Digest
from kstore.errors import InvalidManifestError
from kstore.manifest.documents import Manifest
from kstore.manifest.imageconfig import ImageConfig, parse_time
from kstore.manifest.schema1 import Legacy
from kstore.values import dataclass

__all__ = ["ImageInspectInfo", "inspect_legacy", "inspect_manifest"]


@dataclass(frozen=True, slots=True)
class ImageInspectInfo:
    """``tag``: the one inside a Docker schema 1 manifest, the only type that has any; ``created``
    and ``docker_version``: None where the image does not tell; ``layers``: digests of the blobs,
    base first."""

    tag: str | None
    created: dt.datetime | None
    docker_version: str | None
    labels: Mapping[str, str] = field(hash=False)
    architecture: str
    os: str
    layers: tuple[Digest, ...]


def inspect_manifest(manifest: Manifest, config: ImageConfig) -> ImageInspectInfo:
    """The facts of an OCI or Docker schema 2 image."""
    return ImageInspectInfo(
        tag=None,
        created=config.created,
        docker_version=config.docker_version,
        labels=config.run.labels,
        architecture=config.platform.architecture,
        os=config.platform.os,
        layers=tuple(layer.digest for layer in manifest.layers),
    )


def inspect_legacy(legacy: Legacy) -> ImageInspectInfo:
    """The facts of a Docker schema 1 image, from its newest step; InvalidManifestError."""
    newest = legacy.steps[-1].about

    def text(key: str) -> str | None:
        value = newest.get(key)
        if value is not None and not isinstance(value, str):
            raise InvalidManifestError(f"{key} of a schema 1 manifest is not text")
        return value or None

    run = newest.get("config")
    labels = run.get("Labels") if isinstance(run, dict) else None
    return ImageInspectInfo(
        tag=legacy.tag,
        created=parse_time(newest.get("created")),
        docker_version=text("docker_version"),
        labels=text_map(labels, "Labels of a schema 1 manifest"),
        architecture=text("architecture") or "",
        os=text("os") or "",
        layers=legacy.layers,
    )
