"""``kstore tag``."""

from __future__ import annotations

import click

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.session import Session, pass_session

__all__ = ["command"]


@declare(
    "tag",
    examples=(
        ("kstore tag busybox tools", "the name localhost/tools:latest"),
        ("kstore tag 3f57d9401f8d quay.io/me/app:1 quay.io/me/app:latest", "two names for an ID"),
    ),
)
@image_argument()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_session
def command(session: Session, image: str, names: tuple[str, ...]) -> None:
    """Give an image more names.

    IMAGE is a name or an ID.  A NAME that belongs to another image moves.  A short NAME is put
    under localhost/, so that it cannot be mistaken for a registry's.
    """
    from kstore.operations.tag import tag_image

    with session.open_store("tag") as store:
        tag_image(store, image, names)
