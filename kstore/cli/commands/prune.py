"""``kstore prune``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import SizeType, filter_option
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size, plural

if TYPE_CHECKING:
    from kstore.store import PruneReport

__all__ = ["command"]


@declare(
    "prune",
    examples=(
        ("kstore prune --dry-run", "what would go"),
        ("kstore prune --keep 3", "of every repository, only the 3 names given last"),
        ("kstore prune --all --filter until=30d", "every image made a month ago or earlier"),
        ("kstore prune --max-size 20GB", "the oldest names, until the rest fits"),
        ("kstore prune --all-partials", "also forget downloads that could still be resumed"),
    ),
)
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing, say what would be removed")
@click.option("-a", "--all", "all_images", is_flag=True, help="Images with names, too")
@click.option(
    "--keep",
    metavar="N",
    type=click.IntRange(min=0),
    help="In each repository, take away all names but the N given last",
)
@click.option(
    "--max-size",
    metavar="SIZE",
    type=SizeType(),
    help="Take away the oldest names until the images fit SIZE (500MB, 2GiB)",
)
@click.option("--all-partials", is_flag=True, help="Drop partial downloads of any age")
@filter_option()
@format_option(example="bytes_freed")
@pass_session
def command(
    session: Session,
    dry_run: bool,
    all_images: bool,
    keep: int | None,
    max_size: int | None,
    all_partials: bool,
    filters: tuple[str, ...],
    form: str | None,
) -> None:
    """Remove images without a name, and files that nothing needs.

    With --all, --keep or --max-size, names are taken away first, and their images with them.  What
    is protected ('kstore protect'), or used by a container, stays, and with --filter whatever does
    not meet it.  Partial downloads of the last days stay, so that a pull can go on where it was; of
    the log of names ('kstore log'), the last 100 changes of each name stay, and those of names that
    are gone for 90 days.
    """
    from kstore.operations.prune import PruneOptions, prune_store

    shape = Form(form)
    session.on_interrupt = "what was removed is gone, the rest is as it was"
    with session.open_store("prune", create=False) as store:
        options = PruneOptions(all_partials, all_images, keep, max_size, filters)
        report = prune_store(store, options, dry_run=dry_run)
    if shape.given:
        untagged = [str(name) for name in report.untagged]
        shape.write_one({**asdict(report), "untagged": untagged, "dry_run": dry_run})
        return
    for name in report.untagged:
        write(f"{'Would untag' if dry_run else 'Untagged'}: {name}")
    verb = "Would delete" if dry_run else "Deleted"
    for image_id in report.deleted:
        write(f"{verb}: {image_id}")
    write(_summary(report, dry_run=dry_run))
    if report.skipped_busy:
        session.show(f"{plural(report.skipped_busy, 'file')} in use by other commands stayed")


def _summary(report: PruneReport, *, dry_run: bool) -> str:
    if report.already_running:
        return "Nothing was done: another process is pruning right now"
    counts = (
        (len(report.deleted), "image"),
        (report.blobs_removed, "blob"),
        (report.partials_removed, "partial download"),
        (report.log_entries_removed, "old name change"),
    )
    what = ", ".join(plural(count, noun) for count, noun in counts if count)
    verb = "Would free" if dry_run else "Freed"
    return f"{verb} {human_size(report.bytes_freed)}: {what or 'there was nothing to remove'}"
