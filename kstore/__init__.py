"""kstore: a local container image store.  No daemon, no root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from kstore.digest import Digest
    from kstore.errors import KstoreError
    from kstore.reference import Named
    from kstore.store import Store

__all__ = ["Digest", "KstoreError", "Named", "Store", "__version__"]

_HOMES = {
    "Digest": "kstore.digest",
    "KstoreError": "kstore.errors",
    "Named": "kstore.reference",
    "Store": "kstore.store",
}


def __getattr__(name: str) -> Any:
    """Load public names when they are first used: importing the package stays cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kstore' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """What there is to use, whether it was loaded already or not."""
    return list(__all__)
