"""Images in Docker's first manifest schema, signed or not.

::

    image = legacy_image(1, layers=2, throwaway=1)    # newest step first, as the schema wants it
    image.raw.media_type                              # mediatypes.DOCKER_SCHEMA1_SIGNED
    signed_document({"schemaVersion": 1, ...})        # bytes with a block of signatures
"""

from __future__ import annotations

import base64
import json
import random
from typing import Any

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest
from tests.support.images import AMD64, TestImage, compress, layer_tar

EMPTY_LAYER = compress(layer_tar({}), "gzip")


def legacy_document(blobs: list[tuple[bytes, bool]]) -> dict[str, Any]:
    """A schema 1 document of (compressed layer, throwaway) pairs, base first."""
    history, layers = [], []
    parent = None
    for number, (blob, throwaway) in enumerate(blobs):
        about: dict[str, Any] = {
            "id": f"{number + 1:064x}",
            "created": f"2015-01-02T03:04:{number:02}Z",
            "container_config": {"Cmd": ["/bin/sh", "-c", f"step {number}"]},
        }
        if parent is not None:
            about["parent"] = parent
        if throwaway:
            about["throwaway"] = True
        if number == len(blobs) - 1:
            about |= {
                "architecture": "amd64",
                "os": "linux",
                "docker_version": "1.9.1",
                "config": {"Cmd": ["/bin/app"], "Labels": {"old": "yes"}},
            }
        parent = about["id"]
        history.insert(0, {"v1Compatibility": json.dumps(about)})
        layers.insert(0, {"blobSum": str(Digest.of(blob))})
    return {
        "schemaVersion": 1,
        "name": "library/old",
        "tag": "v1",
        "architecture": "amd64",
        "fsLayers": layers,
        "history": history,
    }


def signed_document(document: dict[str, Any]) -> bytes:
    """The document with a (meaningless) signature, put in as docker did."""
    payload = json.dumps(document, indent=3).encode()
    tail = b"\n}"
    assert payload.endswith(tail)
    length = len(payload) - len(tail)
    protected = {"formatLength": length, "formatTail": _base64(tail), "time": "2015-01-02T03:04Z"}
    signature = {
        "header": {"alg": "ES256"},
        "signature": _base64(b"nobody checks this"),
        "protected": _base64(json.dumps(protected).encode()),
    }
    block = json.dumps([signature]).encode()
    return payload[:length] + b',\n   "signatures": ' + block + tail


def legacy_image(
    seed: int, *, layers: int = 2, throwaway: int = 1, signed: bool = True
) -> TestImage:
    """An image of ``layers`` real layers, followed by ``throwaway`` steps without one."""
    chance = random.Random(seed)
    tars = [layer_tar({f"files/{n}": chance.randbytes(1500)}) for n in range(layers)]
    packed = [compress(tar, "gzip") for tar in tars]
    document = legacy_document(
        [(blob, False) for blob in packed] + [(EMPTY_LAYER, True)] * throwaway
    )
    data = signed_document(document) if signed else json.dumps(document).encode()
    media_type = mt.DOCKER_SCHEMA1_SIGNED if signed else mt.DOCKER_SCHEMA1
    return TestImage(
        raw=RawManifest.receive(data, media_type),
        blobs={Digest.of(blob): blob for blob in packed},
        config=json.dumps([str(Digest.of(tar)) for tar in tars]).encode(),
        layers=tuple(Descriptor(mt.DOCKER_LAYER, Digest.of(blob), len(blob)) for blob in packed),
        platform=AMD64,
    )


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
