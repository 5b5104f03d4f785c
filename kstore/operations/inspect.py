"""Everything the store knows about one image."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import PlatformNotFoundError
from kstore.manifest import (
    MAX_CONFIG_SIZE,
    ImageConfig,
    Manifest,
    RawManifest,
    parse_image,
    parse_index,
)
from kstore.reference import LOCAL_DOMAIN
from kstore.store import Found, ImageRecord, NameRecord, Store
from kstore.streams import Cancel
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.platforms import Platform

__all__ = [
    "ImageInspection",
    "inspect_image",
    "read_top_manifest",
    "repo_digests",
    "repo_tags",
    "time_text",
]


@dataclass(frozen=True, slots=True)
class ImageInspection:
    """One image through one of its manifests.

    ``unpacked_size``: bytes of its layers as tars, None where that is not known; ``past_names``:
    what it is and was called, the last name first.
    """

    image: ImageRecord
    raw: RawManifest
    manifest: Manifest
    config: ImageConfig
    config_json: dict[str, Any]
    unpacked_size: int | None = None
    past_names: tuple[str, ...] = ()

    @property
    def repo_tags(self) -> tuple[str, ...]:
        """Names with a tag."""
        return repo_tags(self.image)

    @property
    def repo_digests(self) -> tuple[str, ...]:
        """See :func:`repo_digests`."""
        return repo_digests(self.image)

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
            "VirtualSize": self.image.size,
            "UnpackedSize": self.unpacked_size,
            "Labels": dict(config.run.labels),
            "Annotations": dict(self.manifest.annotations),
            "ManifestType": self.raw.media_type,
            "Manifests": [str(digest) for digest in self.image.manifests],
            "Config": self.config_json.get("config") or {},
            "GraphDriver": {"Name": "kstore", "Data": {}},
            "RootFS": {"Type": "layers", "Layers": [str(d) for d in config.diff_ids]},
            "Layers": [
                {"MediaType": la.media_type, "Digest": str(la.digest), "Size": la.size}
                for la in self.manifest.layers
            ],
            "History": self.config_json.get("history") or [],
            "NamesHistory": list(self.past_names),
            "Complete": self.image.complete,
        }


def repo_tags(image: ImageRecord) -> tuple[str, ...]:
    """The names of an image that have a tag."""
    return tuple(str(record.name) for record in image.names if record.name.tag is not None)


def repo_digests(image: ImageRecord) -> tuple[str, ...]:
    """``repository@digest`` for every name, by the manifest it means and the index that came
    from."""
    found = {
        str(record.name.with_digest(digest)): None
        for record in image.names
        for digest in _digests(record)
    }
    return tuple(found)


def inspect_image(
    store: Store,
    text: str,
    *,
    platform: Platform | None = None,
    measure: bool = False,
    cancel: Cancel | None = None,
) -> ImageInspection:
    """Inspect the image ``text`` (name or ID); of a name that stands for an index, the member for
    ``platform`` (None: this machine's).  ``measure`` its unpacked size by unpacking it.

    Raises ImageNotFoundError, AmbiguousNameError, PlatformNotFoundError, StoreDamagedError.
    """
    found = store.find_image(text)
    if platform is not None:
        found = _member(store, found, platform)
    raw = store.read_manifest(found.manifest)
    manifest = parse_image(raw)
    data = store.read_blob(manifest.config.digest, cap=MAX_CONFIG_SIZE)
    return ImageInspection(
        image=found.image,
        raw=raw,
        manifest=manifest,
        config=ImageConfig.parse(data, f"config of {text}"),
        config_json=json.loads(data),
        unpacked_size=_unpacked_size(store, manifest, measure, cancel),
        past_names=store.past_names(found.image.id).get(found.image.id, ()),
    )


def read_top_manifest(store: Store, text: str) -> RawManifest:
    """What the name ``text`` stands for, an index perhaps; of an ID, the image's manifest.

    Raises ImageNotFoundError, AmbiguousNameError, StoreDamagedError.
    """
    found = store.find_image(text)
    return store.read_manifest(_index_named(store, found) or found.manifest)


def _index_named(store: Store, found: Found) -> Digest | None:
    """The index that the name stands for which ``found`` was looked up by; None for an image."""
    record = store.name(found.name) if found.name is not None else None
    target = store.manifest(record.target) if record is not None else None
    return target.descriptor.digest if target is not None and target.is_index else None


def _member(store: Store, found: Found, platform: Platform) -> Found:
    """The image for ``platform`` under the same name, where that stands for an index."""
    top = _index_named(store, found)
    if top is None:
        return found
    from kstore.image import choose_member

    index = parse_index(store.read_manifest(top))
    digest = choose_member(index, platform, str(found.name)).digest
    member = store.manifest(digest)
    if member is None or member.image_id is None:
        pulled = found.name is not None and found.name.domain != LOCAL_DOMAIN
        raise PlatformNotFoundError(
            f"the image of {found.name} for {platform} is not in the store",
            hint=f"kstore pull --platform {platform} {found.name}" if pulled else None,
        )
    return Found(store.image(member.image_id), found.name, digest)


def _unpacked_size(
    store: Store, manifest: Manifest, measure: bool, cancel: Cancel | None
) -> int | None:
    if all(mt.layer_compression(layer.media_type) == "none" for layer in manifest.layers):
        return sum(layer.size for layer in manifest.layers)
    if not measure:
        return None
    from kstore.operations.sizes import unpacked_size  # the rest starts faster

    return unpacked_size(store, manifest, cancel)


def _digests(record: NameRecord) -> tuple[Digest, ...]:
    digests = (record.name.digest, record.target, record.manifest, record.via)
    return tuple(dict.fromkeys(digest for digest in digests if digest is not None))


def time_text(moment: dt.datetime | None) -> str | None:
    """A time in RFC 3339; None where there is none."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
