"""``kstore check``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.output import write, write_table
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size, plural, short_id
from kstore.errors import StorageError

if TYPE_CHECKING:
    from kstore.store import CheckReport, Problem

__all__ = ["command"]


@declare(
    "check",
    examples=(
        ("kstore check", "compare the records with the files; fast"),
        ("kstore check --deep", "also read every byte and compare digests"),
    ),
)
@click.option("--deep", is_flag=True, help="Hash every blob")
@format_option()
@pass_session
def command(session: Session, deep: bool, form: str | None) -> None:
    """Verify that the store is what its records say.

    The exit status is 0 if it is (leftovers that 'kstore prune' removes do no harm), and 10 if
    something is damaged.
    """
    from kstore.operations.check import check_store

    shape = Form(form)
    session.on_interrupt = "the check is not finished"
    with session.open_store("check") as store:
        report = check_store(store, deep=deep, cancel=session.cancel)
    if shape.given:
        shape.write_one({**asdict(report), "damaged": report.damaged})
    else:
        _show(session, report)
    session.finish(StorageError.exit_code if report.damaged else 0)


def _show(session: Session, report: CheckReport) -> None:
    if report.problems:
        rows = [_cells(problem) for problem in report.problems]
        write_table(("PROBLEM", "OBJECT", "IMAGES", "DETAIL"), rows)
    damaged = sum(not problem.garbage for problem in report.problems)
    leftovers = len(report.problems) - damaged
    verdict = f"{damaged} damaged" if damaged else "no damage"
    if leftovers:
        verdict += f", {plural(leftovers, 'leftover')}"
    hashed = f", {human_size(report.bytes_hashed)} hashed" if report.bytes_hashed else ""
    write(
        f"Checked {plural(report.images_checked, 'image')} and"
        f" {plural(report.blobs_checked, 'blob')}{hashed}: {verdict}"
    )
    if damaged:
        session.show("hint: 'kstore pull' of a damaged image repairs it")
    elif leftovers:
        session.show("hint: 'kstore prune' removes leftovers")


def _cells(problem: Problem) -> tuple[Any, ...]:
    images = " ".join(map(short_id, problem.images))
    return problem.kind, problem.object, images or "-", problem.detail
