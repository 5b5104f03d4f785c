"""Docker's first manifest schema: read, turned into what is written today, never written.

A schema 1 manifest has no config: each layer carries a piece of JSON about the image as it was when
that layer was made.  The config is put together from these, and from the digests of the unpacked
layers, which only who has read the layers can know.

Sources: Docker image manifest version 2 schema 1; Docker image specification 1.0 (the fields of
``v1Compatibility``); OCI image specification 1.1 ``config.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError
from kstore.manifest.documents import MAX_LAYERS
from kstore.manifest.raw import MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, RawManifest
from kstore.values import dataclass

__all__ = ["Legacy", "LegacyLayer", "legacy_config", "legacy_manifest", "parse_legacy"]

#: Keys of a v1 image that mean nothing in a config, or are made anew.
_DROPPED = ("id", "parent", "parent_id", "Size", "layer_id", "throwaway", "rootfs", "history")


@dataclass(frozen=True, slots=True)
class LegacyLayer:
    """One step of the image; ``throwaway`` ones changed no file and have no layer of their own."""

    digest: Digest
    throwaway: bool
    about: Mapping[str, Any] = field(hash=False, repr=False)


@dataclass(frozen=True, slots=True)
class Legacy:
    """A schema 1 manifest: the steps, base first; there is at least one.

    ``name`` (without a registry) and ``tag`` are what the manifest says it is called.
    """

    media_type: str
    steps: tuple[LegacyLayer, ...]
    name: str | None = None
    tag: str | None = None

    @property
    def layers(self) -> tuple[Digest, ...]:
        """The layers that are not thrown away, base first; their sizes are not known."""
        return tuple(step.digest for step in self.steps if not step.throwaway)


def parse_legacy(raw: RawManifest) -> Legacy:
    """The view of a schema 1 manifest, signed or not, of which only the signed part is read.

    Raises InvalidManifestError if it is malformed, or its history is not one line of descent.
    """
    what = f"manifest {raw.digest}"
    if raw.media_type not in mt.SCHEMA1:
        raise InvalidManifestError(f"{what} is not Docker schema 1")
    document = _json(raw.content, what, MAX_MANIFEST_SIZE)
    if "signatures" in document:
        raise InvalidManifestError(f"{what} has signatures that do not say what they sign")
    foreign = [key for key in ("config", "layers", "manifests") if document.get(key) is not None]
    if foreign:
        raise InvalidManifestError(f"{what} is ambiguous: schema 1 must not have {foreign[0]!r}")
    blobs, history = document.get("fsLayers"), document.get("history")
    if not isinstance(blobs, list) or not isinstance(history, list) or not blobs:
        raise InvalidManifestError(f"{what} has no fsLayers and history")
    if len(blobs) != len(history) or len(blobs) > MAX_LAYERS:
        raise InvalidManifestError(
            f"{what} has {len(blobs)} layers and {len(history)} entries of history"
        )
    steps = [
        _step(blob, entry, f"layer {number} of {what}")
        for number, (blob, entry) in enumerate(zip(blobs, history, strict=True))
    ]
    return Legacy(
        raw.media_type,
        tuple(reversed(_one_line(steps, what))),
        name=_own_text(document, "name"),
        tag=_own_text(document, "tag"),
    )


def _own_text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    return value if isinstance(value, str) and value else None


def _step(blob: Any, entry: Any, what: str) -> LegacyLayer:
    try:
        digest = Digest.parse(strictjson.as_object(blob, what).get("blobSum", ""))
    except InvalidDigestError as exc:
        raise InvalidManifestError(f"{what} has a bad digest: {exc}") from exc
    text = strictjson.as_object(entry, what).get("v1Compatibility")
    if not isinstance(text, str):
        raise InvalidManifestError(f"{what} has no v1Compatibility")
    about = _json(text.encode(), f"history of {what}", MAX_CONFIG_SIZE)
    if not isinstance(about.get("id"), str):
        raise InvalidManifestError(f"history of {what} has no id")
    return LegacyLayer(digest, about.get("throwaway") is True, about)


def _one_line(steps: Sequence[LegacyLayer], what: str) -> list[LegacyLayer]:
    """The steps, newest first, each once; every one is the child of the next."""
    line = list(steps[:1])
    for step in steps[1:]:
        if step.about["id"] == line[-1].about["id"]:
            line[-1] = step  # old versions of docker repeat an entry
        elif line[-1].about.get("parent") != step.about["id"]:
            raise InvalidManifestError(f"history of {what} is not one line of descent")
        else:
            line.append(step)
    if line[-1].about.get("parent"):
        raise InvalidManifestError(f"history of {what} begins with a layer that has a parent")
    return line


def legacy_config(legacy: Legacy, diff_ids: Sequence[Digest]) -> bytes:
    """The config of the image; ``diff_ids`` are those of :attr:`Legacy.layers`, in their order.

    The same manifest always gives the same bytes, and so the same image ID.
    """
    if len(diff_ids) != len(legacy.layers):
        raise InvalidManifestError(
            f"a manifest of {len(legacy.layers)} layers got {len(diff_ids)} diffIDs"
        )
    newest = legacy.steps[-1].about
    config = {key: value for key, value in newest.items() if key not in _DROPPED}
    config.setdefault("architecture", "amd64")
    config.setdefault("os", "linux")
    config["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]}
    config["history"] = [_history(step) for step in legacy.steps]
    return json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()


def _history(step: LegacyLayer) -> dict[str, Any]:
    about = step.about
    ran = about.get("container_config")
    command = ran.get("Cmd") if isinstance(ran, dict) else None
    words = command if isinstance(command, list) else []
    entry: dict[str, Any] = {
        "created": about.get("created"),
        "author": about.get("author"),
        "created_by": " ".join(word for word in words if isinstance(word, str)),
        "comment": about.get("comment"),
    }
    kept = {key: value for key, value in entry.items() if isinstance(value, str) and value}
    return {**kept, "empty_layer": True} if step.throwaway else kept


def legacy_manifest(target: str, config: Descriptor, layers: Sequence[Descriptor]) -> RawManifest:
    """A manifest of type ``target`` for what used to be a schema 1 image."""
    document = {
        "schemaVersion": 2,
        "mediaType": target,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return RawManifest.receive(json.dumps(document, separators=(",", ":")).encode(), target)


def _json(data: bytes, what: str, cap: int) -> dict[str, Any]:
    return strictjson.as_object(strictjson.loads(data, what, cap=cap), what)
