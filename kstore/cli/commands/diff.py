"""``kstore diff``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import printable
from kstore.errors import ImageNotFoundError, InvalidReferenceError

if TYPE_CHECKING:
    from kstore.store import Store
    from kstore.tree.contents import Change

__all__ = ["command"]

_WORDS = {"C": "changed", "A": "added", "D": "deleted"}


@declare(
    "diff",
    examples=(
        ("kstore diff app", "what the top layer of app does"),
        ("kstore diff app:1 app:2", "what is different in app:2"),
        ("kstore diff --format '{{if eq .Kind \"D\"}}{{.Path}}{{end}}' app:1 app:2", "your own"),
    ),
)
@image_argument("image", metavar="IMAGE|CONTAINER")
@image_argument("other", metavar="[IMAGE]", required=False)
@format_option(("Kind", "Path"), example="Path")
@pass_session
def command(session: Session, image: str, other: str | None, form: str | None) -> None:
    """Show the files that an image adds (A), changes (C) and removes (D).

    With one IMAGE, its top layer is compared with the layers below; a second IMAGE is compared
    with the first, also by the content of files.  A working CONTAINER is compared with its image.
    The layers are read, nothing is unpacked to disk.  A directory changes when its own facts do, or
    when something in it comes or goes.
    """
    from kstore.operations.diff import diff_images

    shape = Form(form, ("Kind", "Path"))
    with session.open_store("diff", read_only=True) as store:
        found = (
            _top(session, store, image)
            if other is None
            else diff_images(store, image, other, cancel=session.cancel)
        )
    if shape.given:
        records = [{"Kind": change.kind, "Path": change.path} for change in found]
        shape.write_list(records, as_json=lambda: _json(found))
    else:
        write("".join(f"{change.kind} {printable(change.path)}\n" for change in found))


def _top(session: Session, store: Store, text: str) -> Sequence[Change]:
    """What the top layer of an image does, or the writable layer of a container."""
    from kstore.operations.diff import diff_container, diff_image
    from kstore.operations.inspect_container import find_container

    try:
        return diff_image(store, text, cancel=session.cancel)
    except (ImageNotFoundError, InvalidReferenceError):
        container = find_container(store, text)
        if container is None:
            raise
    return diff_container(store, container, cancel=session.cancel)


def _json(found: Iterable[Change]) -> dict[str, list[str]]:
    """Paths by what happened to them, with the keys podman uses."""
    lists: dict[str, list[str]] = {word: [] for word in _WORDS.values()}
    for change in found:
        lists[_WORDS[change.kind]].append(change.path)
    return lists
