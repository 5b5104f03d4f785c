"""``kstore from``."""

from __future__ import annotations

import click

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

__all__ = ["command"]


@declare(
    "from",
    examples=(
        ("kstore from busybox", "a container called busybox-working-container"),
        ("kstore from --name build busybox", "with a name of your own"),
        ("kstore from scratch", "with nothing in it"),
    ),
)
@image_argument()
@click.option("--name", metavar="NAME", help="What to call it; after the image otherwise")
@pass_session
def command(session: Session, image: str, name: str | None) -> None:
    """Make a working container, to change files and settings of an image in.

    IMAGE is a name or an ID in the store, or scratch.  Prints the container's name.  What is
    changed becomes an image by kstore commit; the image it began from stays as it is, and cannot
    be removed meanwhile.
    """
    from kstore.operations.working import SCRATCH, make_container

    with session.open_store("from", create=image == SCRATCH) as store:
        write(make_container(store, image, name).name)
