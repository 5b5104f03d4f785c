"""One measured run of a program: wall clock, processor time and peak memory."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

_LAUNCH = Path(__file__).with_name("launch.py")


class RunError(Exception):
    """A measured program failed, took too long, or gave a wrong result."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds and MB of one run; ``output`` is what it printed on standard output."""

    wall: float
    user: float
    system: float
    memory: float  # MB (1,000,000 bytes), the peak of what was resident
    output: str
    result: int | None = None  # bytes of what it wrote

    def with_result(self, place: Path) -> Timing:
        """The timing with the size of the file or folder ``place``."""
        files = [place] if place.is_file() else [f for f in place.rglob("*") if f.is_file()]
        return replace(self, result=sum(file.stat().st_size for file in files))


@dataclass(frozen=True, slots=True)
class Summary:
    """Several runs of the same thing: medians, and the extremes of the wall clock."""

    runs: int
    wall: float
    fastest: float
    slowest: float
    user: float
    system: float
    memory: float  # MB, the highest
    result: float | None


def own_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what changes how Python or kstore run: as a user has it.

    PYTHONDONTWRITEBYTECODE, say, makes every start of a fresh installation compile everything.
    """
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("PYTHON", "KSTORE_", "_KSTORE"))
    }


def measure(command: Sequence[str], timeout: float, environ: Mapping[str, str]) -> Timing:
    """Runs ``command`` to its end, at most ``timeout`` seconds. Raises :class:`RunError`."""
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.TemporaryFile() as report,
    ):
        launch = [sys.executable, "-IS", str(_LAUNCH), str(report.fileno())]
        process = subprocess.Popen(
            [*launch, *command],
            env=own_environment(environ),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=[report.fileno()],
            start_new_session=True,
        )
        try:
            process.wait(timeout)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                raise RunError(f"given up after {timeout:g} s") from error
            raise
        numbers, printed, complaint = (_text(file) for file in (report, out, err))
    code, wall, user, system, memory = numbers.split() if numbers else ("?", *"0000")
    if code != "0":
        last = complaint.strip().splitlines()[-2:] or ["no message"]
        raise RunError(f"exit {code}: {'; '.join(last)}")
    return Timing(float(wall), float(user), float(system), int(memory) * 1024 / 1e6, printed)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def summarise(timings: Sequence[Timing]) -> Summary:
    """The medians of at least one run."""
    walls = [timing.wall for timing in timings]
    results = [timing.result for timing in timings if timing.result is not None]
    return Summary(
        runs=len(timings),
        wall=statistics.median(walls),
        fastest=min(walls),
        slowest=max(walls),
        user=statistics.median(timing.user for timing in timings),
        system=statistics.median(timing.system for timing in timings),
        memory=max(timing.memory for timing in timings),
        result=statistics.median(results) if results else None,
    )
