"""Many processes that want the same blob: one fetches it, the others wait, and none for ever."""

from __future__ import annotations

import contextlib
import functools
import re
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.store import Store
from tests.support.cli import Result, run, run_process
from tests.support.faultserver import FaultServer
from tests.support.images import TestImage, random_image
from tests.support.pulls import STALL_SECONDS, Pull, held, pulling, wait_until

PATH = "team/app"
SIZE = 20 << 20
RATE = 10 << 20
MIDDLE = 4 << 20


@functools.cache
def big_image() -> TestImage:
    return random_image(1, layers=1, layer_size=SIZE, compression="none")


@dataclass(frozen=True)
class Scene:
    """A registry that sends the big layer in some seconds, and a store."""

    root: Path
    server: FaultServer

    @property
    def layer(self) -> Digest:
        return big_image().layers[0].digest

    @property
    def name(self) -> str:
        return f"{self.server.host}/{PATH}:v1"

    def offer(self, image: TestImage, tag: str) -> str:
        for data in image.blobs.values():
            self.server.add_blob(data, PATH)
        self.server.add_manifest(image.raw.data, image.raw.media_type, PATH, tag)
        return f"{self.server.host}/{PATH}:{tag}"

    def holds(self, count: int) -> bool:
        return held(self.root, self.layer) >= count

    @contextlib.contextmanager
    def pulls(self, count: int, name: str | None = None) -> Iterator[list[Pull]]:
        """So many pulls that begin at once."""
        with contextlib.ExitStack() as stack:
            yield [stack.enter_context(pulling(self.root, name or self.name)) for _ in range(count)]

    @contextlib.contextmanager
    def owner_and_waiters(self, count: int) -> Iterator[tuple[Pull, list[Pull]]]:
        """A pull that has a part of the layer, and ``count`` more that wait for it."""
        with self.pulls(1) as [owner]:
            wait_until(lambda: self.holds(MIDDLE))
            self.server.rate = 1 << 20
            with self.pulls(count) as waiters:
                for waiter in waiters:
                    wait_until(functools.partial(waits, waiter, owner))
                self.server.rate = RATE
                yield owner, waiters

    def ranges(self) -> list[str | None]:
        return [r.headers.get("range") for r in self.server.seen("GET", str(self.layer))]

    def check_pulled(self, results: Sequence[Result]) -> None:
        for result in results:
            assert (result.code, result.out) == (0, f"{big_image().id}\n"), result.err
            assert "Traceback" not in result.err
        with Store.open(self.root) as store:
            assert store.check(deep=True).problems == ()
            assert store.partial_downloads() == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with FaultServer() as server:
        server.rate = RATE
        scene = Scene(tmp_path / "store", server)
        scene.offer(big_image(), "v1")
        yield scene


def waits(pull: Pull, owner: Pull) -> bool:
    return f"waiting for process {owner.pid}, which is fetching it" in pull.told()


def waited_for(result: Result) -> set[int]:
    """The processes a pull said it was waiting for."""
    return {int(pid) for pid in re.findall(r"waiting for process (\d+)", result.err)}


def test_eight_pulls_fetch_every_blob_once(scene: Scene) -> None:
    with scene.pulls(8) as processes:
        results = [process.ended() for process in processes]
    scene.check_pulled(results)
    for digest in big_image().blobs:
        assert len(scene.server.seen("GET", str(digest))) == 1
    assert scene.server.sent == sum(map(len, big_image().blobs.values()))
    label = f"layer {scene.layer.short}"
    assert sum(f"{label}: fetched" in result.err for result in results) == 1
    assert sum(f"{label}: already here" in result.err for result in results) == 7
    told = set[int]().union(*map(waited_for, results))
    assert told
    assert told <= {process.pid for process in processes}


def test_a_waiter_says_who_it_waits_for_and_then_that_the_layer_is_here(scene: Scene) -> None:
    with scene.owner_and_waiters(1) as (owner, [waiter]):
        results = [owner.ended(), waiter.ended()]
    scene.check_pulled(results)
    label = f"layer {scene.layer.short}"
    assert f"{label}: waiting for process {owner.pid}, which is fetching it" in results[1].err
    assert f"{label}: already here" in results[1].err
    assert "waiting" not in results[0].err


