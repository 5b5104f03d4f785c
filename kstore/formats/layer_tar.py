"""Tar archives: what a layer is made of, and what several transports keep images in.

Source: POSIX.1-2017 pax, "ustar Interchange Format".
"""

from __future__ import annotations

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
    "looks_like_tar",
]


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
