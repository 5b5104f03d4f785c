"""``kstore commit``."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.grammar import ParamType, declare
from kstore.cli.options import CompressionType, container_argument, quiet_option
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size

if TYPE_CHECKING:
    from kstore.compression import Kind

__all__ = ["command"]

_VARIABLE = "SOURCE_DATE_EPOCH"
_LAST = 253402300799  # seconds since 1970: the end of what dates can say


class _Seconds(ParamType):
    """Seconds since 1970, up to the last of the year 9999."""

    name = "SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if not (value.isascii() and value.isdigit() and len(value) <= 12 and int(value) <= _LAST):
            origin = f" (of {_VARIABLE})" if os.environ.get(_VARIABLE) == value else ""
            raise click.BadParameter(
                f"{value!r}{origin} is not a number of seconds since 1970, up to {_LAST}"
            )
        return int(value)


@declare(
    "commit",
    examples=(
        ("kstore commit box app:2", "an image called localhost/app:2"),
        ("kstore commit --timestamp 0 box app:2", "the same bytes, whenever it is done"),
        ("kstore commit --squash --compress zstd box app:flat", "everything in one layer"),
    ),
)
@container_argument()
@click.argument("name", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["oci", "docker"]),
    default="oci",
    show_default=True,
    help="What kind of manifest",
)
@click.option(
    "--compress",
    metavar="gzip|zstd|none[:LEVEL]",
    type=CompressionType(),
    default="gzip",
    show_default=True,
    help="How the new layer is packed",
)
@click.option(
    "--timestamp",
    metavar="SECONDS",
    envvar=_VARIABLE,
    type=_Seconds(),
    help=f"Date of the image, since 1970; no new file gets a later one  [env: {_VARIABLE}]",
)
@click.option("--squash", is_flag=True, help="One layer of everything, the image below included")
@click.option("-m", "--message", metavar="TEXT", help="Comment for the image's history")
@quiet_option("Only the image ID")
@pass_session
def command(
    session: Session,
    container: str,
    name: str | None,
    form: Any,
    compress: tuple[Kind, int | None],
    timestamp: int | None,
    squash: bool,
    message: str | None,
    quiet: bool,
) -> None:
    """Make an image of CONTAINER, a name or an ID; the container stays.

    The layers of the image it began from stay as they are; what was changed is one new layer.
    Prints the image ID.  Without NAME, the ID is all the image is known by.
    """
    from kstore.cli.meter import metered
    from kstore.operations.commit import CommitOptions, commit_container

    kind, level = compress
    moment = None if timestamp is None else dt.datetime.fromtimestamp(timestamp, dt.UTC)
    options = CommitOptions(form, kind, level, moment, squash, message)
    session.on_interrupt = "nothing was committed"
    with (
        session.open_store("commit", create=False) as store,
        metered(session, f"committing {container}", None) as progress,
    ):
        result = commit_container(
            store,
            container,
            name,
            options,
            progress=None if quiet else progress,
            warn=session.warn,
            cancel=session.cancel,
        )
    if not quiet:
        layer = "no new layer" if result.layer is None else human_size(result.layer.size)
        session.show(f"committed {result.name or container}: {layer}")
    write(result.image_id)
