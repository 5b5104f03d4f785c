"""Images as large as real ones, in OCI layouts that kstore's own code had no part in making.

::

    built = build("debian", tmp_path)            # "python-app", "sixty-layers", "two-platforms"
    built.layout, built.digest, built.image_id

Debian's root file system is made once and kept in ``KSTORE_TEST_CACHE``.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from contrib.bench import images, layout
from tests.support.images import AMD64, ARM64, index_of, random_image, write_oci_layout

__all__ = ["Built", "build", "read_built"]

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Built:
    """An image as it was made: where, its manifest and its blobs (digest -> size in bytes).

    Of an index it is the first member that has an ID and blobs.
    """

    layout: Path
    manifest: bytes
    digest: str
    image_id: str
    blobs: dict[str, int]


def build(name: str, room: Path) -> Built:
    """Make an image in ``room / "built"``; skips the test where that is not possible."""
    directory = room / "built"
    match name:
        case "debian":
            images.debian(directory, _root_tar(room), level=1)
        case "python-app":
            _python_app(directory)
        case "sixty-layers":
            images.tiny(directory, layers=60)
        case "two-platforms":
            members = [random_image(1, platform=AMD64), random_image(2, platform=ARM64)]
            write_oci_layout(directory, {"latest": (index_of(members), members)})
        case _:
            raise ValueError(name)
    return read_built(directory)


def _root_tar(room: Path) -> Path:
    """Debian's root file system: the cached one, made now where it can be made."""
    cache = Path(os.environ.get("KSTORE_TEST_CACHE", room / "cache"))
    try:
        return images.root_tar(cache / "debian-root.tar")
    except (images.BuildError, OSError) as error:
        pytest.skip(f"no Debian root file system: {error}")


def _python_app(directory: Path) -> None:
    """Five layers, more than 400 MB unpacked: an interpreter, its packages, libraries, an app."""
    layers = [
        images.standard_library(),
        images.site_packages(),
        images.binary(1, size=230 * _MEBIBYTE, path="usr/lib/libbig.so"),
        images.binary(2, size=130 * _MEBIBYTE, path="usr/lib/libsecond.so"),
        images.generated(3, files=300, size=4000, prefix="srv/app"),
    ]
    layout.build(directory, layers, level=1)


def read_built(directory: Path) -> Built:
    """The only image of a layout."""
    (entry,) = json.loads((directory / "index.json").read_bytes())["manifests"]
    digest, raw = entry["digest"], _blob(directory, entry["digest"])
    document = json.loads(raw)
    if "manifests" in document:
        document = json.loads(_blob(directory, document["manifests"][0]["digest"]))
    blobs = {blob["digest"]: blob["size"] for blob in [document["config"], *document["layers"]]}
    image_id = document["config"]["digest"].removeprefix("sha256:")
    return Built(directory, raw, digest, image_id, blobs)


def _blob(directory: Path, digest: str) -> bytes:
    data = (directory / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data
