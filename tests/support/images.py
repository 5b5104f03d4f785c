"""Small real images, made from a seed: the same seed gives the same bytes.

::

    image = random_image(1)                       # OCI, two gzip layers, linux/amd64
    image.raw                                     # the manifest, a RawManifest
    image.blobs[layer.digest]                     # config and layers by digest
    both = index_of([random_image(1), random_image(2, platform=Platform("linux", "arm64"))])
    write_oci_layout(tmp_path / "layout", {"v1": image})
"""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest
from kstore.platforms import Platform

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


@dataclass(frozen=True, slots=True)
class TestImage:
    """A manifest with every blob it needs; ``config`` is the config blob's bytes."""

    __test__: ClassVar[bool] = False  # the name would make pytest collect it

    raw: RawManifest
    blobs: Mapping[Digest, bytes] = field(hash=False, repr=False)
    config: bytes = field(repr=False)
    layers: tuple[Descriptor, ...]
    platform: Platform

    @property
    def id(self) -> str:
        """The image ID: hex of the config digest."""
        return Digest.of(self.config).hex


def random_image(
    seed: int,
    *,
    layers: int = 2,
    layer_size: int = 2000,
    docker: bool = False,
    compression: str = "gzip",
    platform: Platform | None = None,
    labels: Mapping[str, str] | None = None,
    created: str | None = "2024-01-02T03:04:05Z",
    subject: Descriptor | None = None,
) -> TestImage:
    """An image of ``layers`` real tars, each with one file of ``layer_size`` random bytes.

    ``compression`` is "gzip", "zstd" or "none" (not zstd with ``docker``).
    """
    chance = random.Random(seed)
    platform = platform or AMD64
    manifest_type = mt.DOCKER_MANIFEST if docker else mt.OCI_MANIFEST
    layer_type = mt.layer_type(manifest_type, compression)
    assert layer_type is not None, f"no layer type for {compression} in {manifest_type}"

    tars = [layer_tar({f"files/{n}": chance.randbytes(layer_size)}) for n in range(layers)]
    packed = [compress(tar, compression) for tar in tars]
    config = _json(_config(tars, platform, labels, created))
    config_type = mt.DOCKER_CONFIG if docker else mt.OCI_CONFIG
    descriptors = tuple(Descriptor(layer_type, Digest.of(blob), len(blob)) for blob in packed)
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": Descriptor(config_type, Digest.of(config), len(config)).to_json(),
        "layers": [descriptor.to_json() for descriptor in descriptors],
    }
    if subject is not None:
        document["subject"] = subject.to_json()
    return TestImage(
        raw=RawManifest.receive(_json(document), manifest_type),
        blobs={Digest.of(blob): blob for blob in (*packed, config)},
        config=config,
        layers=descriptors,
        platform=platform,
    )


def index_of(images: Sequence[TestImage], docker: bool = False) -> RawManifest:
    """An index (or Docker manifest list) of ``images``, each under its platform."""
    index_type = mt.DOCKER_LIST if docker else mt.OCI_INDEX
    members = [
        Descriptor(
            image.raw.media_type, image.raw.digest, len(image.raw.data), platform=image.platform
        ).to_json()
        for image in images
    ]
    document = {"schemaVersion": 2, "mediaType": index_type, "manifests": members}
    return RawManifest.receive(_json(document), index_type)


def random_artifact(
    seed: int, *, subject: Descriptor | None = None, artifact_type: str = "application/x.test"
) -> TestImage:
    """An OCI artifact: the empty config, one text blob, perhaps a ``subject`` it refers to."""
    config = b"{}"
    blob = f"artifact {seed}".encode()
    layer = Descriptor("text/plain", Digest.of(blob), len(blob))
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": Descriptor(mt.ARTIFACT_EMPTY, Digest.of(config), len(config)).to_json(),
        "layers": [layer.to_json()],
        "annotations": {"seed": str(seed)},
    }
    if subject is not None:
        document["subject"] = subject.to_json()
    return TestImage(
        raw=RawManifest.receive(_json(document), mt.OCI_MANIFEST),
        blobs={Digest.of(data): data for data in (config, blob)},
        config=config,
        layers=(layer,),
        platform=AMD64,
    )


def write_oci_layout(
    directory: Path,
    named: Mapping[str, TestImage | tuple[RawManifest, Sequence[TestImage]]],
) -> None:
    """Write an OCI image layout; each key becomes an ``org.opencontainers.image.ref.name``.

    A value is an image, or an index with those of its members that shall be present.
    """
    entries = []
    for name, value in named.items():
        raw, images = (value.raw, [value]) if isinstance(value, TestImage) else value
        for image in images:
            _write_blob(directory, image.raw.data)
            for blob in image.blobs.values():
                _write_blob(directory, blob)
        _write_blob(directory, raw.data)
        annotations = {"org.opencontainers.image.ref.name": name}
        descriptor = Descriptor(raw.media_type, raw.digest, len(raw.data), annotations)
        entries.append(descriptor.to_json())
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries}
    (directory / "index.json").write_bytes(_json(index))


def layer_tar(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed layer of regular files, parents first, reproducible."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        made: set[str] = set()
        for name, content in files.items():
            parts = name.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                parent = "/".join(parts[:depth])
                if parent not in made:
                    made.add(parent)
                    directory = tarfile.TarInfo(parent)
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(directory)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def compress(data: bytes, compression: str) -> bytes:
    """``data`` as one "gzip" or "zstd" stream, or as it is ("none"); reproducible."""
    if compression == "gzip":
        return gzip.compress(data, compresslevel=1, mtime=0)
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=1).compress(data)
    assert compression == "none", compression
    return data


def _config(
    tars: Sequence[bytes],
    platform: Platform,
    labels: Mapping[str, str] | None,
    created: str | None,
) -> dict[str, Any]:
    run: dict[str, Any] = {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]}
    if labels:
        run["Labels"] = dict(labels)
    when = {} if created is None else {"created": created}
    config: dict[str, Any] = {
        **when,
        "architecture": platform.architecture,
        "os": platform.os,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]},
        "history": [{**when, "created_by": f"layer {n}"} for n in range(len(tars))],
    }
    if platform.variant:
        config["variant"] = platform.variant
    return config


def _write_blob(directory: Path, data: bytes) -> None:
    path = directory / "blobs" / "sha256" / Digest.of(data).hex
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
