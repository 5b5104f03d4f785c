"""What a registry had to send: to many who pull at once, to one who dies again and again, to one
who repairs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kstore.digest import Digest
from kstore.store import Store
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer
from tests.support.images import TestImage, random_image
from tests.support.pulls import dying_at

__all__ = ["Cost", "killed_pulls", "pulls_at_once", "repair"]


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes of blobs: the least that would have done, and what was sent; and what was wrong."""

    least: int
    sent: int
    wrong: tuple[str, ...]

    @property
    def more(self) -> int:
        return self.sent - self.least


def _size(image: TestImage) -> int:
    return sum(map(len, image.blobs.values()))


def _problems(root: Path, *, garbage: bool) -> list[str]:
    with Store.open(root) as store:
        problems = store.check(deep=True).problems
    return [problem.detail for problem in problems if garbage or not problem.garbage]


def pulls_at_once(root: Path, count: int) -> Cost:
    """So many pulls of one image begin at the same time."""
    image = random_image(1, layers=3, layer_size=300_000)
    Store.open(root).close()
    with FaultServer() as server, ForkServer() as forks:
        name = server.offer(image)
        runs = forks.run_many(count, "--root", root, "pull", "-q", "--tls-verify=false", name)
    wrong = [str(run) for run in runs if (run.code, run.out) != (0, f"{image.id}\n")]
    return Cost(_size(image), server.sent, (*wrong, *_problems(root, garbage=True)))


def killed_pulls(root: Path, points: Sequence[int], *, layers: int, layer_size: int) -> Cost:
    """A pull dies (SIGKILL) whenever one of its layers has so many bytes, and a last one ends."""
    image = random_image(1, layers=layers, layer_size=layer_size, compression="none")
    wrong = []
    with FaultServer() as server, ForkServer() as forks:
        server.rate = 16 << 20  # bytes a second; what waits in the sockets of the dead is lost
        words = ("--root", root, "pull", "-q", "--tls-verify=false", server.offer(image))
        for point in points:
            run = forks.run(*words, prelude=dying_at(point))
            if run.code != -signal.SIGKILL:
                wrong.append(f"at {point} bytes: {run}")
        run = forks.run(*words)
        if (run.code, run.out) != (0, f"{image.id}\n"):
            wrong.append(f"in the end: {run}")
    return Cost(_size(image), server.sent, (*wrong, *_problems(root, garbage=False)))


def repair(root: Path, *, layers: int, layer_size: int) -> Cost:
    """One layer of an image is damaged in its middle, and ``check --repair`` fetches it again."""
    image = random_image(1, layers=layers, layer_size=layer_size, compression="none")
    damaged = image.layers[layers // 2]
    with FaultServer() as server, ForkServer() as forks:
        name = server.offer(image)
        pulled = forks.run("--root", root, "pull", "-q", "--tls-verify=false", name)
        blob = root / "blobs" / "sha256" / damaged.digest.hex
        _spoil(blob, layer_size // 2)
        server.requests.clear()
        before = server.sent
        mended = forks.run("--root", root, "check", "--repair", "--tls-verify=false", "--json")
    wrong = [str(run) for run in (pulled, mended) if run.code != 0]
    asked = {request.target.rpartition("/")[2] for request in server.seen("GET", "sha256:")}
    fetched = json.loads(mended.out)["repair"]["fetched"] if not wrong else []
    if [one["digest"] for one in fetched] != [str(damaged.digest)] or asked != {
        str(damaged.digest)
    }:
        wrong.append(f"asked for {asked}, fetched {fetched}")
    with blob.open("rb") as file:
        if Digest.of(file.read()) != damaged.digest:
            wrong.append("the layer is still damaged")
    return Cost(damaged.size, server.sent - before, tuple(wrong))


def _spoil(path: Path, place: int) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(os.urandom(30))
