"""Writes an image into an OCI layout of its own; layers are compressed and hashed on the way."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
CREATED = "2024-01-02T03:04:05Z"
TAG = "latest"

LayerWriter = Callable[[BinaryIO], None]  # writes one uncompressed layer tar


@dataclass(frozen=True, slots=True)
class BuiltLayer:
    """A compressed layer in the layout, and the digest and size of the tar inside."""

    digest: str
    size: int  # bytes, compressed
    diff_id: str
    unpacked: int  # bytes of the tar


def build(
    layout: Path,
    layers: Sequence[LayerWriter],
    *,
    level: int = 6,
    labels: Mapping[str, str] | None = None,
) -> str:
    """Writes an image of ``layers`` into the new layout ``layout``; its manifest's digest."""
    if (layout / "index.json").exists():
        index = json.loads((layout / "index.json").read_bytes())
        return str(index["manifests"][0]["digest"])
    layout.parent.mkdir(parents=True, exist_ok=True)
    with renamed_when_done(layout) as unfinished:
        (unfinished / "blobs" / "sha256").mkdir(parents=True)
        built = [_write_layer(unfinished, writer, level) for writer in layers]
        return _write_documents(unfinished, built, labels)


def _write_layer(layout: Path, writer: LayerWriter, level: int) -> BuiltLayer:
    temporary = layout / "layer"
    with temporary.open("wb") as file:
        compressed = _Hashing(file)
        # An own file object, so that neither a name nor a date gets into the gzip header.
        with gzip.GzipFile("", "wb", level, cast(IO[bytes], compressed), mtime=0) as packer:
            tar = _Hashing(packer)
            writer(cast(BinaryIO, tar))
    digest = compressed.hash.hexdigest()
    temporary.rename(layout / "blobs" / "sha256" / digest)
    return BuiltLayer(
        f"sha256:{digest}", compressed.count, f"sha256:{tar.hash.hexdigest()}", tar.count
    )


def _write_documents(
    layout: Path, layers: Sequence[BuiltLayer], labels: Mapping[str, str] | None
) -> str:
    run: dict[str, Any] = {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["/bin/sh"]}
    config = {
        "created": CREATED,
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64"),
        "os": "linux",
        "config": {**run, "Labels": dict(labels)} if labels else run,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": CREATED, "created_by": f"layer {n}"} for n in range(len(layers))],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _write_blob(layout, config, OCI_CONFIG),
        "layers": [
            {"mediaType": OCI_LAYER_GZIP, "digest": layer.digest, "size": layer.size}
            for layer in layers
        ],
    }
    entry = _write_blob(layout, manifest, OCI_MANIFEST)
    entry["annotations"] = {"org.opencontainers.image.ref.name": TAG}
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (layout / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    return str(entry["digest"])


def _write_blob(layout: Path, document: dict[str, Any], media_type: str) -> dict[str, Any]:
    data = _json(document)
    digest = hashlib.sha256(data).hexdigest()
    (layout / "blobs" / "sha256" / digest).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


class _Hashing:
    """A file that is written to, and hashed and counted on the way."""

    def __init__(self, below: BinaryIO | gzip.GzipFile) -> None:
        self._below = below
        self.hash = hashlib.sha256()
        self.count = 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.count += len(data)
        self._below.write(data)
        return len(data)

    def flush(self) -> None:
        self._below.flush()


@contextmanager
def renamed_when_done(path: Path) -> Iterator[Path]:
    """A private name beside ``path`` (a folder or a file is made there) that becomes it."""
    with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as place:
        unfinished = Path(place, path.name)
        yield unfinished
        if not path.exists():
            unfinished.rename(path)
