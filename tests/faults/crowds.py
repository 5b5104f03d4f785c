"""Many processes at once in one store, some of them killed, each sure of its own names.

Every worker owns the names that begin with its number and remembers what they should mean; images,
layers and the store are everybody's.  A killed command may have done its work or not, so its worker
looks; after any other it knows.  What anybody finds to be otherwise is a violation.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kstore.store import Store
from kstore.store.catalog import Writer
from tests.support.faultserver import FaultServer
from tests.support.forkserver import ForkServer
from tests.support.images import TestImage, random_image
from tests.support.stores import listing, named

__all__ = ["CrowdReport", "crowd"]

#: At which calls a command is killed, if it comes that far.
_DEATHS = ("pwrite64", "fsync", "fdatasync", "rename", "unlink", "openat")
_KILLED = -9


@dataclass(slots=True)
class CrowdReport:
    """What a crowd did: commands by name, how many were killed, and what was wrong.

    ``sent``, ``least``: bytes of blobs that were sent to it, and of those that it has in the end.
    """

    commands: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    sent: int = 0
    least: int = 0
    violations: list[str] = field(default_factory=list)


def _images() -> list[TestImage]:
    """Nine images over three sets of layers: what one needs, others need, too."""
    return [random_image(n % 3, layers=3, layer_size=9000, labels={"n": str(n)}) for n in range(9)]


def crowd(
    root: Path,
    *,
    seed: int,
    workers: int,
    death: float,
    rounds: int | None = None,
    seconds: float = math.inf,
    removing: bool = True,
) -> CrowdReport:
    """Let ``workers`` do ``rounds`` commands each, or as many as they can in some seconds.

    One in ``1 / death`` commands is killed.  Without ``removing`` nobody takes away what others
    may pull again, and a blob takes so long that others want it meanwhile.
    """
    report, images = CrowdReport(), _images()
    Store.open(root).close()
    with ExitStack() as stack:
        server = stack.enter_context(FaultServer())
        server.rate = None if removing else 60_000  # bytes a second, of each blob
        for number, image in enumerate(images):
            server.offer(image, tag=f"v{number}")
        members = [
            _Worker(
                number, root, server, stack.enter_context(ForkServer()), images, seed, death, report
            )
            for number in range(workers)
        ]
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda worker: worker.work(rounds, end, removing), members))
        for member in members:
            report.violations += member.differences()
        report.sent = server.sent
    blobs = {digest.hex: len(data) for image in images for digest, data in image.blobs.items()}
    report.least = sum(blobs.get(name, 0) for name in listing(root / "blobs" / "sha256"))
    report.violations += _settled(root)
    return report


def _settled(root: Path) -> Iterator[str]:
    with Store.open(root) as store:
        problems = [one for one in store.check(deep=True).problems if not one.garbage]
        yield from (f"damage: {problem.detail}" for problem in problems)
        yield from (f"incomplete: {image.id}" for image in store.images() if not image.complete)
        store.prune(lease_grace=0, all_unused_partials=True)
        yield from (f"garbage: {one.detail}" for one in store.check(deep=True).problems)
    yield from (f"litter: {path.name}" for path in (root / "ingest").iterdir())


class _Worker:
    """One of the crowd; ``_names`` is what its own names mean (index of the image)."""

    def __init__(
        self,
        number: int,
        root: Path,
        server: FaultServer,
        forks: ForkServer,
        images: Sequence[TestImage],
        seed: int,
        death: float,
        report: CrowdReport,
    ) -> None:
        self._number = number
        self._root = root
        self._server = server
        self._forks = forks
        self._ids = {image.id: n for n, image in enumerate(images)}
        self._chance = random.Random(f"{seed}/{number}")
        self._death = death
        self._report = report
        self._names: dict[str, int] = {}
        self._count = 0

    def work(self, rounds: int | None, end: float, removing: bool) -> None:
        """``rounds`` commands, none of which begins after ``end`` (of the monotonic clock)."""
        acts: list[Callable[[], None]] = [
            *([self._pull] * 4),
            *([self._tag, self._tag, self._push, self._images, self._check]),
            *([self._rmi, self._rmi, self._untag, self._prune] if removing else []),
        ]
        for _ in itertools.count() if rounds is None else range(rounds):
            if time.monotonic() > end:
                return
            self._chance.choice(acts)()

    # ---- the commands

    def _pull(self) -> None:
        number = self._chance.randrange(9)
        name = f"{self._server.host}/team/app:v{number}"
        # A pulled name is everybody's; the worker's own one is made from the ID that was printed.
        code, out = self._run("pull", "-q", "--tls-verify=false", name)
        if code == 0 and self._ids.get(out.strip()) != number:
            self._wrong(f"pull of v{number} said {out!r}")
        if code == 0:
            self._give(self._own(), name, number)

    def _tag(self) -> None:
        if self._names:
            source = self._chance.choice(sorted(self._names))
            self._give(self._own(), source, self._names[source])

    def _give(self, name: str, source: str, number: int) -> None:
        code, _ = self._run("tag", source, name, others=frozenset({3}))
        if code == 0:
            self._names[name] = number
        elif code == 3 and source in self._names:
            self._wrong(f"{source} was lost")
        elif code == _KILLED:
            self._look(name, number)

    def _untag(self) -> None:
        self._drop("untag")

    def _rmi(self) -> None:
        self._drop("rmi")

    def _drop(self, verb: str) -> None:
        if self._names:
            name = self._chance.choice(sorted(self._names))
            code, _ = self._run(verb, name)
            if code == 0:
                del self._names[name]
            elif code == _KILLED:
                self._look(name, None)

    def _push(self) -> None:
        if self._names:
            name = self._chance.choice(sorted(self._names))
            self._run(
                *("push", "-q", "--tls-verify=false", name),
                f"{self._server.host}/team/pushed-{self._number}:{self._count}",
            )

    def _prune(self) -> None:
        self._run("prune", "--all-partials")

    def _images(self) -> None:
        code, out = self._run("images", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
        if code == 0:
            shown = {line.split()[1] for line in out.splitlines() if line}
            lost = set(self._names) - shown
            if lost:
                self._wrong(f"images does not show {sorted(lost)}")

    def _check(self) -> None:
        self._run("check")

    # ---- how

    def _own(self) -> str:
        return f"localhost/w{self._number}:n{self._chance.randrange(4)}"

    def _run(self, *words: str, others: frozenset[int] = frozenset()) -> tuple[int, str]:
        self._count += 1
        inject = ""
        if self._chance.random() < self._death:
            call, ordinal = self._chance.choice(_DEATHS), self._chance.randrange(1, 12)
            inject = f"{call}:signal=SIGKILL:when={ordinal}"
        run = self._forks.run("--root", self._root, *words, inject=inject)
        self._report.commands[words[0]] += 1
        self._report.killed += run.code == _KILLED
        allowed = {0} | others | ({_KILLED} if inject else set())
        if run.code not in allowed:
            self._wrong(f"{' '.join(words)}: {run.code} {run.err}{run.out}")
        return run.code, run.out

    def _look(self, name: str, wanted: int | None) -> None:
        """After a command on ``name`` was killed: it has the old meaning or the wanted one."""
        # A writer that died between its last byte and the word that it is the last one has done
        # nothing yet for who reads, and all of it if the log is read anew: the next one decides.
        with Store.open(self._root) as store, store._session.write() as db:
            Writer(db).bump_generation()
        old, now = self._names.get(name), self._meaning(name)
        if now not in (old, wanted):
            self._wrong(f"{name} means {now}, neither {old} nor {wanted}")
        if now is None:
            self._names.pop(name, None)
        else:
            self._names[name] = now

    def _meaning(self, name: str) -> int | None:
        with Store.open(self._root, read_only=True) as store:
            if store.name(named(name)) is None:
                return None
            return self._ids[store.find_image(name).image.id]

    def _wrong(self, words: str) -> None:
        self._report.violations.append(f"worker {self._number}: {words}")

    def differences(self) -> Iterator[str]:
        """Names that mean something else in the end than they should."""
        for name in (f"localhost/w{self._number}:n{n}" for n in range(4)):
            wanted, now = self._names.get(name), self._meaning(name)
            if now != wanted:
                yield f"{name} means {now} and should mean {wanted}"
