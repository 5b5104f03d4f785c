"""``kstore push``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, progress_option, quiet_option, registry_options
from kstore.cli.session import Session, pass_session
from kstore.errors import StorageError

if TYPE_CHECKING:
    from kstore.app import RegistryOptions

__all__ = ["command"]


@declare(
    "push",
    examples=(
        ("kstore push quay.io/me/app:1", "under its own name"),
        ("kstore push app registry.example.org/team/app:1", "under another name"),
        ("kstore push --digestfile digest.txt app quay.io/me/app", "note what was pushed"),
    ),
)
@image_argument()
@click.argument("destination", required=False)
@quiet_option("No progress, only errors")
@progress_option
@click.option(
    "--digestfile",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="Write the digest of the pushed manifest to FILE",
)
@registry_options
@pass_session
def command(
    session: Session,
    image: str,
    destination: str | None,
    quiet: bool,
    progress: str,
    digestfile: Path | None,
    registry: RegistryOptions,
) -> None:
    """Send an image from the store to a registry.

    IMAGE is a name or an ID, DESTINATION the name there (default: the image's own).  What arrives
    is byte for byte what was pulled, and layers that the registry has are not sent.
    """
    from kstore.cli.progress import displayed
    from kstore.cli.transfers import PUSHING
    from kstore.operations.push import push_image

    session.on_interrupt = "layers that were sent are kept by the registry"
    with (
        session.open_store("push") as store,
        session.app.transports(store, registry, session.cancel) as transports,
        displayed(session, progress, PUSHING, quiet=quiet) as sink,
    ):
        result = push_image(
            store, transports, image, destination, progress=sink, cancel=session.cancel
        )
    if digestfile is not None:
        _note_digest(digestfile, str(result.digest))
    if summary := sink.summary():
        session.show(f"pushed {result.destination}: {summary}")
        session.show(f"digest {result.digest}")


def _note_digest(file: Path, digest: str) -> None:
    try:
        file.write_text(digest)
    except OSError as exc:
        raise StorageError(
            f"the image was pushed, but its digest {digest} cannot be written to {file}:"
            f" {exc.strerror}"
        ) from exc
