"""About this machine, this store and this kstore."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

from kstore import __version__
from kstore.platforms import host_platform
from kstore.store import Store, StoreFacts

__all__ = ["StoreInfo", "store_info", "versions"]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """Facts about host, store and versions; sizes in bytes."""

    host: dict[str, Any]
    store: StoreFacts
    versions: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        return {"host": self.host, "store": asdict(self.store), "versions": self.versions}


def store_info(store: Store) -> StoreInfo:
    """What ``kstore info`` shows."""
    host = host_platform()
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return StoreInfo(
        host={
            "os": host.os,
            "arch": host.architecture,
            "variant": host.variant,
            "cpus": os.cpu_count(),
            "mem_total": pages * page,
            "kernel": platform.release(),
            "hostname": platform.node(),
            "rootless": os.geteuid() != 0,
        },
        store=store.facts(),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of kstore and what it stands on."""
    import sqlite3

    return {
        "kstore": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": str(host_platform()),
    }
