"""``kstore log``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.completion import ImageName
from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import no_trunc_option
from kstore.cli.output import write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_age, short_id

if TYPE_CHECKING:
    from kstore.operations.name_log import LogEntry

__all__ = ["command"]

_FIELDS = (
    *("Place", "Name", "Number", "Target", "Old", "ID", "At", "Since", "Command", "Restorable"),
)
_TITLES = {"ID": "IMAGE ID", "Since": "WHEN"}


@declare(
    "log",
    examples=(
        ("kstore log busybox:latest", "what the name has meant"),
        ("kstore tag --restore 'busybox@{1}'", "what it meant before its last change"),
        ("kstore log -n 20", "the last changes of all names"),
    ),
)
@click.argument("name", type=ImageName(), metavar="[NAME]", required=False)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    metavar="COUNT",
    help="At most so many changes",
)
@no_trunc_option
@format_option(_FIELDS)
@pass_session
def command(
    session: Session, name: str | None, limit: int | None, no_trunc: bool, form: str | None
) -> None:
    """Show what a name pointed to over time, newest change first.

    NAME without a tag means every tag of the repository; without NAME, all names are shown.  An
    entry is called NAME@{N}, and 'kstore tag --restore' goes back to it while its content is in the
    store.
    """
    from kstore.operations.name_log import name_log

    shape = Form(form, _FIELDS)
    with session.open_store("log", read_only=True) as store:
        entries = name_log(store, name, limit)
    now = dt.datetime.now(dt.UTC)
    records = [_fields(entry, now) for entry in entries]
    if shape.given:
        shape.write_list(records, as_json=lambda: list(map(_json, entries)), titles=_TITLES)
        return
    write_table(
        ("NAME", "POINTED TO", "IMAGE ID", "WHEN", "COMMAND"),
        [
            (
                entry.place,
                _target(entry, no_trunc=no_trunc),
                _image(entry, no_trunc=no_trunc),
                human_age(entry.change.at, now),
                entry.change.command,
            )
            for entry in entries
        ],
    )


def _target(entry: LogEntry, *, no_trunc: bool) -> str:
    if entry.change.new is None:
        return "nothing"
    return str(entry.change.new) if no_trunc else entry.change.new.short


def _image(entry: LogEntry, *, no_trunc: bool) -> str:
    """The image ID where there is one; otherwise, in a word, why not."""
    if entry.change.new is None:
        return "-"
    if entry.manifest is None:
        return "gone"
    if entry.manifest.image_id is not None:
        return short_id(entry.manifest.image_id, full=no_trunc)
    return "index" if entry.manifest.is_index else "artifact"


def _fields(entry: LogEntry, now: dt.datetime) -> dict[str, Any]:
    change = entry.change
    return {
        "Place": entry.place,
        "Name": str(change.name),
        "Number": entry.number,
        "Target": None if change.new is None else str(change.new),
        "Old": None if change.old is None else str(change.old),
        "ID": entry.manifest.image_id if entry.manifest else None,
        "At": change.at,
        "Since": human_age(change.at, now),
        "Command": change.command,
        "Restorable": entry.restorable,
    }


def _json(entry: LogEntry) -> dict[str, Any]:
    change = entry.change
    return {
        "place": entry.place,
        "name": str(change.name),
        "number": entry.number,
        "target": None if change.new is None else str(change.new),
        "old": None if change.old is None else str(change.old),
        "id": entry.manifest.image_id if entry.manifest else None,
        "at": change.at,
        "command": change.command,
        "restorable": entry.restorable,
    }
