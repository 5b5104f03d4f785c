"""``kstore prune``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
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
        ("kstore prune --all-partials", "also forget downloads that could still be resumed"),
    ),
)
@click.option("-n", "--dry-run", is_flag=True, help="Change nothing, say what would be removed")
@click.option("--all-partials", is_flag=True, help="Drop partial downloads of any age")
@format_option(example="bytes_freed")
@pass_session
def command(session: Session, dry_run: bool, all_partials: bool, form: str | None) -> None:
    """Remove images without a name, and files that nothing needs.

    Partial downloads of the last days stay, so that a pull can go on where it was.
    """
    from kstore.operations.prune import prune_store

    shape = Form(form)
    session.on_interrupt = "what was removed is gone, the rest is as it was"
    with session.open_store("prune") as store:
        report = prune_store(store, dry_run=dry_run, all_partials=all_partials)
    if shape.given:
        shape.write_one({**asdict(report), "dry_run": dry_run})
        return
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
    )
    what = ", ".join(plural(count, noun) for count, noun in counts if count)
    verb = "Would free" if dry_run else "Freed"
    return f"{verb} {human_size(report.bytes_freed)}: {what or 'there was nothing to remove'}"
