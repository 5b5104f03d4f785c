"""The fault matrix of ``contrib/docs/reliability.md`` names tests that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.faults.figures import PARTS, replaced
from tests.faults.hostile import ARCHIVES
from tests.faults.races import RACES
from tests.faults.scenes import FETCHES, OPERATIONS, REPAIRS
from tests.faults.sweeps import faults_of
from tests.faults.test_limits import CLOCKS
from tests.support.powercuts import DISKS

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "contrib" / "docs" / "reliability.md").read_text()

_COMMANDS = {operation.name for operation in OPERATIONS}
_REPAIRED = {operation.name for operation in REPAIRS}
#: What may stand in the brackets behind a short name.
TRIED_WITH = {
    "calls": {
        f"{operation}-{fault}"
        for operation in (*OPERATIONS, *REPAIRS, *FETCHES)
        for fault in faults_of(operation)
    },
    "cut": {f"{disk}-{command}" for disk in DISKS for command in _COMMANDS | _REPAIRED},
    "size": (_COMMANDS | _REPAIRED) - {"push", "check"},
    "clock": {f"{clock}-{command}" for clock in CLOCKS for command in _COMMANDS | _REPAIRED},
    **dict.fromkeys(("page", "gone"), _COMMANDS),
    **dict.fromkeys(("prune", "many", "foreign", "network"), _COMMANDS | _REPAIRED),
    "archive": set(ARCHIVES),
    "race": set(RACES),
}


def functions() -> Iterator[tuple[str, str]]:
    """Every test function with its file."""
    for path in (PROJECT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield str(path.relative_to(PROJECT)), node.name


def test_every_test_that_is_named_exists() -> None:
    there = {name for _, name in functions()}
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert named - there == set()
    assert len(named) > 30


def test_every_short_name_stands_for_a_test() -> None:
    legend = dict(re.findall(r"\| `(\w+)` \| `(tests/[\w/.:]+)` \|", TEXT))
    assert set(legend) == set(TRIED_WITH)
    there = {f"{file}::{name}" for file, name in functions()}
    assert set(legend.values()) <= there


def test_every_cell_is_a_test_or_a_dash() -> None:
    tables = TEXT.partition("### The machine")[2].partition("### Tests that can fail")[0]
    lines = [line for line in tables.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    columns = {len(row) for row in rows}
    assert columns == {2, 5, 6, 7}
    cells = [cell for row in rows for cell in row[1:] if any("`" in other for other in row)]
    assert [cell for cell in cells if cell != "-" and not cell.startswith("`")] == []


def test_every_parameter_in_the_tables_is_one_and_all_are_there() -> None:
    used: dict[str, set[str]] = {short: set() for short in TRIED_WITH}
    for short, tried in re.findall(r"`(\w+)\[([^\]`]+)\]`", TEXT):
        assert tried in TRIED_WITH[short], f"{short}[{tried}]"
        used[short].add(tried)
    for short in set(TRIED_WITH) - {"archive"}:
        assert used[short] == TRIED_WITH[short], f"not in the tables: {short}"


def test_every_figure_has_a_place_and_takes_no_other_ones() -> None:
    text = TEXT
    for part in PARTS:
        text = replaced(text, part, [f"measured: {part}"])
    for part in PARTS:
        assert text.count(f"measured: {part}\n") == 1
    assert text.partition("## Figures")[0] == TEXT.partition("## Figures")[0]
    assert text.partition("## What is not")[2] == TEXT.partition("## What is not")[2]
