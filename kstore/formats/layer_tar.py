"""Layer tars.

Source: POSIX.1-2017 pax, "ustar Interchange Format".
"""

from __future__ import annotations

__all__ = ["BLOCK", "looks_like_tar"]

#: Bytes of one tar block.
BLOCK = 512

_CHECKSUM = slice(148, 156)


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
    try:
        stated = int(block[_CHECKSUM].strip(b" \0") or b"x", 8)
    except ValueError:
        return False
    return stated == sum(block) - sum(block[_CHECKSUM]) + len(block[_CHECKSUM]) * ord(" ")
