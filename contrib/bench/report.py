"""The results as a page: the machine, then one table for each kind of work."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contrib.bench.timing import Summary

BASE = "kstore"  # the tool that ratios refer to


@dataclass(frozen=True, slots=True)
class Row:
    """One tool doing one thing; ``failure`` where it could not be measured."""

    tool: str
    summary: Summary | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Tools side by side at the same work."""

    title: str
    rows: tuple[Row, ...]


def render(tables: Sequence[Table], versions: Sequence[str], scratch: Path, command: str) -> str:
    """The whole page, in Markdown."""
    lines = [
        "# Measured",
        "",
        f"Written by `{command}`. Tools run in turn, every run with a fresh destination, against",
        "docker-registry on loopback with a warm page cache; only results that were checked (the",
        "digest of what arrived) are counted. Wall clock, user and system are medians in seconds,",
        "memory is the highest peak in MiB. Ratio: the tool's wall clock over kstore's, so 2.00x",
        "is twice as slow as kstore.",
        "",
        *(f"- {line}" for line in [*_machine(scratch), *versions]),
    ]
    for table in tables:
        lines += ["", *_table(table)]
    return "\n".join(lines) + "\n"


def _table(table: Table) -> list[str]:
    base = next((row.summary for row in table.rows if row.tool == BASE), None)
    lines = [
        f"## {table.title}",
        "",
        "| tool | runs | wall | fastest | slowest | user | system | memory | ratio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.rows:
        if (done := row.summary) is None:
            lines.append(f"| {row.tool} | 0 | {row.failure} | | | | | | |")
            continue
        ratio = f"{done.wall / base.wall:.2f}x" if base else ""
        cells = [
            *(f"{value:.3f}" for value in (done.wall, done.fastest, done.slowest)),
            *(f"{value:.2f}" for value in (done.user, done.system)),
            f"{done.memory:.0f}",
            ratio,
        ]
        lines.append(f"| {row.tool} | {done.runs} | {' | '.join(cells)} |")
    return lines


def _machine(scratch: Path) -> list[str]:
    model = _first(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo")) or platform.machine()
    memory = _first(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo"))
    system = _first(r'PRETTY_NAME="(.+)"', Path("/etc/os-release")) or platform.system()
    gibibytes = f", {int(memory) / (1 << 20):.1f} GiB memory" if memory else ""
    return [
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}; {os.cpu_count()} cores, {model}{gibibytes}",
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
