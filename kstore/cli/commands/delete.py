"""``kstore delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.grammar import declare
from kstore.cli.options import registry_options
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

if TYPE_CHECKING:
    from kstore.app import RegistryOptions

__all__ = ["command"]


@declare(
    "delete",
    examples=(
        ("kstore delete docker://registry.example/team/app:old", "one tag of a registry"),
        ("kstore delete --digest docker://registry.example/team/app:old", "the manifest as well"),
        ("kstore delete oci:layout:old", "an image of a layout, and the blobs only it needs"),
    ),
)
@click.argument("image", metavar="TRANSPORT:REFERENCE")
@click.option("--digest", is_flag=True, help="Delete the manifest itself, not a tag alone")
@click.option("-f", "--force", is_flag=True, help="Although other tags of the manifest go with it")
@registry_options
@pass_session
def command(
    session: Session, image: str, digest: bool, force: bool, registry: RegistryOptions
) -> None:
    """Delete an image at a registry, in a layout or a directory.

    A registry takes the tag away, and the manifest stays.  One that cannot do that deletes the
    manifest, and all of its tags: where that are more than the one that was named, --force is
    needed.  'kstore rmi' removes images from the store.
    """
    from kstore.operations.delete import DeleteOptions, delete_image

    with session.transports("delete", registry, create=False) as transports:
        gone = delete_image(transports, image, DeleteOptions(digest=digest, force=force))
    for name in gone.names:
        write(f"Untagged: {name}" if gone.digest else f"Deleted: {name}")
    if gone.digest is not None:
        write(f"Deleted: {gone.digest}")
