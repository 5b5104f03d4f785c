"""``kstore untag``."""

from __future__ import annotations

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.errors import KstoreError

__all__ = ["command"]


@declare(
    "untag",
    examples=(("kstore untag localhost/tools", "the image keeps its other names"),),
)
@image_argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_session
def command(session: Session, names: tuple[str, ...]) -> None:
    """Take names away from images.

    The image stays, also without any name; 'kstore rmi' removes it.
    """
    from kstore.operations.untag import untag_image

    with session.open_store("untag", create=False) as store:
        for name in names:
            try:
                write(f"Untagged: {untag_image(store, name)}")
            except KstoreError as error:
                session.report(error)
    session.finish()
