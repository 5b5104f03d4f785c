"""``kstore tag``."""

from __future__ import annotations

import click

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

__all__ = ["command"]


@declare(
    "tag",
    examples=(
        ("kstore tag busybox tools", "the name localhost/tools:latest"),
        ("kstore tag 3f57d9401f8d quay.io/me/app:1 quay.io/me/app:latest", "two names for an ID"),
        ("kstore tag --restore 'busybox@{1}'", "what busybox was before its last change"),
        ("kstore tag --restore 'busybox@{1}' old", "the same, under another name"),
    ),
)
@image_argument()
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option(
    "--restore",
    is_flag=True,
    help="IMAGE is NAME@{N}, an entry of 'kstore log'; without NAME, its own name goes back",
)
@pass_session
def command(session: Session, image: str, names: tuple[str, ...], restore: bool) -> None:
    """Give an image more names.

    IMAGE is a name or an ID.  A NAME that belongs to another image moves.  A short NAME is put
    under localhost/, so that it cannot be mistaken for a registry's.
    """
    if restore:
        from kstore.operations.name_log import restore_name

        with session.open_store("tag --restore", create=False) as store:
            result = restore_name(store, image, names)
        for name in result.names:
            write(f"{name} is {result.target}")
        return
    if not names:
        raise click.UsageError("missing argument 'NAME...'", click.get_current_context())
    from kstore.operations.tag import tag_image

    with session.open_store("tag", create=False) as store:
        tag_image(store, image, names)
