"""``kstore ingest``: the partial downloads of the store."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import Entry, LazyGroup, declare
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import UNKNOWN, human_age, human_size, plural

if TYPE_CHECKING:
    from kstore.store import PartialDownload

__all__ = ["command", "ls", "rm"]

_FIELDS = ("Digest", "Held", "HeldBytes", "Size", "Bytes", "Origin", "Age", "AgeSeconds")
_EXAMPLES = (
    ("kstore ingest ls", "what the next pull need not fetch again"),
    ("kstore ingest rm 3f4a90", "forget one of them"),
)


@click.group(
    "ingest",
    cls=LazyGroup,
    table={
        "ls": Entry(__name__, "Commands", "List partial downloads", "ls"),
        "rm": Entry(__name__, "Commands", "Drop partial downloads", "rm"),
    },
    examples=_EXAMPLES,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
def command() -> None:
    """List and drop partial downloads.

    A pull that was stopped, by whatever, leaves the bytes it had; the next pull of any image that
    needs them goes on there.  So does an upload to 'kstore serve', which is listed by its ID.
    'kstore prune' drops those that have not grown for 7 days.
    """
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@declare(
    "ls",
    examples=(
        ("kstore ingest ls", "what the next pull need not fetch again"),
        ("kstore ingest ls --format '{{.Digest}} {{.HeldBytes}}'", "for a script"),
    ),
)
@click.option("-n", "--noheading", is_flag=True, help="No header line")
@format_option(_FIELDS)
@pass_session
def ls(session: Session, noheading: bool, form: str | None) -> None:
    """List downloads that were begun and not finished, the one that grew last first.

    HELD is what is here of SIZE, AGE is when it last grew.  Downloads that run right now are
    listed, too.
    """
    from kstore.operations.ingest import list_partials

    # A table is what there is without --format as well.
    shape = Form(None if form == "table" else form, _FIELDS)
    with session.open_store("ingest ls", read_only=True) as store:
        partials = list_partials(store)
    if shape.given:
        shape.write_list(
            [_fields(partial) for partial in partials],
            as_json=lambda: [_json(partial) for partial in partials],
            heading=not noheading,
        )
        return
    write_table(
        ("DIGEST", "HELD", "SIZE", "ORIGIN", "AGE"),
        [_cells(partial) for partial in partials],
        heading=not noheading,
    )


@declare(
    "rm",
    examples=(
        ("kstore ingest rm 3f4a90", "one, by the beginning of its digest"),
        ("kstore ingest rm --all", "all that nobody is writing"),
    ),
)
@click.argument("digests", metavar="[DIGEST]...", nargs=-1)
@click.option("-a", "--all", "everything", is_flag=True, help="Drop every partial download")
@pass_session
def rm(session: Session, digests: tuple[str, ...], everything: bool) -> None:
    """Drop partial downloads, so that the next pull fetches these blobs from their start.

    DIGEST may be shortened while it is unique.  A download that is being written stays.
    """
    from kstore.operations.ingest import drop_partials

    with session.open_store("ingest rm", create=False) as store:
        result = drop_partials(store, digests, everything=everything)
    for partial in result.partials:
        write(f"Dropped: {partial.digest}")
    if result.busy:
        session.show(f"{plural(result.busy, 'download')} being written by other commands stayed")
    for error in result.errors:
        session.report(error)
    session.finish()


def _age(partial: PartialDownload) -> str:
    now = dt.datetime.now(dt.UTC)
    return human_age(now - dt.timedelta(seconds=partial.age_seconds), now)


def _cells(partial: PartialDownload) -> tuple[str, ...]:
    return (
        str(partial.digest),
        human_size(partial.bytes),
        human_size(partial.size),
        partial.origin or UNKNOWN,
        _age(partial),
    )


def _fields(partial: PartialDownload) -> dict[str, Any]:
    return {
        "Digest": str(partial.digest),
        "Held": human_size(partial.bytes),
        "HeldBytes": partial.bytes,
        "Size": human_size(partial.size),
        "Bytes": partial.size,
        "Origin": partial.origin or UNKNOWN,
        "Age": _age(partial),
        "AgeSeconds": partial.age_seconds,
    }


def _json(partial: PartialDownload) -> dict[str, Any]:
    return {
        "digest": partial.digest,
        "held": partial.bytes,
        "size": partial.size,
        "origin": partial.origin,
        "age_seconds": round(partial.age_seconds, 3),
    }
