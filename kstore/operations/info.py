"""About this machine, this store and this kstore."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kstore import __version__
from kstore.platforms import host_platform
from kstore.store import Store, StoreFacts
from kstore.values import dataclass

__all__ = ["LIBRARIES", "StoreInfo", "store_info", "versions"]

#: What kstore needs, by the names of the packages.
LIBRARIES = (
    *("PyYAML", "click", "cryptography", "isal", "platformdirs", "pynacl", "python-gnupg", "rich"),
    *("sqlite-utils", "urllib3", "xattr", "zstandard"),
)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """Facts about host, store and versions; sizes in bytes.  ``debug``: how this kstore is made
    up, None where that was not asked for."""

    host: dict[str, Any]
    store: StoreFacts
    versions: dict[str, str]
    debug: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """All facts by section, sizes in bytes, times in seconds."""
        facts = {"host": self.host, "store": asdict(self.store), "versions": self.versions}
        return facts if self.debug is None else {**facts, "debug": self.debug}


def store_info(store: Store, *, debug: bool = False) -> StoreInfo:
    """What ``kstore info`` shows; with ``debug``, what a report of a defect should tell, too."""
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
        debug=_debug() if debug else None,
    )


def _debug() -> dict[str, Any]:
    return {
        "implementation": platform.python_implementation(),
        "compiler": platform.python_compiler(),
        "libraries": {name: _library_version(name) for name in LIBRARIES},
    }


def _library_version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # it may come without its papers, or not at all
        return None


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
