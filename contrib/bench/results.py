"""What was measured, as values and as JSON files: one for each table, so that a page can be
assembled from tables that were measured at different quiet moments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from contrib.bench.timing import Summary


@dataclass(frozen=True, slots=True)
class Row:
    """One tool doing one thing; ``failure`` where it could not be measured."""

    tool: str
    summary: Summary | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Tools side by side at the same work. ``size``: bytes that went in; ``seconds``: it took."""

    key: str
    title: str
    rows: tuple[Row, ...]
    size: int | None
    seconds: float

    def summary(self, tool: str) -> Summary | None:
        """What a tool took; None where it was not measured."""
        return next((row.summary for row in self.rows if row.tool == tool), None)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where and when a table was measured; equal for everything of one run."""

    commit: str
    date: str
    machine: tuple[str, ...]
    command: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A table and its origin."""

    table: Table
    origin: Origin


def keep(directory: Path, measured: Measured) -> None:
    """Writes a table's file, over what was measured before."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{measured.table.key}.json"
    unfinished = file.with_suffix(".new")
    unfinished.write_text(json.dumps(asdict(measured), indent=1))
    unfinished.rename(file)


def load(directory: Path) -> list[Measured]:
    """Every table that was kept, the earliest first."""
    files = sorted(directory.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    return [_read(file) for file in files]


def select(found: Sequence[Measured], key: str) -> Table | None:
    return next((each.table for each in found if each.table.key == key), None)


def _read(file: Path) -> Measured:
    document = json.loads(file.read_bytes())
    table, origin = document["table"], document["origin"]
    rows = tuple(
        Row(row["tool"], Summary(**row["summary"]) if row["summary"] else None, row["failure"])
        for row in table["rows"]
    )
    return Measured(
        Table(**{**table, "rows": rows}),
        Origin(**{**origin, "machine": tuple(origin["machine"])}),
    )
