"""``kstore list-tags``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import registry_options
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session

if TYPE_CHECKING:
    from kstore.app import RegistryOptions

__all__ = ["command"]


@declare(
    "list-tags",
    examples=(
        ("kstore list-tags quay.io/podman/hello", "every tag, one a line"),
        ("kstore list-tags --format json docker://busybox", "as JSON"),
        ("kstore list-tags oci:layout", "what a layout holds"),
    ),
)
@click.argument("place", metavar="REPOSITORY|TRANSPORT:PLACE")
@format_option(("Repository", "Tags"), example="Tags")
@registry_options
@pass_session
def command(session: Session, place: str, form: str | None, registry: RegistryOptions) -> None:
    """List the tags of a repository, or the images in a layout or archive.

    Without a transport it is a repository at a registry.  oci:DIR, oci-archive:FILE and
    docker-archive:FILE list what is in there; an image without a tag is @N, its place from 0.
    """
    from kstore.operations.list_tags import list_tags

    shape = Form(form)
    with session.transports("list-tags", registry) as transports:
        found = list_tags(transports, place)
    if shape.given:
        shape.write_one(found.to_json())
    else:
        write("\n".join(found.tags))
