"""``kstore df``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.options import image_argument, no_trunc_option
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import NONE, human_size, plural, short_id

if TYPE_CHECKING:
    from kstore.operations.rmi import RmiResult
    from kstore.store import UsageReport

__all__ = ["command"]

_KINDS = {
    "images": "Blobs of images",
    "unreferenced": "Unreferenced blobs",
    "partial": "Partial downloads",
    "containers": "Containers",
    "database": "Database",
    "quarantine": "Quarantine",
    "other": "Everything else",
}


@declare(
    "df",
    examples=(
        ("kstore df", "what takes the space"),
        ("kstore df --what-if rm app:1 app:2", "what removing both would give back"),
        ("kstore df --format json", "in bytes, for a program"),
    ),
)
@image_argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option(
    "--what-if",
    type=click.Choice(["rm", "rmi"]),
    help="Change nothing, say what removing each IMAGE would free",
)
@click.option("-f", "--force", is_flag=True, help="With --what-if: as 'kstore rmi --force'")
@no_trunc_option
@format_option(example="total")
@pass_session
def command(
    session: Session,
    images: tuple[str, ...],
    what_if: str | None,
    force: bool,
    no_trunc: bool,
    form: str | None,
) -> None:
    """Show what takes the space.

    UNIQUE is what removing an image alone would free, SHARED what other images need as well.  The
    kinds of files below add up to what the store occupies on the disk.
    """
    if bool(images) != (what_if is not None):
        raise click.UsageError("IMAGE and --what-if rm go together")
    shape = Form(form)
    if what_if is not None:
        _what_if(session, shape, images, force)
        return
    from kstore.operations.df import measure_store

    with session.open_store("df", read_only=True) as store:
        usage = measure_store(store)
    if shape.given:
        shape.write_one(_usage_json(usage))
    else:
        _show(usage, no_trunc=no_trunc)


def _show(usage: UsageReport, *, no_trunc: bool) -> None:
    if usage.images:
        write_table(
            ("IMAGE ID", "NAME", "UNIQUE", "SHARED", "TOTAL"),
            [
                (
                    short_id(image.image_id, full=no_trunc),
                    ", ".join(name.familiar for name in image.names) or NONE,
                    human_size(image.unique),
                    human_size(image.shared),
                    human_size(image.total),
                )
                for image in sorted(usage.images, key=lambda image: -image.unique)
            ],
        )
        write("\n")
    rows = [(_KINDS[kind.kind], str(kind.files), human_size(kind.bytes)) for kind in usage.kinds]
    files = sum(kind.files for kind in usage.kinds)
    write_table(
        ("ON THE DISK", "FILES", "SIZE"),
        [*rows, ("Total", str(files), human_size(usage.total))],
    )


def _usage_json(usage: UsageReport) -> dict[str, Any]:
    return {
        "images": [
            {
                "id": image.image_id,
                "names": [str(name) for name in image.names],
                "unique": image.unique,
                "shared": image.shared,
                "total": image.total,
            }
            for image in usage.images
        ],
        "disk": {kind.kind: {"files": kind.files, "bytes": kind.bytes} for kind in usage.kinds},
        "total": usage.total,
        "free": usage.free_bytes,
    }


def _what_if(session: Session, shape: Form, images: tuple[str, ...], force: bool) -> None:
    from kstore.operations.df import what_removing_frees

    with session.open_store("df --what-if", create=False) as store:
        result = what_removing_frees(store, images, force=force)
    if shape.given:
        shape.write_one(_freed_json(result))
    else:
        for report in result.reports:
            for name in report.untagged:
                write(f"Would untag: {name}")
            for image_id in report.deleted:
                write(f"Would delete: {image_id}")
        freed = sum(report.bytes_freed for report in result.reports)
        blobs = sum(report.blobs_removed for report in result.reports)
        write(f"Would free {human_size(freed)}: {plural(blobs, 'blob')}")
    for error in result.errors:
        session.report(error)
    session.finish()


def _freed_json(result: RmiResult) -> dict[str, Any]:
    reports = result.reports
    return {
        "untagged": [str(name) for report in reports for name in report.untagged],
        "deleted": [image for report in reports for image in report.deleted],
        "blobs_removed": sum(report.blobs_removed for report in reports),
        "bytes_freed": sum(report.bytes_freed for report in reports),
    }
