"""``kstore load``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from kstore.cli.grammar import PathType, declare
from kstore.cli.options import progress_option, quiet_option, with_referrers_option
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.signing import trust_options
from kstore.cli.text import NONE, short_id
from kstore.errors import InvalidInputError

if TYPE_CHECKING:
    from kstore.image import TrustPolicy
    from kstore.operations.load import Loaded, NotLoaded

__all__ = ["command"]

_FILE = PathType(path_type=Path, allow_dash=True)


@declare(
    "load",
    examples=(
        ("kstore load images.tar", "every image of an archive, under its own names"),
        ("docker save app | kstore load", "through a pipe"),
        ("kstore load --no-clobber -i images.tar.zst", "unless a name of it is taken"),
    ),
)
@click.argument("file", metavar="[FILE|DIR]", type=_FILE, required=False)
@click.option(
    "-i", "--input", "given", metavar="FILE|DIR", type=_FILE, help="The same as an option"
)
@click.option("--no-clobber", is_flag=True, help="Load nothing if a name now means another image")
@with_referrers_option
@quiet_option("No progress, only what was loaded")
@progress_option
@trust_options
@pass_session
def command(
    session: Session,
    file: Path | None,
    given: Path | None,
    no_clobber: bool,
    with_referrers: bool,
    quiet: bool,
    progress: str,
    policy: TrustPolicy,
) -> None:
    """Bring all images of an archive or a directory into the store.

    The format is found out: archives of docker save and podman save of any age, OCI archives, both
    also compressed as a whole, OCI layouts and dir: images.  Without FILE, reads standard input.
    Prints the names and IDs; a name that meant another image moves, and that is said.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import LOADING
    from kstore.operations.load import LoadOptions, load_images

    if file is not None and given is not None:
        raise click.UsageError("give the file as an argument or with --input, not both")
    file = given or file
    source = _source(file)
    session.on_interrupt = "images that were loaded before stay"
    results: list[Loaded | NotLoaded] = []
    try:
        with (
            session.transports("load") as transports,
            displayed(session, progress, LOADING, quiet=quiet) as sink,
        ):
            options = LoadOptions(
                clobber=not no_clobber, with_referrers=with_referrers, policy=policy
            )
            results.extend(
                load_images(
                    transports.storage.store,
                    transports,
                    source,
                    options,
                    progress=sink,
                    cancel=session.cancel,
                )
            )
    finally:  # also what was loaded before a failure, or before Ctrl-C
        for result in results:
            _show(session, result)
    if summary := sink.summary():
        session.show(f"loaded {file if file is not None else 'standard input'}: {summary}")
    session.finish()


def _source(file: Path | None) -> Path | BinaryIO:
    if file is not None and str(file) != "-":
        return file
    if sys.stdin.isatty():
        raise InvalidInputError(
            "standard input is a terminal, not an archive", hint="kstore load FILE"
        )
    return sys.stdin.buffer


def _show(session: Session, result: Loaded | NotLoaded) -> None:
    from kstore.operations.load import NotLoaded

    if isinstance(result, NotLoaded):
        about = ", ".join(map(str, result.names)) or result.place
        session.report(result.error, about=f"{about} was not loaded")
        return
    shown = short_id(result.image_id) if result.image_id else "no image to run"
    for name in result.names or (NONE,):
        write(f"Loaded image: {name} ({shown})")
    for move in result.moved:
        rest = ", which has no name now; 'kstore prune' removes it" if move.nameless else ""
        session.show(f"{move.name} meant {short_id(move.previous)} before{rest}")
