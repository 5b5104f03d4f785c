"""Runs tools in turn and collects what they took."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar

from contrib.bench.results import Row, Table
from contrib.bench.timing import RunError, Timing, measure, summarise
from contrib.bench.tools import Kind, Tool, Trial

FAILURES = (RunError, AssertionError, OSError)
OWN = "kstore"


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


@dataclass(frozen=True, slots=True)
class Plan:
    """How often and how long.

    ``fewer`` has the runs of tools that are not run as often at heavy work; a measurement whose
    ``deadline`` (of time.monotonic) has passed ends after its current round.
    """

    runs: int
    fewer: Mapping[str, int]
    limit: float  # seconds one run may take
    deadline: float

    def runs_of(self, tool: str, heavy: bool) -> int:
        return min(self.runs, self.fewer.get(tool, self.runs)) if heavy else self.runs

    def over(self) -> bool:
        return time.monotonic() > self.deadline


@dataclass(frozen=True, slots=True)
class Work:
    """What a table is about. ``heavy`` work is done less often by the tools the plan names.

    ``size`` is how many bytes go in, where throughput is of interest.
    """

    key: str
    title: str
    heavy: bool = False
    size: int | None = None


@dataclass(slots=True)
class _Record:
    timings: list[Timing] = field(default_factory=list)
    failure: str | None = None


class Bench:
    """What all measurements share: a scratch folder, a plan, and whether kstore failed."""

    def __init__(self, scratch: Path, plan: Plan) -> None:
        self.plan = plan
        self.failed = False
        self._scratch = scratch

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A fresh folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="run-", dir=self._scratch) as place:
            yield Path(place)

    @contextmanager
    def crew(self, kinds: Sequence[Kind], prepare: Callable[[Tool], None]) -> Iterator[list[Tool]]:
        """The tools that could be made ready for work that is repeated in one place."""
        ready = []
        with self.room() as room, ExitStack() as stack:
            for number, kind in enumerate(kinds):
                place = room / str(number)
                place.mkdir()
                tool = kind.make(place)
                stack.callback(tool.close)
                try:
                    prepare(tool)
                except FAILURES as error:
                    self._failure(kind.name, error)
                else:
                    ready.append(tool)
            yield ready

    def interleave(
        self, work: Work, tools: Sequence[_T], run: Callable[[_T, int], Trial | Timing | None]
    ) -> Table:
        """Every tool once, then every tool again: what changes on the machine hits all alike."""
        print(f"{work.title} ", end="", flush=True)
        begun = time.monotonic()
        records = {tool.name: _Record() for tool in tools}
        turns = list(tools)
        for number in range(self.plan.runs):
            turns = [
                tool
                for tool in turns
                if number < self.plan.runs_of(tool.name, work.heavy)
                and self._turn(records[tool.name], tool, number, run)
            ]
            print(".", end="", flush=True)
            if self.plan.over():
                break
        seconds = time.monotonic() - begun
        rows = tuple(
            Row(name, summarise(record.timings) if record.timings else None, record.failure)
            for name, record in records.items()
        )
        print("", *(f"{r.tool} {r.summary.wall:.3f} s" for r in rows if r.summary), sep="  ")
        return Table(work.key, work.title, rows, work.size, seconds)

    def time(self, trial: Trial) -> Timing:
        """One run; it counts only when its result is right."""
        timing = measure(trial.command, self.plan.limit, trial.environ)
        trial.verify(timing.output)
        return timing if trial.result is None else timing.with_result(trial.result)

    def inside(self, trial: Trial) -> Timing:
        """One run of what prints the seconds its work took, which count as the wall clock."""
        timing = self.time(trial)
        return replace(timing, wall=float(timing.output))

    def fresh(self, kind: Kind, ask: Callable[[Tool], Trial | None]) -> Timing | None:
        """One run of a tool that has nothing yet."""
        with self.room() as room:
            tool = kind.make(room)
            try:
                trial = ask(tool)
                return None if trial is None else self.time(trial)
            finally:
                tool.close()

    def _turn(
        self,
        record: _Record,
        tool: _T,
        number: int,
        run: Callable[[_T, int], Trial | Timing | None],
    ) -> bool:
        """One turn of a tool; whether it shall have another."""
        try:
            done = run(tool, number)
            timing = self.time(done) if isinstance(done, Trial) else done
        except FAILURES as error:
            record.timings.clear()
            record.failure = self._failure(tool.name, error)
            return False
        if timing is None:
            record.failure = "cannot do this yet"
            print(f"\n  {tool.name} {record.failure}: skipped", flush=True)
            return False
        record.timings.append(timing)
        return True

    def _failure(self, name: str, error: Exception) -> str:
        """What stands in the table instead of figures; told at once, too."""
        reason = "failed: " + " ".join(str(error).split())[-200:].replace("|", "/")
        self.failed |= name == OWN
        print(f"\n  {name}: {reason}", flush=True)
        return reason
