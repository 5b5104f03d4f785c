"""About this machine, this store and this kstore."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
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
    memory = _memory()
    return StoreInfo(
        host={
            "os": host.os,
            "arch": host.architecture,
            "variant": host.variant,
            "cpus": os.cpu_count(),
            "mem_total": memory.get("MemTotal"),
            "mem_free": memory.get("MemFree"),
            "swap_total": memory.get("SwapTotal"),
            "swap_free": memory.get("SwapFree"),
            "uptime_seconds": _uptime(),
            "kernel": platform.release(),
            "hostname": platform.node(),
            "rootless": os.geteuid() != 0,
        },
        store=store.facts(),
        versions=versions(),
    )


def _memory() -> dict[str, int]:
    """Bytes of memory by the kernel's names for them; empty where it does not tell."""
    found: dict[str, int] = {}
    for line in _kernel_says("meminfo").splitlines():
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0]) * 1024
    return found


def _uptime() -> int | None:
    first = _kernel_says("uptime").partition(".")[0]
    return int(first) if first.isdecimal() else None


def _kernel_says(name: str) -> str:
    """A small file of /proc; "" where there is none."""
    try:
        with (Path("/proc") / name).open(encoding="ascii", errors="replace") as file:
            return file.read(64 * 1024)
    except OSError:
        return ""


def versions() -> dict[str, str]:
    """Versions of kstore and what it stands on."""
    import sqlite3

    return {
        "kstore": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "platform": str(host_platform()),
    }
