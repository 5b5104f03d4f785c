"""Tar archives: what a layer is made of, and what several transports keep images in.

Source: POSIX.1-2017 pax, "ustar Interchange Format".
"""

from __future__ import annotations

import re

from kstore.formats.tar_headers import BLOCK, EntryKind, TarEntry, TarLimits, checksum_holds
from kstore.formats.tar_reader import TarReader
from kstore.formats.tar_writer import TarWriter

__all__ = [
    "BLOCK",
    "EntryKind",
    "TarEntry",
    "TarLimits",
    "TarReader",
    "TarWriter",
    "looks_like_images",
    "looks_like_tar",
]

_NAME_BYTES = 100  # the field at the beginning of a header
#: What comes first in archives that docker, podman, skopeo and kstore save images to.
_OF_IMAGES = re.compile(
    rb"(\./)?(blobs(/.*)?|oci-layout|(index|manifest)\.json|[0-9a-f]{64}(\.tar|\.json|/.*)?)",
    re.DOTALL,
)


def looks_like_tar(start: bytes) -> bool:
    """Whether ``start`` (the first block of a file) begins a tar archive.

    A header counts if its checksum is right, the only mark that every tar dialect has; an empty
    archive is two blocks of zeros.
    """
    block = start[:BLOCK]
    if len(block) < BLOCK:
        return False
    if not any(block):
        return True
    return checksum_holds(block)


def looks_like_images(start: bytes) -> bool:
    """Whether a tar that begins with ``start`` may be an archive of images, by its first name."""
    return _OF_IMAGES.fullmatch(start[:_NAME_BYTES].partition(b"\0")[0]) is not None
