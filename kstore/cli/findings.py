"""What a check found and a repair did, told to a human, with what to do next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from kstore.cli.output import write
from kstore.cli.session import Session
from kstore.cli.text import human_size, plural, printable, short_id
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.operations.repair import RepairResult
    from kstore.reference import Named
    from kstore.store import CheckReport, Problem, RebuildReport

    Names = Mapping[str, tuple[Named, ...]]

__all__ = ["Outcome", "show"]

#: Images that one hint names, and reasons that are given for one blob.
_MOST = 5


@dataclass(slots=True)
class Outcome:
    """Everything one run found out and did."""

    report: CheckReport
    names: Names
    rebuilt: RebuildReport | None = None
    repair: RepairResult | None = None

    @property
    def damaged(self) -> bool:
        """Whether damage is left."""
        return self.report.damaged if self.repair is None else not self.repair.complete

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self.report),
            "damaged": self.damaged,
            "rebuilt": _record(self.rebuilt) if self.rebuilt else None,
            "repair": self._repair_json() if self.repair else None,
        }

    def _repair_json(self) -> dict[str, Any]:
        return {name: list(map(_record, values)) for name, values in _record(self.repair).items()}


def _record(value: Any) -> dict[str, Any]:
    """The fields of a value, which stay values: a digest is one text, not two."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def show(session: Session, outcome: Outcome) -> None:
    """Findings and repairs on standard output, hints beside it."""
    report, names = outcome.report, outcome.names
    if outcome.rebuilt is not None:
        _show_rebuilt(session, outcome.rebuilt)
    for problem in report.problems:
        write(printable(f"{problem.kind}: {problem.detail}"))
        for image in problem.images:
            write(f"    image {_image(image, names)}")
    if outcome.repair is not None:
        _show_repair(outcome.repair, names)
    write(_summary(report) + _repaired(outcome.repair))
    for hint in _hints(outcome):
        session.show(f"hint: {hint}")


def _show_rebuilt(session: Session, rebuilt: RebuildReport) -> None:
    told = f" (from {', '.join(rebuilt.sources)})" if rebuilt.sources else ""
    write(
        f"Rebuilt the database: {plural(rebuilt.images, 'image')},"
        f" {plural(rebuilt.names, 'name')}{told}, {plural(rebuilt.blobs, 'blob')}"
    )
    for text in rebuilt.not_understood:
        session.warn(text)
    for name in rebuilt.lost_names:
        session.warn(f"the manifest of {name} is gone, and its name with it: kstore pull {name}")


def _show_repair(repair: RepairResult, names: Names) -> None:
    for problem in repair.mended:
        write(printable(f"Repaired: {problem.kind} {problem.object}"))
    for blob in repair.fetched:
        source = f"from {blob.place}" if blob.place else "its file was good"
        write(printable(f"Repaired: blob {blob.digest} ({human_size(blob.size)}, {source})"))
    for failure in repair.failed:
        write(f"Not repaired: blob {failure.digest}")
        for image in failure.images:
            write(f"    image {_image(image, names)}")
        for reason in failure.reasons[:_MOST] or ("nothing tells where it came from",):
            write(printable(f"    {reason}"))


def _image(image: str, names: Names) -> str:
    known = ", ".join(map(str, names.get(image, ())))
    return f"{short_id(image)} ({known or 'no name'})"


def _summary(report: CheckReport) -> str:
    damaged = [problem for problem in report.problems if not problem.harmless]
    verdict = "no damage"
    if damaged:
        verdict = plural(len(damaged), "problem")
        if images := {image for problem in damaged for image in problem.images}:
            verdict += f" in {plural(len(images), 'image')}"
    if leftovers := len(report.problems) - len(damaged):
        verdict += f", {plural(leftovers, 'leftover')}"
    hashed = f", {human_size(report.bytes_hashed)} hashed" if report.bytes_hashed else ""
    left = f", {plural(report.blobs_left, 'blob')} left for another time"
    return (
        f"Checked {plural(report.images_checked, 'image')} and"
        f" {plural(report.blobs_checked, 'blob')}{hashed}"
        f"{left if report.blobs_left else ''}: {verdict}"
    )


def _repaired(repair: RepairResult | None) -> str:
    """The end of the summary of a repair."""
    if repair is None:
        return ""
    done, left = len(repair.fetched) + len(repair.mended), len(repair.failed)
    left += len(repair.remaining)
    if not left:
        return "; all repaired"
    return f"; {done} repaired, {left} not"


def _hints(outcome: Outcome) -> Iterator[str]:
    """What to do about each kind of finding."""
    problems, repair = outcome.report.problems, outcome.repair
    damaged = [problem for problem in problems if not problem.harmless]
    if repair is not None:
        yield from _hints_after(repair, outcome.names)
    elif any(problem.kind == "database" for problem in damaged):
        yield "'kstore check --repair' makes the database anew, from the blobs and index.json"
        yield "the images can also be copied out: the directory is an OCI layout skopeo reads"
    elif damaged:
        yield from _pulls(damaged, outcome.names)
    if any(problem.garbage for problem in problems):
        yield "'kstore prune' removes leftovers"


def _hints_after(repair: RepairResult, names: Names) -> Iterator[str]:
    lost = dict.fromkeys(image for failure in repair.failed for image in failure.images)
    if repair.failed:
        yield "kstore check --repair --from SOURCE: a store, an archive or docker://NAME has them"
    if lost:
        yield f"or do without: kstore rmi --force {_listed([short_id(image) for image in lost])}"
    for problem in repair.remaining:
        if problem.kind in ("wrong-diff-id", "bad-manifest"):
            yield f"{problem.object} was wrong when it came; another one of it would be no better"
        elif problem.kind == "damaged-name":
            yield f"nothing tells what it meant: kstore untag {problem.object}"


def _pulls(damaged: list[Problem], names: Names) -> Iterator[str]:
    from kstore.operations.check import is_pullable

    yield "'kstore check --repair' fetches what is damaged again"
    images = dict.fromkeys(image for problem in damaged for image in problem.images)
    known = [next(filter(is_pullable, names.get(image, ())), None) for image in images]
    if pulls := [str(name) for name in known if name is not None]:
        yield f"so does a pull: kstore pull {_listed(pulls)}"
    if lost := [short_id(image) for image, name in zip(images, known, strict=True) if not name]:
        yield f"no registry is known to repair these from: {_listed(lost)}"


def _listed(words: list[str]) -> str:
    return " ".join(words[:_MOST]) + (" ..." if len(words) > _MOST else "")
