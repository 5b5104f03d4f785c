"""Layers and images written down file by file.

::

    lower = layer(directory("etc"), file("etc/passwd", b"root"))
    upper = layer(file("etc/.wh.passwd"), symlink("etc/mtab", "/proc/mounts"))
    image = image_of(lower, upper)
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import RawManifest
from tests.support.images import AMD64, TestImage, compress

Member = tuple[tarfile.TarInfo, bytes]


def file(
    name: str,
    content: bytes = b"",
    *,
    mtime: int = 1000,
    mode: int = 0o644,
    xattrs: Mapping[str, str] | None = None,
) -> Member:
    """A regular file; ``mtime`` in seconds since 1970."""
    info = _info(name, tarfile.REGTYPE, mtime, mode)
    info.size = len(content)
    info.pax_headers = {f"SCHILY.xattr.{key}": text for key, text in (xattrs or {}).items()}
    return info, content


def directory(name: str, *, mtime: int = 1000, mode: int = 0o755) -> Member:
    return _info(name, tarfile.DIRTYPE, mtime, mode), b""


def symlink(name: str, target: str) -> Member:
    info = _info(name, tarfile.SYMTYPE, 1000, 0o777)
    info.linkname = target
    return info, b""


def hardlink(name: str, target: str) -> Member:
    info = _info(name, tarfile.LNKTYPE, 1000, 0o644)
    info.linkname = target
    return info, b""


def layer(*members: Member) -> bytes:
    """An uncompressed layer with exactly these members, in this order."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return output.getvalue()


def image_of(*layers: bytes, compression: str = "gzip", name: str = "image") -> TestImage:
    """An OCI image for linux/amd64 of these uncompressed layers, base first; ``name`` makes it
    another image than one of the same layers."""
    layer_type = mt.layer_type(mt.OCI_MANIFEST, compression)
    assert layer_type is not None
    packed = [compress(data, compression) for data in layers]
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"name": name}},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(data)) for data in layers]},
            "history": [{"created_by": f"step {number}"} for number in range(len(layers))],
        }
    )
    descriptors = tuple(Descriptor(layer_type, Digest.of(blob), len(blob)) for blob in packed)
    manifest = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": Descriptor(mt.OCI_CONFIG, Digest.of(config), len(config)).to_json(),
        "layers": [descriptor.to_json() for descriptor in descriptors],
    }
    return TestImage(
        raw=RawManifest.receive(_json(manifest), mt.OCI_MANIFEST),
        blobs={Digest.of(blob): blob for blob in (*packed, config)},
        config=config,
        layers=descriptors,
        platform=AMD64,
    )


def _info(name: str, kind: bytes, mtime: int, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mtime, info.mode = kind, mtime, mode
    return info


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
