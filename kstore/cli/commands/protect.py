"""``kstore protect`` and ``kstore unprotect``."""

from __future__ import annotations

from kstore.cli.grammar import declare
from kstore.cli.options import image_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

__all__ = ["command", "unprotect"]


@declare(
    "protect",
    examples=(
        ("kstore protect base:1", "no rmi, untag or prune takes this name away"),
        ("kstore protect", "list the protected names"),
    ),
)
@image_argument("images", metavar="[IMAGE]...", nargs=-1)
@pass_session
def command(session: Session, images: tuple[str, ...]) -> None:
    """Protect names, and so their images, from being removed.

    IMAGE is a name, or an ID that stands for all names of its image.  A pull or a tag may still
    move a protected name to another image.  Without IMAGE, lists the protected names.
    """
    from kstore.operations.protect import protect_images, protected_names

    if not images:
        with session.open_store("protect", read_only=True) as store:
            names = protected_names(store)
    else:
        with session.open_store("protect", create=False) as store:
            names = protect_images(store, images)
    for name in names:
        write(str(name))


@declare(
    "unprotect",
    examples=(("kstore unprotect base:1", "let it be removed again"),),
)
@image_argument("images", metavar="IMAGE...", nargs=-1, required=True)
@pass_session
def unprotect(session: Session, images: tuple[str, ...]) -> None:
    """Let protected names be removed again.

    IMAGE is a name, or an ID that stands for all names of its image.  Prints the names that were
    protected.
    """
    from kstore.operations.protect import unprotect_images

    with session.open_store("unprotect", create=False) as store:
        names = unprotect_images(store, images)
    for name in names:
        write(str(name))
