"""``kstore history``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, no_trunc_option
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import UNKNOWN, human_age, human_size, rfc3339, short_id, shorten

if TYPE_CHECKING:
    from kstore.operations.history import HistoryRow
    from kstore.store import NameChange

__all__ = ["command"]

_FIELDS = (
    *("ID", "Created", "CreatedAt", "CreatedSince", "CreatedBy", "Size", "Bytes", "Comment"),
    *("Tags",),
)
_NAME_FIELDS = ("Name", "Old", "New", "At", "Command")
_MISSING = "<missing>"
_COMMAND_WIDTH = 45


@declare(
    "history",
    examples=(
        ("kstore history busybox", "the steps, newest first"),
        ("kstore history --no-trunc --format '{{.CreatedBy}}' busybox", "whole commands"),
        ("kstore history --names busybox", "which images the name has meant, and since when"),
    ),
)
@image_argument(metavar="[IMAGE]", required=False)
@no_trunc_option
@click.option("-q", "--quiet", is_flag=True, help="Only IDs")
@click.option(
    "-H",
    "--human/--no-human",
    default=True,
    help="Ages and rounded sizes; without, dates and bytes",
)
@click.option("--names", is_flag=True, help="What the name has meant (of IMAGE, or of every name)")
@format_option(_FIELDS)
@pass_session
def command(
    session: Session,
    image: str | None,
    no_trunc: bool,
    quiet: bool,
    human: bool,
    names: bool,
    form: str | None,
) -> None:
    """Show how an image was made, newest step first.

    IMAGE is a name or an ID.  Only the newest step has an ID; the size is that of the step's layer
    as it is stored.
    """
    from kstore.operations.history import image_history, name_history

    if image is None and not names:
        raise click.UsageError("missing argument 'IMAGE'", click.get_current_context())
    if quiet and names:
        raise click.UsageError("--quiet does not go with --names", click.get_current_context())
    shape = Form(form, _NAME_FIELDS if names else _FIELDS)
    with session.open_store("history", read_only=True) as store:
        if names:
            _show_names(name_history(store, image), shape, no_trunc=no_trunc)
            return
        rows = image_history(store, image or "")
    now = dt.datetime.now(dt.UTC)
    records = [_fields(row, now, no_trunc=no_trunc, human=human) for row in rows]
    if quiet:
        write("\n".join(record["ID"] for record in records))
    elif shape.given:
        shape.write_list(records, as_json=lambda: list(map(_json, rows)))
    else:
        write_table(
            ("ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"),
            [
                [str(record[key]) for key in ("ID", "Created", "CreatedBy", "Size", "Comment")]
                for record in records
            ],
        )


def _fields(row: HistoryRow, now: dt.datetime, *, no_trunc: bool, human: bool) -> dict[str, Any]:
    words = " ".join(row.created_by.split())
    size = UNKNOWN if row.size is None else str(row.size)
    date = UNKNOWN if row.created is None else rfc3339(row.created)
    return {
        "ID": _MISSING if row.id is None else short_id(row.id, full=no_trunc),
        "Created": human_age(row.created, now) if human else date,
        "CreatedAt": row.created,
        "CreatedSince": human_age(row.created, now),
        "CreatedBy": words if no_trunc else shorten(words, _COMMAND_WIDTH),
        "Size": human_size(row.size) if human else size,
        "Bytes": row.size,
        "Comment": row.comment,
        "Tags": list(row.tags),
    }


def _json(row: HistoryRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "created": row.created,
        "createdBy": row.created_by,
        "size": row.size,
        "comment": row.comment,
        "empty": row.empty,
    }


def _show_names(changes: Sequence[NameChange], shape: Form, *, no_trunc: bool) -> None:
    if shape.given:
        records = [
            {
                "Name": str(change.name),
                "Old": None if change.old is None else str(change.old),
                "New": None if change.new is None else str(change.new),
                "At": change.at,
                "Command": change.command,
            }
            for change in changes
        ]
        shape.write_list(records)
        return
    now = dt.datetime.now(dt.UTC)

    def shown(digest: Any) -> str:
        if digest is None:
            return "-"
        return str(digest) if no_trunc else str(digest.short)

    write_table(
        ("NAME", "FROM", "TO", "WHEN", "COMMAND"),
        [
            (
                str(change.name),
                shown(change.old),
                shown(change.new),
                human_age(change.at, now),
                change.command,
            )
            for change in changes
        ],
    )
