"""Archives of Docker before 1.10: one directory for each layer, and ``repositories``.

``<id>/json`` describes a layer and names its ``parent``; ``<id>/layer.tar`` is the layer.  The
image config of today is put together from the chain, as docker itself did when it moved such images
to content addresses.  IDs are only names here: layers are found by the digest of their bytes.

Source: moby ``image/spec/v1.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from kstore import strictjson
from kstore.digest import Digest
from kstore.errors import InvalidManifestError
from kstore.formats.archive import Archive
from kstore.manifest import MAX_LAYERS
from kstore.values import dataclass

__all__ = ["LegacyImage", "legacy_config", "legacy_images"]

_MAX_JSON = 1 << 20
_MAX_DIRECTORIES = 20_000
_REPOSITORIES = "repositories"
_DIRECTORY = re.compile(r"([0-9a-f]{64})/json\Z", re.ASCII)
#: Keys of a layer's json that say nothing about the image.
_DROPPED = frozenset({"id", "parent", "parent_id", "layer_id", "throwaway", "Size"})


@dataclass(frozen=True, slots=True)
class LegacyImage:
    """``tags`` as ``repository:tag``; ``ids`` are the layers' directories, base first."""

    tags: tuple[str, ...]
    ids: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' files, base first."""
        return tuple(f"{layer}/layer.tar" for layer in self.ids)


def legacy_images(archive: Archive) -> list[LegacyImage]:
    """The images of an archive without ``manifest.json``; empty if it has none of this form.

    Those that have tags come first, in the order of ``repositories``, then those that are nobody's
    parent.  Raises InvalidManifestError for chains that are circular, too long or incomplete.
    """
    ids = [match[1] for name in archive.names if (match := _DIRECTORY.match(name))]
    if len(ids) > _MAX_DIRECTORIES:
        raise InvalidManifestError(
            f"{archive.what} has {len(ids)} legacy layers, more than {_MAX_DIRECTORIES}"
        )
    parents = {layer: _parent(archive, layer) for layer in ids}
    tags: dict[str, list[str]] = {}
    for tag, top in _tags(archive):
        if top not in parents:
            raise InvalidManifestError(
                f"{archive.what}: {_REPOSITORIES} gives the tag {tag!r:.200} to {top!r:.80}, which"
                " is not in it"
            )
        tags.setdefault(top, []).append(tag)
    inner = set(parents.values())
    tops = [*tags, *(layer for layer in ids if layer not in inner and layer not in tags)]
    return [LegacyImage(tuple(tags.get(top, ())), _chain(archive, top, parents)) for top in tops]


def legacy_config(archive: Archive, image: LegacyImage, diff_ids: Sequence[Digest]) -> bytes:
    """The image config; the same archive gives the same bytes."""
    steps = [_description(archive, layer) for layer in image.ids]
    config = {key: value for key, value in steps[-1].items() if key not in _DROPPED}
    # Images that say neither are older than any other platform.
    config["architecture"] = config.get("architecture") or "amd64"
    config["os"] = config.get("os") or "linux"
    config["history"] = [_history(step) for step in steps]
    config["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id) for diff_id in diff_ids]}
    return json.dumps(config, sort_keys=True, separators=(",", ":")).encode()


def _tags(archive: Archive) -> Iterator[tuple[str, str]]:
    if _REPOSITORIES not in archive:
        return
    what = f"{_REPOSITORIES} in {archive.what}"
    document = _read(archive, _REPOSITORIES)
    for repository, tags in document.items():
        for tag, top in strictjson.as_object(tags, what).items():
            if not isinstance(top, str):
                raise InvalidManifestError(f"{what} has a tag that names no layer")
            yield f"{repository}:{tag}", top


def _parent(archive: Archive, layer: str) -> str | None:
    parent = _description(archive, layer).get("parent")
    if parent is not None and not isinstance(parent, str):
        raise InvalidManifestError(f"{layer}/json in {archive.what} has a parent that is not text")
    return parent or None


def _chain(archive: Archive, top: str, parents: dict[str, str | None]) -> tuple[str, ...]:
    chain: list[str] = []
    layer: str | None = top
    while layer is not None:
        if layer not in parents:
            raise InvalidManifestError(
                f"{archive.what} is incomplete: layer {chain[-1]} has the parent {layer!r:.80},"
                " which is not in it"
            )
        if len(chain) >= min(MAX_LAYERS, len(parents)):
            raise InvalidManifestError(
                f"{archive.what}: the parents of layer {top} go in a circle, or are too many"
            )
        chain.append(layer)
        layer = parents[layer]
    return tuple(reversed(chain))


def _description(archive: Archive, layer: str) -> dict[str, Any]:
    return _read(archive, f"{layer}/json")


def _read(archive: Archive, name: str) -> dict[str, Any]:
    what = f"{name} in {archive.what}"
    value = strictjson.loads(archive.read(name, _MAX_JSON), what, cap=_MAX_JSON)
    return strictjson.as_object(value, what)


def _history(step: dict[str, Any]) -> dict[str, Any]:
    entry = {key: step[key] for key in ("created", "author", "comment") if step.get(key)}
    container = step.get("container_config")
    command = container.get("Cmd") if isinstance(container, dict) else None
    if isinstance(command, list) and command:
        entry["created_by"] = " ".join(str(word) for word in command)
    return entry
