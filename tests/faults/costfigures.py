"""Bytes and seconds: figures for people to read, beside what they are measured against."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kstore.store import Store
from tests.faults.costs import Cost, killed_pulls, pulls_at_once, repair
from tests.faults.scenes import fast_directory
from tests.support.images import random_image
from tests.support.scripts import environment
from tests.support.stores import put_image

__all__ = ["check_speed", "repairs", "transfers"]

_MIB = 1 << 20

Tell = Callable[[str], object]


def _told(cost: Cost, tell: Tell) -> Cost:
    for wrong in cost.wrong:
        tell(f"VIOLATION {wrong}")
    return cost


def transfers(tell: Tell) -> Iterator[str]:
    """Bytes sent beyond what one undisturbed pull needs."""
    with fast_directory() as directory:
        many = _told(pulls_at_once(directory / "many", 50), tell)
        tell("50 pulls at once")
        points = [n * _MIB for n in range(1, 8)]
        killed = _told(
            killed_pulls(directory / "killed", points, layers=3, layer_size=8 * _MIB), tell
        )
    yield f"50 pulls of one image at once: {many.more} bytes more than one transfers."
    yield f"A pull of {killed.least / 1e6:.0f} MB that was killed {len(points)} times:"
    yield f"{killed.more} bytes more ({killed.more / killed.least:.1%})."


def repairs(tell: Tell) -> Iterator[str]:
    """What a registry sends to mend one layer of many."""
    with fast_directory() as directory:
        cost = _told(repair(directory / "store", layers=8, layer_size=50_000_000), tell)
    yield "`check --repair` of an image of 8 layers of 50 MB, one of them damaged:"
    yield f"{cost.least / 1e6:.1f} MB damaged, {cost.more} bytes more transferred."


def _seconds(words: Sequence[object], files: Sequence[Path], *, cold: bool) -> tuple[float, int]:
    """How long a command takes, and how many bytes it had to read from the disk."""
    if cold:
        for path in files:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    blocks = resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock
    begun = time.monotonic()
    subprocess.run(list(map(str, words)), check=True, capture_output=True, env=environment())
    seconds = time.monotonic() - begun
    return seconds, (resource.getrusage(resource.RUSAGE_CHILDREN).ru_inblock - blocks) * 512


def check_speed(tell: Tell) -> Iterator[str]:
    """``check --deep`` against ``sha256sum`` of the same files on a real disk, best of three."""
    with tempfile.TemporaryDirectory(prefix="kstore-") as directory:
        root = Path(directory) / "store"
        image = random_image(1, layers=8, layer_size=64 * _MIB, compression="none")
        with Store.open(root) as store:
            put_image(store, image, "app")
        files = sorted((root / "blobs" / "sha256").iterdir())
        size = sum(path.stat().st_size for path in files)
        check = [sys.executable, "-m", "kstore", "--root", root, "check", "--deep"]
        summing = ["sha256sum", *files]
        for state in ("warm", "cold"):
            cold = state == "cold"
            checked, _ = min(_seconds(check, files, cold=cold) for _ in range(3))
            summed, read = min(_seconds(summing, files, cold=cold) for _ in range(3))
            tell(f"{state}: check {checked:.2f} s, sha256sum {summed:.2f} s")
            if cold and read < size // 2:
                yield "How fast it is with nothing cached could not be measured here."
                continue
            yield (
                f"`check --deep` of {size // _MIB} MiB, {state}: {checked:.2f} s,"
                f" {checked / summed:.2f} of the {summed:.2f} s of `sha256sum`."
            )
