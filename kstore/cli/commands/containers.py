"""``kstore containers``."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import no_trunc_option, quiet_option
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import NONE, human_age, short_id

if TYPE_CHECKING:
    from kstore.operations.working import ContainerSummary

__all__ = ["command"]

_FIELDS = (
    *("ID", "ContainerID", "Name", "Names", "ContainerName", "ImageID", "ImageName", "Image"),
    *("Created", "CreatedSince", "CreatedAt", "Directory"),
)
_TITLES = {
    "ID": "CONTAINER ID",
    "Name": "CONTAINER NAME",
    "ImageID": "IMAGE ID",
    "ImageName": "IMAGE NAME",
}


@declare(
    "containers",
    examples=(
        ("kstore containers", "every working container"),
        ("kstore containers -q", "IDs only, for scripts"),
        ("kstore containers --format '{{.Name}} {{.Directory}}/upper'", "where their files are"),
    ),
)
@quiet_option("Only container IDs")
@no_trunc_option
@click.option("-n", "--noheading", is_flag=True, help="No header line")
@format_option(_FIELDS)
@pass_session
def command(
    session: Session, quiet: bool, no_trunc: bool, noheading: bool, form: str | None
) -> None:
    """List the working containers, oldest first."""
    from kstore.operations.working import list_containers

    shape = Form(form, _FIELDS)
    with session.open_store("containers", read_only=True) as store:
        rows = list_containers(store)
    if quiet:
        write("\n".join(short_id(row.record.id, full=no_trunc) for row in rows))
        return
    now = dt.datetime.now(dt.UTC)
    fields = [_fields(row, now, no_trunc=no_trunc) for row in rows]
    if shape.given:
        shape.write_list(
            fields,
            as_json=lambda: [_json(row) for row in rows],
            titles=_TITLES,
            heading=not noheading,
        )
        return
    write_table(
        ("CONTAINER ID", "IMAGE ID", "IMAGE NAME", "CREATED", "CONTAINER NAME"),
        [[row[key] for key in ("ID", "ImageID", "ImageName", "Created", "Name")] for row in fields],
        heading=not noheading,
    )


def _fields(row: ContainerSummary, now: dt.datetime, *, no_trunc: bool) -> dict[str, Any]:
    record = row.record
    shown_id = short_id(record.id, full=no_trunc)
    age, image = human_age(record.created_at, now), row.image_name or NONE
    return {
        "ID": shown_id,
        "ContainerID": shown_id,
        "Name": record.name,
        "Names": record.name,
        "ContainerName": record.name,
        "ImageID": short_id(record.image_id, full=no_trunc) if record.image_id else "-",
        "ImageName": image,
        "Image": image,
        "Created": age,
        "CreatedSince": age,
        "CreatedAt": record.created_at,
        "Directory": str(record.directory),
    }


def _json(row: ContainerSummary) -> dict[str, Any]:
    record = row.record
    return {
        "id": record.id,
        "name": record.name,
        "image": record.image_id,
        "imageName": row.image_name,
        "created": record.created_at,
        "directory": record.directory,
    }
