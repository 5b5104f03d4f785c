"""``kstore rmi``."""

from __future__ import annotations

import click

from kstore.cli.grammar import declare
from kstore.cli.options import filter_option, image_argument
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.errors import ImageNotFoundError

__all__ = ["command"]


@declare(
    "rmi",
    examples=(
        ("kstore rmi busybox", "the name; the image goes with its last name"),
        ("kstore rmi --force 3f57d9401f8d", "an image with all of its names"),
        ("kstore rmi --filter until=30d --filter 'label!=keep'", "what 'images' lists with these"),
        ("kstore rmi --all", "everything"),
    ),
)
@image_argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "-f",
    "--force",
    is_flag=True,
    help="Also an image with several names (by ID), or that containers were made from",
)
@click.option("-i", "--ignore", is_flag=True, help="No error for an image that is not there")
@click.option("-a", "--all", "all_images", is_flag=True, help="Remove every image")
@filter_option()
@pass_session
def command(
    session: Session,
    images: tuple[str, ...],
    force: bool,
    ignore: bool,
    all_images: bool,
    filters: tuple[str, ...],
) -> None:
    """Remove images.

    IMAGE is a name or an ID.  By a name, an image with several names only loses this one.  A
    --filter alone removes what 'kstore images' lists with it; of the IMAGEs, it leaves the others
    alone.  What cannot be removed is reported, and the rest is removed all the same.
    """
    from kstore.operations.rmi import remove_images

    with session.open_store("rmi", create=False) as store:
        result = remove_images(store, images, filters=filters, force=force, all_images=all_images)
    for report in result.reports:
        for name in report.untagged:
            write(f"Untagged: {name}")
        for image_id in report.deleted:
            write(f"Deleted: {image_id}")
    for error in result.errors:
        if not (ignore and isinstance(error, ImageNotFoundError)):
            session.report(error)
    session.finish()
