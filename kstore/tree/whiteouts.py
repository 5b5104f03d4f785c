"""Names in a layer that mean a removal.

Source: OCI image specification 1.1 ``layer.md``, section "Whiteouts".
"""

from __future__ import annotations

from typing import Final

__all__ = ["OPAQUE", "WHITEOUT", "is_reserved", "removed_name"]

#: ``.wh.NAME`` means that NAME of the layers below is gone.
WHITEOUT: Final = ".wh."
#: In a directory: everything the layers below have in it is gone.
OPAQUE: Final = ".wh..wh..opq"


def removed_name(name: str) -> str | None:
    """What a whiteout called ``name`` removes; None for an ordinary or a reserved name."""
    if not name.startswith(WHITEOUT) or is_reserved(name):
        return None
    return name[len(WHITEOUT) :]


def is_reserved(name: str) -> bool:
    """Whether a name means neither a file nor the removal of one: ``.wh.`` and ``.wh..wh.*``."""
    return name in (WHITEOUT, WHITEOUT + ".", WHITEOUT + "..") or name.startswith(WHITEOUT * 2)
