"""From one manifest type to another, and to other layers; pure.

OCI and Docker schema 2 describe the same image in the same shape, so the config's bytes, and with
them the image ID, always survive.  What the target cannot say at all is refused, what it merely has
no place for (annotations, in Docker's types) is dropped.

Sources: OCI image specification 1.1, "Compatibility Matrix" in ``media-types.md``; Docker image
manifest version 2 schema 2.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import UnsupportedError
from kstore.manifest.documents import Manifest, parse_image, parse_index
from kstore.manifest.imageconfig import ImageConfig
from kstore.manifest.raw import MAX_MANIFEST_SIZE, RawManifest

__all__ = [
    "ATTESTATION_OF",
    "INDEX_OF",
    "MANIFEST_OF",
    "check_convertible",
    "convert",
    "converted_layer_type",
    "rewrite_index",
]

#: The index type of a manifest type's family, and the reverse.
INDEX_OF: Mapping[str, str] = {mt.OCI_MANIFEST: mt.OCI_INDEX, mt.DOCKER_MANIFEST: mt.DOCKER_LIST}
MANIFEST_OF: Mapping[str, str] = {index: manifest for manifest, index in INDEX_OF.items()}
#: On an attestation: the digest of the member of the same index it speaks of.
ATTESTATION_OF = "vnd.docker.reference.digest"

_FOREIGN = {
    (mt.OCI_MANIFEST, "none"): mt.OCI_NONDISTRIBUTABLE,
    (mt.OCI_MANIFEST, "gzip"): mt.OCI_NONDISTRIBUTABLE + "+gzip",
    (mt.OCI_MANIFEST, "zstd"): mt.OCI_NONDISTRIBUTABLE + "+zstd",
    (mt.DOCKER_MANIFEST, "none"): mt.DOCKER_FOREIGN_LAYER_TAR,
    (mt.DOCKER_MANIFEST, "gzip"): mt.DOCKER_FOREIGN_LAYER,
}
#: Annotations that describe the compressed bytes, and are wrong about others.
_OF_BYTES = ("io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/")


def converted_layer_type(media_type: str, target: str, compression: str | None = None) -> str:
    """The type of a layer in a manifest of type ``target``, ``compression`` None: as it is.

    Raises UnsupportedError where ``target`` has no such type.
    """
    kind = compression or mt.layer_compression(media_type)
    if kind is None:
        raise UnsupportedError(f"a layer of type {media_type!r:.120} cannot go into a {target}")
    foreign = mt.is_foreign_layer(media_type)
    found = _FOREIGN.get((target, kind)) if foreign else mt.layer_type(target, kind)
    if found is None:
        raise UnsupportedError(
            f"a layer compressed with {kind} cannot go into a manifest of type {target}",
            hint="recompress the layers with gzip",
        )
    return found


def convert(
    raw: RawManifest,
    config: bytes | None,
    target: str,
    layers: Mapping[Digest, Descriptor] | None = None,
) -> tuple[RawManifest, bytes | None]:
    """``raw`` as a manifest of type ``target``, with some of its layers replaced.

    ``layers`` maps a layer's digest to what takes its place: digest, size and media type (of any
    family) are used.  ``config`` are the config's bytes, which come back as they are; with them,
    the number of layers is checked.  A manifest that would say the same is returned unchanged, byte
    for byte.

    Raises UnsupportedError for artifacts, and for what ``target`` cannot say.
    """
    manifest = parse_image(raw)
    edits = {old: new for old, new in (layers or {}).items() if old != new.digest}
    if target == raw.media_type and not edits:
        return raw, config
    check_convertible(raw, manifest, config, target)
    document = _document(raw)
    document["mediaType"] = target
    document["config"]["mediaType"] = mt.CONFIG_OF[target]
    document["layers"] = [
        _layer(entry, layer, edits.get(layer.digest), target)
        for entry, layer in zip(document["layers"], manifest.layers, strict=True)
    ]
    if target == mt.DOCKER_MANIFEST:
        document["config"].pop("annotations", None)
        for key in ("annotations", "artifactType"):
            document.pop(key, None)
    return _raw(document, target), config


def check_convertible(
    raw: RawManifest, manifest: Manifest, config: bytes | None, target: str
) -> None:
    """UnsupportedError if ``manifest``, the view of ``raw``, cannot become a ``target``."""
    what = f"manifest {raw.digest}"
    if target not in mt.CONFIG_OF:
        raise UnsupportedError(f"{what} cannot become a {target!r:.120}")
    if not manifest.is_image:
        kind = manifest.artifact_type or manifest.config.media_type
        raise UnsupportedError(f"{what} is an artifact of type {kind!r:.120}; only images convert")
    if manifest.subject is not None and target == mt.DOCKER_MANIFEST:
        raise UnsupportedError(f"{what} refers to another one, which Docker's type cannot say")
    if config is None:
        return
    diff_ids = ImageConfig.parse(config, f"config of {what}").diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise UnsupportedError(
            f"{what} has {len(manifest.layers)} layers, but its config knows {len(diff_ids)}"
        )


def _layer(
    entry: dict[str, Any], layer: Descriptor, edit: Descriptor | None, target: str
) -> dict[str, Any]:
    result = dict(entry)
    if edit is None:
        result["mediaType"] = converted_layer_type(layer.media_type, target)
    else:
        result["mediaType"] = converted_layer_type(edit.media_type, target)
        result["digest"], result["size"] = str(edit.digest), edit.size
        kept = {k: v for k, v in layer.annotations.items() if not k.startswith(_OF_BYTES)}
        if kept != dict(layer.annotations):
            result["annotations"] = kept
    if target == mt.DOCKER_MANIFEST or not result.get("annotations"):
        result.pop("annotations", None)
    return result


def rewrite_index(
    raw: RawManifest,
    target: str,
    members: Mapping[Digest, RawManifest],
    keep: Collection[Digest] | None = None,
) -> RawManifest:
    """``raw`` as an index of type ``target``, with some of its members replaced or left out.

    ``members`` maps a member's digest to what takes its place; ``keep``, where it is given, are the
    members (by their old digests) that stay.  An index that would say the same is returned
    unchanged, byte for byte.  Attestations follow the member they speak of.

    Raises UnsupportedError for what ``target`` cannot say, and if no member is left.
    """
    index = parse_index(raw)
    changed = {old: new for old, new in members.items() if old != new.digest}
    staying = [member.digest for member in index.manifests if keep is None or member.digest in keep]
    if target == raw.media_type and not changed and len(staying) == len(index.manifests):
        return raw
    what = f"index {raw.digest}"
    if target not in MANIFEST_OF:
        raise UnsupportedError(f"{what} cannot become a {target!r:.120}")
    if not staying:
        raise UnsupportedError(f"{what} would have no member left")
    if index.subject is not None and target == mt.DOCKER_LIST:
        raise UnsupportedError(f"{what} refers to another manifest, which Docker's type cannot say")
    document = _document(raw)
    document["mediaType"] = target
    document["manifests"] = [
        _member(entry, member, changed, target, what)
        for entry, member in zip(document["manifests"], index.manifests, strict=True)
        if keep is None or member.digest in keep
    ]
    if target == mt.DOCKER_LIST:
        for key in ("annotations", "artifactType"):
            document.pop(key, None)
    return _raw(document, target)


def _member(
    entry: dict[str, Any],
    member: Descriptor,
    changed: Mapping[Digest, RawManifest],
    target: str,
    what: str,
) -> dict[str, Any]:
    result = dict(entry)
    if (new := changed.get(member.digest)) is not None:
        result["digest"], result["size"] = str(new.digest), len(new.data)
        result["mediaType"] = new.media_type
    spoken_of = {str(old): str(now.digest) for old, now in changed.items()}
    if (subject := member.annotations.get(ATTESTATION_OF)) in spoken_of:
        result["annotations"] = {**member.annotations, ATTESTATION_OF: spoken_of[subject]}
    if target == mt.DOCKER_LIST:
        if member.platform is None:
            raise UnsupportedError(
                f"member {member.digest} of {what} has no platform, which Docker's type demands"
            )
        for key in ("annotations", "artifactType"):
            result.pop(key, None)
    return result


def _document(raw: RawManifest) -> dict[str, Any]:
    what = f"manifest {raw.digest}"
    return strictjson.as_object(strictjson.loads(raw.data, what, cap=MAX_MANIFEST_SIZE), what)


def _raw(document: dict[str, Any], target: str) -> RawManifest:
    document["schemaVersion"] = 2  # some leave it out; Docker's types demand it
    data = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    return RawManifest.receive(data, target)
