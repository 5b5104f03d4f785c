"""The NDJSON events, and the page that documents them."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

from kstore.copier.progress import Event, EventKind, How
from kstore.digest import Digest

PAGE = Path(__file__).resolve().parents[3] / "contrib" / "docs" / "progress.md"
EVERYTHING = Event(
    "retry", Digest.of(b"x"), size=1, done=0, how="copied", blob="layer", pid=1, text="reason"
)


def rows(section: str) -> dict[str, str]:
    """The first cell of each row of a section's table, and the rest of the row."""
    text = PAGE.read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", text, re.M))


def test_every_event_is_documented_and_no_other() -> None:
    assert list(rows("Events")) == list(get_args(EventKind))


def test_every_field_is_documented_and_no_other() -> None:
    documented = list(rows("Fields"))
    assert documented == list(EVERYTHING.to_json())
    assert len(documented) == len(fields(Event))


def test_the_fields_of_an_event_are_known_ones() -> None:
    named = set(re.findall(r"`(\w+)`", " ".join(row.rpartition("|")[2] for row in
                                                rows("Events").values())))  # fmt: skip
    assert named == set(rows("Fields")) - {"event"}


def test_every_way_a_blob_came_to_be_there_is_documented() -> None:
    assert re.findall(r"`(\w+)`:", rows("Fields")["how"]) == list(get_args(How))


def test_what_does_not_apply_is_left_out_and_zero_is_not() -> None:
    digest = Digest.of(b"x")
    assert Event("start", digest, size=5, done=0).to_json() == {
        "event": "start",
        "digest": str(digest),
        "size": 5,
        "done": 0,
    }
