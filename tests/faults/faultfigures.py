"""How many faults were tried, and what was wrong afterwards: figures for people to read.

Each function gives lines of Markdown, and tells on the way how far it is and what it finds.
Sweeps run in as many processes as there are processors, each with scenes of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults.crowds import crowd
from tests.faults.fuzzing import fuzzed
from tests.faults.fuzztargets import TARGETS
from tests.faults.powerscenes import STEPS, cut_scene
from tests.faults.scenes import FETCHES, OPERATIONS, REPAIRS, Operation, Scene, fast_directory
from tests.faults.sweeps import FAULTS, Sweep, faults_of, sweep
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer
from tests.support.powercuts import DISKS
from tests.support.scripts import environment

__all__ = ["calls", "crowds", "cuts", "fuzzing", "hostile"]

_PROJECT = Path(__file__).resolve().parents[2]
_CUT = (*OPERATIONS, *REPAIRS)
_SWEPT = (*_CUT, *FETCHES)
_CPUS = os.cpu_count() or 1

Tell = Callable[[str], object]
_Swept = Mapping[str, Sweep]  # by fault, or by kind of disk


def _every_call() -> bool:
    return os.environ.get("KSTORE_TEST_SWEEP") == "all"


def _calls_of(number: int) -> _Swept:
    operation = _SWEPT[number]
    with fast_directory() as directory, FaultServer() as server, ForkServer() as forks:
        scene = Scene(directory, server, forks)
        every = _every_call()
        at_most = None if every else operation.points
        return {
            fault: sweep(scene, operation, fault, at_most=at_most, every=every)
            for fault in faults_of(operation)
        }


def _cuts_of(number: int) -> _Swept:
    done = {}
    with fast_directory() as directory, FaultServer() as server, ForkServer() as forks:
        scene = Scene(directory, server, forks)
        for kind in DISKS:
            with cut_scene(scene, kind) as disks:
                done[kind] = sweep(disks, _CUT[number], "SIGKILL", calls=STEPS)
    return done


def _swept(
    operations: Sequence[Operation], sweep_one: Callable[[int], _Swept], tell: Tell
) -> list[_Swept]:
    """What came of each operation, in their order."""
    done: dict[int, _Swept] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(_CPUS, mp_context=context) as pool:
        running = {pool.submit(sweep_one, number): number for number in range(len(operations))}
        for future in as_completed(running):
            number = running[future]
            done[number] = future.result()
            points = sum(one.happened for one in done[number].values())
            tell(f"{operations[number]}: {points} ({len(done)} of {len(operations)} commands)")
            for one in done[number].values():
                for violation in one.violations:
                    tell(f"VIOLATION {violation}")
    return [done[number] for number in range(len(operations))]


def _table(
    columns: Iterable[str], operations: Sequence[Operation], swept: Sequence[_Swept]
) -> Iterator[str]:
    columns = list(columns)
    yield f"| command | {' | '.join(columns)} |"
    yield f"|{'---|' * (len(columns) + 1)}"
    for operation, done in zip(operations, swept, strict=True):
        counts = [str(done[column].happened) if column in done else "-" for column in columns]
        yield f"| {operation} | {' | '.join(counts)} |"
    results = [one for done in swept for one in done.values()]
    total = sum(one.happened for one in results)
    yield ""
    yield f"Together {total}; violations: {sum(len(one.violations) for one in results)}."


def calls(tell: Tell) -> Iterator[str]:
    """Every fault at the calls of every command."""
    yield "Faults at calls that change something, each in a store of its own:"
    yield ""
    yield from _table(FAULTS, _SWEPT, _swept(_SWEPT, _calls_of, tell))


def cuts(tell: Tell) -> Iterator[str]:
    """Power cuts at every step of every command; as root."""
    yield "Power cuts, the file system shut down before each sync, rename, unlink and the end:"
    yield ""
    yield from _table(DISKS, _CUT, _swept(_CUT, _cuts_of, tell))


def crowds(tell: Tell) -> Iterator[str]:
    """Many processes in one store, for ``KSTORE_TEST_CROWD`` seconds (60)."""
    seconds = float(os.environ.get("KSTORE_TEST_CROWD", "60"))
    with fast_directory() as directory:
        begun = time.monotonic()
        report = crowd(directory / "store", seed=1, workers=4, seconds=seconds, death=0.15)
        minutes = (time.monotonic() - begun) / 60
    for violation in report.violations:
        tell(f"VIOLATION {violation}")
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.commands.items()))
    yield f"A crowd of 4 for {minutes:.1f} minutes: {report.commands.total()} commands"
    yield f"({counts}), {report.killed} of them killed; violations: {len(report.violations)}."


#: What a test of hostile input tries, by file and name of the test.
_HOSTILE = {
    "tests/faults/test_hostile.py": {
        "test_a_hostile_archive_is_refused_or_does_no_harm": "archives",
        "test_a_hostile_manifest_is_refused_before_any_blob_is_asked_for": "manifests",
        "test_an_answer_without_end_is_cut_off": "answers without end",
    },
    "tests/unit/formats/test_layer_tar_hostile.py": {
        "test_a_hostile_archive_is_refused_with_the_place": "tar headers"
    },
}


def hostile(tell: Tell) -> Iterator[str]:
    """The hostile input of the tests, which are run for it."""
    kinds = {name: kind for tests in _HOSTILE.values() for name, kind in tests.items()}
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        wanted = [f"{file}::{name}" for file, tests in _HOSTILE.items() for name in tests]
        options = ["-q", "-p", "no:cacheprovider", f"--junit-xml={report.name}"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *wanted],
            cwd=_PROJECT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        cases = list(ET.parse(report.name).iter("testcase"))
    if done.returncode != 0:
        tell(f"VIOLATION {done.stdout[-3000:]}")
    tried = Counter(kinds[case.attrib["name"].partition("[")[0]] for case in cases)
    wrong = sum(case.find("failure") is not None for case in cases)
    texts = [f"{tried[kind]} {kind}" for kind in kinds.values()]
    yield f"Hostile input: {', '.join(texts)}; together {tried.total()}, harmful: {wrong}."


def fuzzing(tell: Tell) -> Iterator[str]:
    """Guided fuzzing, ``KSTORE_TEST_FUZZ`` times (20000) for each target."""
    executions = int(os.environ.get("KSTORE_TEST_FUZZ", "20000"))
    total = findings = 0
    with ThreadPoolExecutor(_CPUS) as pool:
        results = pool.map(lambda name: fuzzed(name, executions), TARGETS)
        for name, done in zip(TARGETS, results, strict=True):
            total += done.executions
            findings += bool(done.finding)
            tell(f"VIOLATION {done.finding}" if done.finding else f"{name}: {done.executions}")
    yield f"Guided fuzzing of {len(TARGETS)} parsers: {total} executions; findings: {findings}."
