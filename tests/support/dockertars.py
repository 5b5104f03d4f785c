"""Archives in the forms ``docker save`` had over the years, made from test images.

::

    path.write_bytes(tar_of(modern_docker({"app:1": image})))     # Docker 25 and later
    path.write_bytes(tar_of(middle_docker({"app:1": image})))     # Docker 1.10 to 24
    path.write_bytes(tar_of(legacy_docker({"app:1": image})))     # before

Each gives the files by name, in order, to be changed before :func:`tar_of` packs them.  A name may
be a tag, several separated by a space, or empty.  Images are best made with ``compression="none"``.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from tests.support.images import TestImage


@dataclass(frozen=True)
class Link:
    """A link to ``target``: symbolic, or hard."""

    target: str
    hard: bool = False


Files = dict[str, bytes | Link]


def tar_of(files: Mapping[str, bytes | Link] | Iterable[tuple[str, bytes | Link]]) -> bytes:
    """A tar of ``files``; pairs may name one file twice, and a name may be anything."""
    output = io.BytesIO()
    pairs = files.items() if isinstance(files, Mapping) else files
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            if isinstance(content, Link):
                info.type = tarfile.LNKTYPE if content.hard else tarfile.SYMTYPE
                info.linkname = content.target
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def modern_docker(images: Mapping[str, TestImage]) -> Files:
    """``manifest.json`` beside an OCI layout that holds the same blobs and the manifests."""
    files: Files = {}
    listed, members = [], []
    for tags, image in images.items():
        for digest, data in image.blobs.items():
            files[f"blobs/sha256/{digest.hex}"] = data
        files[f"blobs/sha256/{image.raw.digest.hex}"] = image.raw.data
        listed.append(_entry(f"blobs/sha256/{image.id}", tags, _layer_files(image)))
        members += [_member(image, tag) for tag in tags.split() or [None]]
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": members}
    files["index.json"] = dump(index)
    files["manifest.json"] = dump(listed)
    files["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    return files


def middle_docker(images: Mapping[str, TestImage]) -> Files:
    """``manifest.json``, configs by digest, layers in directories of their own; a layer that two
    images share is a symbolic link in the second, as podman and docker write it."""
    files: Files = {}
    listed = []
    first: dict[Digest, str] = {}
    for tags, image in images.items():
        files[f"{image.id}.json"] = image.config
        layers = []
        for number, layer in enumerate(image.layers):
            folder = Digest.of(f"{image.id} {number}".encode()).hex
            name = f"{folder}/layer.tar"
            layers.append(name)
            files[f"{folder}/VERSION"] = b"1.0"
            shared = first.setdefault(layer.digest, name)
            files[name] = image.blobs[layer.digest] if shared == name else Link(f"../{shared}")
        listed.append(_entry(f"{image.id}.json", tags, layers))
    files["manifest.json"] = dump(listed)
    return files


def legacy_docker(images: Mapping[str, TestImage]) -> Files:
    """``repositories``, and a directory with ``json`` and ``layer.tar`` for each layer."""
    files: Files = {}
    repositories: dict[str, dict[str, str]] = {}
    for tags, image in images.items():
        parent: str | None = None
        config = json.loads(image.config)
        for number, layer in enumerate(image.layers):
            own = Digest.of(f"{parent} {layer.digest}".encode()).hex
            top = number == len(image.layers) - 1
            description: dict[str, Any] = {
                "id": own,
                "created": f"2014-01-0{number + 1}T00:00:00Z",
                "container_config": {"Cmd": ["/bin/sh", "-c", f"step {number}"]},
                "Size": layer.size,
            }
            if parent is not None:
                description["parent"] = parent
            if top:
                description |= {"config": config["config"], "docker_version": "1.5.0"}
            files[f"{own}/VERSION"] = b"1.0"
            files[f"{own}/json"] = dump(description)
            files[f"{own}/layer.tar"] = image.blobs[layer.digest]
            parent = own
        for tag in tags.split():
            repository, _, name = tag.rpartition(":")
            assert parent is not None, "an image without layers has no legacy form"
            repositories.setdefault(repository, {})[name] = parent
    if repositories:
        files["repositories"] = dump(repositories)
    return files


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _entry(config: str, tags: str, layers: list[str]) -> dict[str, Any]:
    return {"Config": config, "RepoTags": tags.split() or None, "Layers": layers}


def _layer_files(image: TestImage) -> list[str]:
    return [f"blobs/sha256/{layer.digest.hex}" for layer in image.layers]


def _member(image: TestImage, tag: str | None) -> dict[str, Any]:
    annotations = {} if tag is None else {"io.containerd.image.name": f"docker.io/library/{tag}"}
    raw = image.raw
    return Descriptor(raw.media_type, raw.digest, len(raw.data), annotations).to_json()
