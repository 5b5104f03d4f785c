"""Parsed views of manifests and indexes; OCI and Docker schema 2 share their shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.descriptor import Descriptor, text_map
from kstore.errors import InvalidManifestError, UnsupportedError
from kstore.manifest.raw import MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, RawManifest
from kstore.values import dataclass

__all__ = [
    "MAX_INDEX_ENTRIES",
    "MAX_LAYERS",
    "Index",
    "Manifest",
    "parse",
    "parse_image",
    "parse_index",
]

#: Most members of one index.
MAX_INDEX_ENTRIES = 1000
#: Most layers of one image (docker refuses more than 127; artifacts may hold more).
MAX_LAYERS = 4096

#: Keys that decide what a document is; one that is foreign to its type makes it ambiguous.
_TELLING = ("config", "fsLayers", "history", "layers", "manifests")
_OWN = {
    mt.OCI_MANIFEST: {"config", "layers"},
    mt.DOCKER_MANIFEST: {"config", "layers"},
    mt.OCI_INDEX: {"manifests"},
    mt.DOCKER_LIST: {"manifests"},
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image (or artifact): a config and layers, base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(hash=False)
    subject: Descriptor | None = None
    artifact_type: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether the config describes a runnable image; anything else is an artifact.

        So is what cosign attaches to images, although it borrows their config.
        """
        if self.config.media_type not in mt.IMAGE_CONFIGS:
            return False
        return not self.layers or not all(mt.is_statement(each.media_type) for each in self.layers)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Every blob the manifest needs, layers first, each digest once."""
        unique = {blob.digest: blob for blob in (*self.layers, self.config)}
        return tuple(unique.values())


@dataclass(frozen=True, slots=True)
class Index:
    """Several manifests, usually one for each platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(hash=False)
    subject: Descriptor | None = None
    artifact_type: str | None = None


def parse(raw: RawManifest) -> Manifest | Index:
    """The view of ``raw``.

    Raises InvalidManifestError if it is malformed or ambiguous, UnsupportedError for Docker
    schema 1 (see :func:`kstore.manifest.schema1.parse_legacy`) and any other type.
    """
    if raw.media_type in mt.SCHEMA1:
        raise UnsupportedError(
            f"manifest {raw.digest} is Docker schema 1, which can only be converted",
            hint="kstore pull IMAGE converts it",
        )
    what = f"manifest {raw.digest}"
    if raw.media_type not in _OWN:
        raise UnsupportedError(f"{what} has the unknown type {raw.media_type!r:.120}")
    document = strictjson.as_object(strictjson.loads(raw.data, what, cap=MAX_MANIFEST_SIZE), what)
    _check_unambiguous(document, raw.media_type, what)
    return _index(document, raw, what) if raw.is_index else _manifest(document, raw, what)


def parse_image(raw: RawManifest) -> Manifest:
    """The view of ``raw``, which must describe one image; InvalidManifestError for an index."""
    parsed = parse(raw)
    if not isinstance(parsed, Manifest):
        raise InvalidManifestError(f"manifest {raw.digest} is an index where an image is needed")
    return parsed


def parse_index(raw: RawManifest) -> Index:
    """The view of ``raw``, which must be an index; InvalidManifestError for anything else."""
    parsed = parse(raw)
    if not isinstance(parsed, Index):
        raise InvalidManifestError(f"manifest {raw.digest} is an image where an index is needed")
    return parsed


def _check_unambiguous(document: dict[str, Any], media_type: str, what: str) -> None:
    own = _OWN[media_type]
    foreign = [key for key in _TELLING if key not in own and document.get(key) is not None]
    if foreign:
        raise InvalidManifestError(
            f"{what} is ambiguous: {media_type} must not have {', '.join(map(repr, foreign))}"
        )


def _manifest(document: dict[str, Any], raw: RawManifest, what: str) -> Manifest:
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise InvalidManifestError(f"{what} has no list of layers")
    if len(layers) > MAX_LAYERS:
        raise InvalidManifestError(f"{what} has {len(layers)} layers, more than {MAX_LAYERS}")
    config = Descriptor.from_json(document.get("config"), f"config of {what}")
    if config.media_type in mt.IMAGE_CONFIGS and config.size > MAX_CONFIG_SIZE:
        raise InvalidManifestError(
            f"config of {what} is {config.size} bytes, more than the limit of {MAX_CONFIG_SIZE}"
        )
    return Manifest(
        media_type=raw.media_type,
        config=config,
        layers=tuple(
            Descriptor.from_json(layer, f"layer {number} of {what}")
            for number, layer in enumerate(layers)
        ),
        annotations=text_map(document.get("annotations"), f"annotations of {what}"),
        subject=_subject(document, what),
        artifact_type=strictjson.text_in(document, "artifactType", what),
    )


def _index(document: dict[str, Any], raw: RawManifest, what: str) -> Index:
    members = document.get("manifests")
    if not isinstance(members, list):
        raise InvalidManifestError(f"{what} has no list of manifests")
    if len(members) > MAX_INDEX_ENTRIES:
        raise InvalidManifestError(
            f"{what} has {len(members)} members, more than the limit of {MAX_INDEX_ENTRIES}"
        )
    return Index(
        media_type=raw.media_type,
        manifests=tuple(
            Descriptor.from_json(member, f"member {number} of {what}")
            for number, member in enumerate(members)
        ),
        annotations=text_map(document.get("annotations"), f"annotations of {what}"),
        subject=_subject(document, what),
        artifact_type=strictjson.text_in(document, "artifactType", what),
    )


def _subject(document: dict[str, Any], what: str) -> Descriptor | None:
    subject = document.get("subject")
    return None if subject is None else Descriptor.from_json(subject, f"subject of {what}")
