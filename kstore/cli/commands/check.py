"""``kstore check``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from kstore.cli.formatting import Form, format_option
from kstore.cli.grammar import declare
from kstore.cli.output import write
from kstore.cli.session import Session, pass_session
from kstore.cli.text import human_size, plural, printable, short_id
from kstore.errors import StorageError

if TYPE_CHECKING:
    from kstore.reference import Named
    from kstore.store import CheckReport, Problem

    Names = Mapping[str, tuple[Named, ...]]

__all__ = ["command"]

#: Images that one hint names.
_MOST = 5


@declare(
    "check",
    examples=(
        ("kstore check", "compare the records with the files; fast"),
        ("kstore check --deep", "also read every byte and compare digests"),
    ),
)
@click.option("--deep", is_flag=True, help="Hash every blob, unpack every layer")
@format_option(example="damaged")
@pass_session
def command(session: Session, deep: bool, form: str | None) -> None:
    """Verify that the store is what its records say.

    The exit status is 0 if it is (leftovers that 'kstore prune' removes do no harm), and 10 if
    something is damaged.
    """
    from kstore.cli.meter import metered
    from kstore.operations.check import affected_images, check_store

    shape = Form(form)
    session.on_interrupt = "the check is not finished"
    # Not making a store: that there is no damage in a place that is misspelt would be no answer.
    with session.open_store("check", create=False) as store:
        total = store.facts().blob_bytes if deep else None
        with metered(session, "hashing", total) as progress:
            report = check_store(store, deep=deep, progress=progress, cancel=session.cancel)
        names = affected_images(store, report)
    if shape.given:
        shape.write_one({**asdict(report), "damaged": report.damaged})
    else:
        _show(session, report, names)
    session.finish(StorageError.exit_code if report.damaged else 0)


def _show(session: Session, report: CheckReport, names: Names) -> None:
    for problem in report.problems:
        write(printable(f"{problem.kind}: {problem.detail}"))
        for image in problem.images:
            write(f"    image {_image(image, names)}")
    write(_summary(report))
    for hint in _hints(report, names):
        session.show(f"hint: {hint}")


def _image(image: str, names: Names) -> str:
    known = ", ".join(map(str, names.get(image, ())))
    return f"{short_id(image)} ({known or 'no name'})"


def _summary(report: CheckReport) -> str:
    damaged = [problem for problem in report.problems if not problem.garbage]
    verdict = "no damage"
    if damaged:
        verdict = plural(len(damaged), "problem")
        if images := {image for problem in damaged for image in problem.images}:
            verdict += f" in {plural(len(images), 'image')}"
    if leftovers := len(report.problems) - len(damaged):
        verdict += f", {plural(leftovers, 'leftover')}"
    hashed = f", {human_size(report.bytes_hashed)} hashed" if report.bytes_hashed else ""
    return (
        f"Checked {plural(report.images_checked, 'image')} and"
        f" {plural(report.blobs_checked, 'blob')}{hashed}: {verdict}"
    )


def _hints(report: CheckReport, names: Names) -> Iterator[str]:
    """What to do about each kind of finding."""
    damaged = [problem for problem in report.problems if not problem.garbage]
    if any(problem.kind == "database" for problem in damaged):
        yield "the images can still be copied out: the directory is an OCI layout skopeo reads"
    yield from _repairs(damaged, names)
    if len(damaged) < len(report.problems):
        yield "'kstore prune' removes leftovers"


def _repairs(damaged: list[Problem], names: Names) -> Iterator[str]:
    from kstore.operations.check import is_pullable

    images = dict.fromkeys(image for problem in damaged for image in problem.images)
    pulls, lost = [], []
    for image in images:
        found = next(filter(is_pullable, names.get(image, ())), None)
        if found is not None:
            pulls.append(str(found))
        else:
            lost.append(short_id(image))
    if pulls:
        yield f"a pull fetches what is damaged anew: kstore pull {_listed(pulls)}"
    if lost:
        yield f"no registry is known to repair these from: kstore rmi --force {_listed(lost)}"


def _listed(words: list[str]) -> str:
    return " ".join(words[:_MOST]) + (" ..." if len(words) > _MOST else "")
