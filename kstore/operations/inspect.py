"""Everything the store knows about one image."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any

from kstore.digest import Digest
from kstore.manifest import MAX_CONFIG_SIZE, ImageConfig, Manifest, RawManifest, parse_image
from kstore.store import ImageRecord, NameRecord, Store

__all__ = ["ImageInspection", "inspect_image", "time_text"]


@dataclass(frozen=True, slots=True)
class ImageInspection:
    """One image through one of its manifests."""

    image: ImageRecord
    raw: RawManifest
    manifest: Manifest
    config: ImageConfig
    config_json: dict[str, Any]

    @property
    def repo_tags(self) -> tuple[str, ...]:
        """Names with a tag."""
        return tuple(str(r.name) for r in self.image.names if r.name.tag is not None)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """``repository@digest`` for every name, by the manifest it means and the index that came
        from."""
        found = {
            str(record.name.with_digest(digest)): None
            for record in self.image.names
            for digest in _digests(record)
        }
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """The inspection with the keys podman uses, sizes in bytes, times in RFC 3339."""
        config = self.config
        return {
            "Id": self.image.id,
            "Digest": str(self.raw.digest),
            "RepoTags": list(self.repo_tags),
            "RepoDigests": list(self.repo_digests),
            "Parent": "",
            "Created": time_text(config.created),
            "Version": config.docker_version or "",
            "User": config.run.user or "",
            "Author": config.author or "",
            "Comment": config.history[-1].comment if config.history else "",
            "Architecture": config.platform.architecture,
            "Os": config.platform.os,
            "Variant": config.platform.variant or "",
            "Size": self.image.size,
            "Labels": dict(config.run.labels),
            "Annotations": dict(self.manifest.annotations),
            "ManifestType": self.raw.media_type,
            "Manifests": [str(digest) for digest in self.image.manifests],
            "Config": self.config_json.get("config") or {},
            "RootFS": {"Type": "layers", "Layers": [str(d) for d in config.diff_ids]},
            "Layers": [
                {"MediaType": la.media_type, "Digest": str(la.digest), "Size": la.size}
                for la in self.manifest.layers
            ],
            "History": self.config_json.get("history") or [],
            "Complete": self.image.complete,
        }


def inspect_image(store: Store, text: str) -> ImageInspection:
    """Inspect the image ``text`` (name or ID).

    Raises ImageNotFoundError, AmbiguousNameError, StoreDamagedError.
    """
    found = store.find_image(text)
    raw = store.read_manifest(found.manifest)
    manifest = parse_image(raw)
    data = store.read_blob(manifest.config.digest, cap=MAX_CONFIG_SIZE)
    return ImageInspection(
        image=found.image,
        raw=raw,
        manifest=manifest,
        config=ImageConfig.parse(data, f"config of {text}"),
        config_json=json.loads(data),
    )


def _digests(record: NameRecord) -> tuple[Digest, ...]:
    digests = (record.name.digest, record.target, record.manifest, record.via)
    return tuple(dict.fromkeys(digest for digest in digests if digest is not None))


def time_text(moment: dt.datetime | None) -> str | None:
    """A time in RFC 3339; None where there is none."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
