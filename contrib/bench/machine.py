"""The machine, the checkout and the programs, in words."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from contrib.bench.checks import run
from contrib.bench.results import Origin
from contrib.bench.timing import RunError
from contrib.bench.tools.kstore import REPOSITORY

_TOOLS = ("skopeo", "podman", "buildah")


def origin(scratch: Path, kstore: Path, commit: str | None, arguments: Sequence[str]) -> Origin:
    """Where this is measured, with the program ``kstore`` of ``commit`` (None: the checkout)."""
    return Origin(
        commit=_commit(commit),
        date=f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M}",
        machine=(*_machine(scratch), *_versions(kstore)),
        command=" ".join(["contrib/bench/run.py", *arguments]),
    )


def _commit(named: str | None) -> str:
    """The short name; of the checkout, with ``+`` where the package has uncommitted changes."""
    git = ["git", "-C", str(REPOSITORY)]
    try:
        commit = run([*git, "rev-parse", "--short", named or "HEAD"]).strip()
        changed = run([*git, "status", "--porcelain", "--", "kstore"]).strip()
    except RunError:
        return "not known"
    return f"{commit}+" if changed and named is None else commit


def _versions(kstore: Path) -> list[str]:
    lines = [run([tool, "--version"]).strip() for tool in (str(kstore), *_TOOLS)]
    curl = run(["curl", "--version"]).split()
    registry = run(["docker-registry", "--version"]).split()
    return [*lines, " ".join(curl[:2]), f"docker-registry {registry[-1]}"]


def _machine(scratch: Path) -> list[str]:
    model = _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.machine()
    memory = _first(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo"))
    system = _first(r'PRETTY_NAME="(.+)"', Path("/etc/os-release")) or platform.system()
    gibibytes = f", {int(memory) / (1 << 20):.1f} GiB memory" if memory else ""
    return [
        f"{os.cpu_count()} cores, {model}{gibibytes}",
        f"{system}, Linux {platform.release()}, scratch files on {_file_system(scratch)}, "
        f"{'root' if os.geteuid() == 0 else 'not root'}",
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}",
    ]


def _first(pattern: str, file: Path) -> str | None:
    found = re.search(pattern, file.read_text(errors="replace")) if file.exists() else None
    return found[1].strip() if found else None


def _file_system(path: Path) -> str:
    """The type of the file system that holds ``path``: that of its longest mount point."""
    best, kind = "", "an unknown file system"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, found, *_ = line.split()
        inside = place == "/" or f"{path.resolve()}/".startswith(f"{place}/")
        if inside and len(place) >= len(best):
            best, kind = place, found
    return kind
