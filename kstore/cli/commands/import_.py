"""``kstore import``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import platform_option, quiet_option
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size
from kstore.errors import InvalidInputError

if TYPE_CHECKING:
    from kstore.platforms import Platform

__all__ = ["command"]


@declare(
    "import",
    examples=(
        ("kstore import rootfs.tar base:1", "a tar file as an image"),
        ("tar -C rootfs -c . | kstore import - base", "a directory, through a pipe"),
        ("""kstore import -c 'CMD=["/bin/sh"]' -c ENV=LANG=C rootfs.tar base""", "with settings"),
    ),
)
@click.argument("tarball", metavar="FILE|-", type=click.Path(allow_dash=True))
@click.argument("name", required=False)
@click.option(
    "-c",
    "--change",
    "changes",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR;"
    " may be repeated",
)
@click.option("-m", "--message", metavar="TEXT", help="Comment for the image's history")
@platform_option
@quiet_option("Only the image ID")
@pass_session
def command(
    session: Session,
    tarball: str,
    name: str | None,
    changes: tuple[str, ...],
    message: str | None,
    platform: Platform | None,
    quiet: bool,
) -> None:
    """Make an image of one layer from a tar file, which may be compressed with gzip or zstd.

    Prints the image ID.  Without NAME, the ID is all the image is known by.
    """
    from kstore.cli.meter import metered
    from kstore.operations.import_ import ImportOptions, import_tar

    if tarball == "-" and sys.stdin.isatty():
        raise InvalidInputError(
            "standard input is a terminal, not a tar", hint="tar -c . | kstore import - NAME"
        )
    options = ImportOptions(changes=changes, message=message, platform=platform)
    session.on_interrupt = "nothing was imported"
    with session.open_store("import") as store:
        stdin = sys.stdin.buffer if tarball == "-" else None
        doing = f"importing {'standard input' if stdin else tarball}"
        with metered(session, doing, None if stdin else _size(tarball)) as progress:
            result = import_tar(
                store,
                tarball,
                name,
                options,
                stdin=stdin,
                progress=None if quiet else progress,
                cancel=session.cancel,
            )
    if not quiet:
        session.show(f"imported {result.name or tarball}: {human_size(result.size)}")
    write(result.image_id)


def _size(file: str) -> int | None:
    """Bytes of a regular file; None for what has no size, or is not there (which shows later)."""
    try:
        return Path(file).stat().st_size or None
    except OSError:
        return None
