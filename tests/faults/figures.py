"""The figures of ``contrib/docs/reliability.md``, measured anew.

::

    python -m tests.faults.figures                          # on standard output; some minutes
    python -m tests.faults.figures --write                  # into the document, one after another
    python -m tests.faults.figures --write --only crowd,fuzz     # these; the others stay

How far it is, and every violation, is told on standard error.  Power cuts need root.
``KSTORE_TEST_SWEEP=all`` as for the tests; ``KSTORE_TEST_CROWD`` are seconds, ``KSTORE_TEST_FUZZ``
executions of each target.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.faults import costfigures, faultfigures
from tests.support.homes import move_into

__all__ = ["DOCUMENT", "PARTS", "main", "replaced"]

DOCUMENT = Path(__file__).resolve().parents[2] / "contrib" / "docs" / "reliability.md"

#: What can be measured, in the order of the document.
PARTS: Mapping[str, Callable[[Callable[[str], object]], Iterator[str]]] = {
    "calls": faultfigures.calls,
    "cuts": faultfigures.cuts,
    "hostile": faultfigures.hostile,
    "fuzz": faultfigures.fuzzing,
    "crowd": faultfigures.crowds,
    "transfer": costfigures.transfers,
    "repair": costfigures.repairs,
    "check": costfigures.check_speed,
}
_FOR_ROOT = frozenset({"cuts"})


def replaced(document: str, part: str, lines: list[str]) -> str:
    """The document with other figures in that part."""
    begin, end = f"<!-- figures: {part} -->\n", "<!-- end -->\n"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{DOCUMENT.name} has no place for {part}")
    return "".join([before, begin, "\n", *(f"{line}\n" for line in lines), "\n", end, after])


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not in {', '.join(PARTS)}")
    return [name for name in PARTS if name in names]


def main() -> None:
    """Measure, and print or write what was measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.figures")
    parser.add_argument("--write", action="store_true", help="into contrib/docs/reliability.md")
    parser.add_argument("--only", type=_parts, default=list(PARTS), metavar="PART,...")
    said = parser.parse_args()
    begun = time.monotonic()

    def tell(words: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - begun:4.0f} s] {part}: {words}\n")

    with tempfile.TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        move_into(Path(home), patch)
        for part in said.only:
            if part in _FOR_ROOT and os.geteuid() != 0:
                tell("left out, for it needs root")
                continue
            tell("begins")
            lines = list(PARTS[part](tell))
            if said.write:
                DOCUMENT.write_text(replaced(DOCUMENT.read_text(), part, lines))
            else:
                sys.stdout.write("\n".join([*lines, "", ""]))
            tell("done")


if __name__ == "__main__":
    main()