def test_when_the_owner_is_killed_a_waiter_goes_on_where_it_was(scene: Scene) -> None:
    with scene.owner_and_waiters(3) as (owner, waiters):
        owner.send(signal.SIGKILL)
        results = [process.ended() for process in waiters]
    scene.check_pulled(results)
    first, second = scene.ranges()
    assert first is None
    assert second is not None
    assert int(re.fullmatch(r"bytes=(\d+)-", second)[1]) >= MIDDLE  # type: ignore[index]
    assert sum("resumed at" in result.err for result in results) == 1
    assert scene.server.sent < 1.3 * SIZE
    assert [waited_for(result) for result in results] == [{owner.pid}] * 3


def test_a_waiter_leaves_an_owner_that_stands_still(scene: Scene) -> None:
    with scene.owner_and_waiters(1) as (owner, [waiter]):
        owner.send(signal.SIGSTOP)
        began = time.monotonic()
        result = waiter.ended()
        took = time.monotonic() - began
        assert (result.code, result.out) == (0, f"{big_image().id}\n"), result.err
        assert took > STALL_SECONDS
        assert waited_for(result) == {owner.pid}
        owner.send(signal.SIGCONT)
        results = [owner.ended(), result]
    scene.check_pulled(results)  # also the owner's, which woke up late
    assert scene.ranges()[:2] == [None, None]


def test_many_who_leave_an_owner_that_stands_still_do_not_all_fetch(scene: Scene) -> None:
    with scene.owner_and_waiters(5) as (owner, waiters):
        owner.send(signal.SIGSTOP)
        results = [waiter.ended() for waiter in waiters]
        asked = len(scene.ranges())
        owner.send(signal.SIGCONT)
        results.append(owner.ended())
    scene.check_pulled(results)
    # One for the owner and one for who took over; on a machine that halts for a second, one more.
    assert asked <= 3
    label = f"layer {scene.layer.short}"
    assert sum(f"{label}: already here" in result.err for result in results) >= 4


def test_what_needs_other_blobs_does_not_wait(scene: Scene) -> None:
    small = random_image(2)
    name = scene.offer(small, "small")
    with scene.owner_and_waiters(1) as (owner, [waiter]):
        owner.send(signal.SIGSTOP)
        began = time.monotonic()
        pulled = run("--root", scene.root, "pull", "-q", "--tls-verify=false", name)
        listed = run_process("--root", scene.root, "images", "-q")
        partials = run("--root", scene.root, "ingest", "ls", "--format", "{{.Digest}}")
        took = time.monotonic() - began
        owner.send(signal.SIGCONT)
        results = [owner.ended(), waiter.ended()]
    assert (pulled.code, pulled.out) == (0, f"{small.id}\n")
    assert listed.out == f"{small.id[:12]}\n"
    assert partials.out == f"{scene.layer}\n"
    assert took < 2
    scene.check_pulled(results)


def test_a_download_that_runs_cannot_be_dropped(scene: Scene) -> None:
    with scene.owner_and_waiters(0) as (owner, _):
        one = run("--root", scene.root, "ingest", "rm", scene.layer.hex[:8])
        every = run("--root", scene.root, "ingest", "rm", "--all")
        result = owner.ended()
    assert (one.code, one.out) == (4, "")
    assert f"being written by process {owner.pid}" in one.err
    assert (every.code, every.out) == (0, "")
    assert "1 download being written by other commands stayed" in every.err
    scene.check_pulled([result])


@pytest.mark.slow
def test_twenty_pulls_of_five_images_on_a_store_under_prune_all_succeed(scene: Scene) -> None:
    scene.server.rate = 20 << 20
    images = [random_image(50 + n, layers=4, layer_size=1 << 20) for n in range(5)]
    names = [scene.offer(image, f"n{n}") for n, image in enumerate(images)]
    Store.open(scene.root).close()  # else the prune may come before there is a store
    with contextlib.ExitStack() as stack:
        processes = [
            (stack.enter_context(pulling(scene.root, names[n % 5])), images[n % 5])
            for n in range(20)
        ]
        while any(process.process.poll() is None for process, _ in processes):
            assert run("--root", scene.root, "prune").code == 0
        results = [(process.ended(), image) for process, image in processes]
    for result, image in results:
        assert (result.code, result.out) == (0, f"{image.id}\n"), result.err
    scene.check_pulled([])
    whole = sum(len(data) for image in images for data in image.blobs.values())
    assert scene.server.sent < 1.05 * whole
