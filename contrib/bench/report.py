"""The results as a page: the machine, the goals, then one table for each kind of work."""

from __future__ import annotations

from collections.abc import Sequence

from contrib.bench.bench import OWN
from contrib.bench.goals import all_goals
from contrib.bench.reasons import REASONS
from contrib.bench.results import Measured, Row, Table

_INTRODUCTION = """\
# Measured

Written by `contrib/bench/run.py`. Tools run in turn; transfers have a fresh destination every
time, and go to and from docker-registry on loopback with a warm page cache. Only results that were
checked (the digest of what arrived) are counted. Wall clock, user and system are medians in
seconds, memory is the highest peak of the resident set in MB (1,000,000 bytes). Ratio: the tool's
wall clock over kstore's, so 2.00x is twice as slow as kstore. The limit of a pull is `curl -Z` of
its blobs and then `openssl dgst -sha256` of the files."""

_COLUMNS = ("wall", "fastest", "slowest", "user", "system", "memory", "ratio")


_ORDER = (
    *("pull", "push", "again", "images", "filter", "tag", "untag"),
    *("find", "commit"),
    *("save", "load", "copy-oci", "copy-dir", "gzip"),
    "configured",
)


def render(found: Sequence[Measured]) -> str:
    """The whole page, in Markdown, of at least one table; the last is the one measured last."""
    lines = [_INTRODUCTION, "", *_origins(found), "", *_goals(found)]
    for each in sorted(found, key=_position):
        lines += ["", *_table(each.table), "", _footnote(each)]
    return "\n".join(lines) + "\n"


def _position(measured: Measured) -> tuple[int, int]:
    stem, _, about = measured.table.key.rpartition("-")
    return _ORDER.index(stem), int(about) if about.isdecimal() else 0


def _origins(found: Sequence[Measured]) -> list[str]:
    latest = found[-1].origin
    commits = list(dict.fromkeys(each.origin.commit for each in found))
    lines = [f"- {line}" for line in latest.machine]
    if any(each.origin.machine != latest.machine for each in found):
        lines.append("- some tables are of another machine, or of other versions")
    lines.append(f"- commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}")
    if runs := [done.runs for each in found if (done := each.table.summary(OWN))]:
        lines.append(f"- kstore ran at least {min(runs)} times in every table")
    if few := sorted({name for each in found for name in _run_less(each.table)}):
        lines.append(f"- {', '.join(few)} had fewer runs than kstore at heavy work (column runs)")
    seconds = sum(each.table.seconds for each in found)
    lines.append(f"- measuring took {seconds / 60:.0f} minutes, without preparations")
    return lines


def _run_less(table: Table) -> list[str]:
    own = table.summary(OWN)
    rows = [(row.tool, row.summary) for row in table.rows]
    return [tool for tool, done in rows if own and done and done.runs < own.runs]


def _goals(found: Sequence[Measured]) -> list[str]:
    lines = ["## Goals", "", "| goal | limit | measured | |", "|---|--:|--:|---|"]
    missed: dict[str, list[str]] = {}
    for goal in all_goals():
        value = goal.value(found)
        shown = "" if value is None else f"{value:.3g} {goal.unit}"
        verdict = "not measured" if value is None else "met" if goal.met(value) else "**missed**"
        lines.append(f"| {goal.text} | {goal.bound} | {shown} | {verdict} |")
        if value is not None and not goal.met(value):
            missed.setdefault(_reason(goal.text), []).append(goal.text)
    if missed:
        lines += ["", "### Why goals are missed"]
    for reason, texts in missed.items():
        lines += ["", f"**{'; '.join(texts)}.** {reason}"]
    return lines


def _reason(text: str) -> str:
    """The reason under the longest start of a goal's text."""
    known = [start for start in REASONS if text.startswith(start)]
    return REASONS[max(known, key=len)] if known else "The reason is not known yet."


def _table(table: Table) -> list[str]:
    results = any(row.summary and row.summary.result for row in table.rows)
    columns = ["runs", *_COLUMNS, *(["MB/s"] if table.size else []), *(["MB out"] * results)]
    lines = [
        f"## {table.title}",
        "",
        f"| tool | {' | '.join(columns)} |",
        f"|---|{'--:|' * len(columns)}",
    ]
    for row in table.rows:
        cells = _cells(table, row, results)
        lines.append(f"| {' | '.join([row.tool, *cells, *[''] * (len(columns) - len(cells))])} |")
    return lines


def _cells(table: Table, row: Row, results: bool) -> list[str]:
    base = table.summary(OWN)
    if (done := row.summary) is None:
        return ["0", row.failure or "not measured"]
    cells = [
        str(done.runs),
        *(f"{value:.3f}" for value in (done.wall, done.fastest, done.slowest)),
        *(f"{value:.2f}" for value in (done.user, done.system)),
        f"{done.memory:.0f}",
        f"{done.wall / base.wall:.2f}x" if base else "",
    ]
    if table.size:
        cells.append(f"{table.size / 1e6 / done.wall:.0f}")
    if results:
        cells.append("" if done.result is None else f"{done.result / 1e6:.1f}")
    return cells


def _footnote(measured: Measured) -> str:
    origin = measured.origin
    return f"Commit {origin.commit}, {origin.date}, {measured.table.seconds:.0f} s."
