"""What cosign attaches to images: an image's form, statements for layers.

::

    attached = cosign_attachment(b"a statement")          # a TestImage, to be pushed under
    tag = cosign_tag(image.raw.digest, "att")              # ...this tag
"""

from __future__ import annotations

import json

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest
from tests.support.images import AMD64, TestImage

SIGNATURES = "application/vnd.dev.cosign.simplesigning.v1+json"
ATTESTATIONS = "application/vnd.dsse.envelope.v1+json"


def cosign_tag(subject: Digest, suffix: str) -> str:
    return f"{subject.algorithm}-{subject.hex}.{suffix}"


def cosign_attachment(statement: bytes, media_type: str = ATTESTATIONS) -> TestImage:
    """One statement, as cosign stores it."""
    layer = Descriptor(media_type, Digest.of(statement), len(statement), {"predicateType": "x"})
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = json.dumps(
        {"architecture": "", "os": "", "config": {}, "rootfs": rootfs, "history": [{}]}
    ).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": Descriptor(mt.OCI_CONFIG, Digest.of(config), len(config)).to_json(),
        "layers": [layer.to_json()],
    }
    return TestImage(
        raw=RawManifest.receive(json.dumps(document).encode(), mt.OCI_MANIFEST),
        blobs={Digest.of(data): data for data in (config, statement)},
        config=config,
        layers=(layer,),
        platform=AMD64,
    )
