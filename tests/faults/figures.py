"""The figures of ``contrib/docs/reliability.md``, measured anew.

::

    python -m tests.faults.figures              # the tables, on standard output; some minutes
    python -m tests.faults.figures --write      # into the document

Power cuts need root.  ``KSTORE_TEST_SWEEP=all`` and ``KSTORE_TEST_CROWD`` as for the tests.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kstore.store import Store
from tests.faults.crowds import crowd
from tests.faults.fuzztargets import TARGETS
from tests.faults.hostile import ARCHIVES, MANIFESTS
from tests.faults.powerscenes import STEPS, cut_scene
from tests.faults.races import RACES
from tests.faults.scenes import FETCHES, OPERATIONS, REPAIRS, Scene, fast_directory
from tests.faults.sweeps import FAULTS, faults_of, sweep
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer
from tests.support.images import random_image
from tests.support.powercuts import DISKS
from tests.support.scripts import environment
from tests.support.stores import put_image

__all__ = ["main"]

_DOCUMENT = Path(__file__).resolve().parents[2] / "contrib" / "docs" / "reliability.md"
_BEGIN, _END = "<!-- figures -->\n", "<!-- end of figures -->\n"
_EVERY = os.environ.get("KSTORE_TEST_SWEEP") == "all"
_FUZZ = int(os.environ.get("KSTORE_TEST_FUZZ", "20000"))
_CROWD = int(os.environ.get("KSTORE_TEST_CROWD", "300"))


def _table(head: list[str], rows: list[list[object]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"
    yield ""


def _calls(scene: Scene) -> Iterator[str]:
    rows, total, wrong = [], 0, 0
    for operation in (*OPERATIONS, *REPAIRS, *FETCHES):
        row: list[object] = [operation.name]
        for fault in FAULTS:
            if fault not in faults_of(operation):
                row.append("-")
                continue
            at_most = None if _EVERY else operation.points
            done = sweep(scene, operation, fault, at_most=at_most, every=_EVERY)
            row.append(done.happened)
            total, wrong = total + done.happened, wrong + len(done.violations)
            sys.stderr.writelines(f"{violation}\n" for violation in done.violations)
        rows.append(row)
    yield "Faults at calls that change something, each in a store of its own:"
    yield ""
    yield from _table(["command", *FAULTS], rows)
    yield f"Together {total}; violations: {wrong}."
    yield ""


def _cuts(scene: Scene) -> Iterator[str]:
    if os.geteuid() != 0:
        yield "Power cuts were not measured: they need root."
        yield ""
        return
    rows: list[list[object]] = []
    wrong = 0
    columns = []
    for kind in DISKS:
        with cut_scene(scene, kind) as disks:
            column = []
            for operation in (*OPERATIONS, *REPAIRS):
                done = sweep(disks, operation, "SIGKILL", calls=STEPS)
                column.append(done.happened)
                wrong += len(done.violations)
                sys.stderr.writelines(f"{violation}\n" for violation in done.violations)
            columns.append(column)
    for operation, *counts in zip((*OPERATIONS, *REPAIRS), *columns, strict=True):
        rows.append([operation.name, *counts])
    yield "Power cuts, the file system shut down before each sync, rename, unlink and the end:"
    yield ""
    yield from _table(["command", *DISKS], rows)
    yield f"Violations: {wrong}."
    yield ""


def _crowds() -> Iterator[str]:
    begun = time.monotonic()
    with fast_directory() as directory:
        report = crowd(directory / "store", seed=1, workers=4, rounds=_CROWD, death=0.15)
    minutes = (time.monotonic() - begun) / 60
    sys.stderr.writelines(f"{violation}\n" for violation in report.violations)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(report.commands.items()))
    yield f"A crowd of 4 for {minutes:.1f} minutes: {report.commands.total()} commands ({counts}),"
    yield f"{report.killed} of them killed; violations: {len(report.violations)}."
    yield ""


def _transfer() -> Iterator[str]:
    image = random_image(1, layers=3, layer_size=300_000)
    with fast_directory() as directory, FaultServer() as server, ForkServer() as forks:
        for data in image.blobs.values():
            server.add_blob(data, "team/app")
        server.add_manifest(image.raw.data, image.raw.media_type, "team/app", "v1")
        name = f"{server.host}/team/app:v1"
        forks.run_many(50, "--root", directory, "pull", "-q", "--tls-verify=false", name)
        least = sum(map(len, image.blobs.values()))
        yield f"50 pulls of one image at once: {server.sent - least} bytes more than one transfers."
    yield ""


def _check_speed() -> Iterator[str]:
    """``check --deep`` against ``sha256sum`` of the same files, the better of three each."""
    with fast_directory() as directory, ForkServer() as forks:
        image = random_image(1, layers=4, layer_size=64 << 20, compression="none")
        with Store.open(directory / "store") as store:
            put_image(store, image, "app")
        files = [str(path) for path in (directory / "store/blobs/sha256").iterdir()]

        def best(act: object) -> float:
            times = []
            for _ in range(3):
                begun = time.monotonic()
                act()  # type: ignore[operator]
                times.append(time.monotonic() - begun)
            return min(times)

        checked = best(lambda: forks.run("--root", directory / "store", "check", "--deep"))
        summed = best(
            lambda: subprocess.run(["sha256sum", *files], capture_output=True, check=True)
        )
        yield f"`check --deep` of 256 MiB: {checked / summed:.2f} of the time of `sha256sum`."
    yield ""


def _fuzzing() -> Iterator[str]:
    total = findings = 0
    for name in TARGETS:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.fuzzing", name, str(_FUZZ)],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )
        sys.stderr.write(done.stderr if done.returncode else "")
        findings += done.returncode != 0
        found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        total += int(found[1]) if found and done.returncode == 0 else 0
    yield f"Guided fuzzing of {len(TARGETS)} parsers: {total} executions; findings: {findings}."
    yield ""


def _measured() -> Iterator[str]:
    with fast_directory() as directory, FaultServer() as server, ForkServer() as forks:
        scene = Scene(directory, server, forks)
        yield from _calls(scene)
        yield from _cuts(scene)
    yield f"Hostile archives: {len(ARCHIVES)}; hostile manifests: {len(MANIFESTS)};"
    yield f"races stopped at their worst place: {len(RACES) + len(OPERATIONS)}."
    yield ""
    yield from _crowds()
    yield from _transfer()
    yield from _check_speed()
    yield from _fuzzing()


def main() -> None:
    """Measure, and print or write what was measured."""
    text = "\n".join(_measured()).rstrip() + "\n"
    if "--write" not in sys.argv[1:]:
        sys.stdout.write(text)
        return
    before, _, rest = _DOCUMENT.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _DOCUMENT.write_text(f"{before}{_BEGIN}\n{text}\n{_END}{after}")


if __name__ == "__main__":
    main()
