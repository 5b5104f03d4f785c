"""The images every transport is tried with: one program in every form an image can have.

Three layers of which two are the same, and a history with a step that made no layer.  Manifests are
indented, as docker writes them, so that bytes which were made anew cannot pass for the old ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest
from kstore.platforms import Platform
from tests.support.images import AMD64, ARM64, TestImage, compress, layer_tar

__all__ = ["CONFIG_OF", "FORMS", "IMAGES", "INDEXES", "make_image"]

#: Form to the type of manifest and the compression of its layers; Docker's type has no zstd.
FORMS: Mapping[str, tuple[str, str]] = {
    "OCI, plain": (mt.OCI_MANIFEST, "none"),
    "OCI, gzip": (mt.OCI_MANIFEST, "gzip"),
    "OCI, zstd": (mt.OCI_MANIFEST, "zstd"),
    "Docker, plain": (mt.DOCKER_MANIFEST, "none"),
    "Docker, gzip": (mt.DOCKER_MANIFEST, "gzip"),
}

#: The type of config each type of manifest has.
CONFIG_OF = {mt.OCI_MANIFEST: mt.OCI_CONFIG, mt.DOCKER_MANIFEST: mt.DOCKER_CONFIG}


def make_image(
    media_type: str, compression: str, platform: Platform = AMD64, *, size: int = 300
) -> TestImage:
    """The image in one form; ``size`` is about that of a layer, in bytes."""
    text = f"{platform.architecture}\n".encode()
    base = layer_tar({"etc/base": text + b"b" * size})
    tars = [base, layer_tar({"srv/app": text + b"a" * size}), base]
    packed = [compress(tar, compression) for tar in tars]
    layer_type = mt.layer_type(media_type, compression)
    assert layer_type is not None
    layers = tuple(Descriptor(layer_type, Digest.of(blob), len(blob)) for blob in packed)
    config = json.dumps(_config(tars, platform)).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": Descriptor(CONFIG_OF[media_type], Digest.of(config), len(config)).to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return TestImage(
        raw=_manifest(document),
        blobs={Digest.of(blob): blob for blob in (*packed, config)},
        config=config,
        layers=layers,
        platform=platform,
    )


def _config(tars: list[bytes], platform: Platform) -> dict[str, Any]:
    steps = [{"created_by": f"ADD layer {number}"} for number in range(len(tars))]
    return {
        "created": "2024-01-02T03:04:05Z",
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {"Cmd": ["/srv/app"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(tar)) for tar in tars]},
        "history": [steps[0], {"created_by": "ENV A=1", "empty_layer": True}, *steps[1:]],
    }


def _manifest(document: dict[str, Any]) -> RawManifest:
    data = json.dumps(document, indent=3).encode()
    return RawManifest.receive(data, document["mediaType"])


def _index(media_type: str, members: tuple[TestImage, ...]) -> RawManifest:
    entries = [
        Descriptor(
            member.raw.media_type, member.raw.digest, len(member.raw.data), platform=member.platform
        ).to_json()
        for member in members
    ]
    return _manifest({"schemaVersion": 2, "mediaType": media_type, "manifests": entries})


def _both(media_type: str) -> tuple[TestImage, ...]:
    return tuple(make_image(media_type, "gzip", platform) for platform in (AMD64, ARM64))


IMAGES: Mapping[str, TestImage] = {form: make_image(*how) for form, how in FORMS.items()}

#: An index of two platforms with its members, in both families.
INDEXES: Mapping[str, tuple[RawManifest, tuple[TestImage, ...]]] = {
    "OCI index": (_index(mt.OCI_INDEX, _both(mt.OCI_MANIFEST)), _both(mt.OCI_MANIFEST)),
    "Docker list": (_index(mt.DOCKER_LIST, _both(mt.DOCKER_MANIFEST)), _both(mt.DOCKER_MANIFEST)),
}
