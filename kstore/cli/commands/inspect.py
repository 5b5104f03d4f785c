"""``kstore inspect``."""

from __future__ import annotations

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.session import Session, pass_session
from kstore.errors import KstoreError

__all__ = ["command"]


@declare(
    "inspect",
    examples=(
        ("kstore inspect busybox", "everything, as a JSON array"),
        ("kstore inspect --format '{{.Id}}' busybox", "the ID alone"),
        ("kstore inspect --format '{{json .Config.Env}}' busybox", "a part, as JSON"),
    ),
)
@image_argument("images", metavar="IMAGE...", nargs=-1, required=True)
@format_option(example="Id")
@pass_session
def command(session: Session, images: tuple[str, ...], form: str | None) -> None:
    """Show everything about images.

    IMAGE is a name or an ID.  Prints a JSON array with an object for each image.
    """
    from kstore.operations.inspect import inspect_image

    shape = Form(form)
    found = []
    with session.open_store("inspect", read_only=True) as store:
        for image in images:
            try:
                found.append(inspect_image(store, image).to_json())
            except KstoreError as error:
                session.report(error)
    shape.write_list(found)
    session.finish()
