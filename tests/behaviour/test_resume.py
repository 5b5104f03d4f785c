"""A pull that was stopped, by whatever, goes on where it was: in the next process."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.store import Store
from kstore.store.partials import Part
from tests.support.cli import Result, run
from tests.support.dockerregistry import DockerRegistry
from tests.support.faultserver import Fault, FaultServer
from tests.support.forkserver import ForkServer
from tests.support.images import TestImage, random_image
from tests.support.pulls import dying_at, held, pull, pulling, wait_until
from tests.support.stores import put_image

PATH = "team/app"
SIZE = 6 << 20
RATE = 12 << 20
MIDDLE = 2 << 20


@functools.cache
def image(label: str = "first") -> TestImage:
    """An image with one big layer, which it shares with those of other labels."""
    return random_image(1, layers=1, layer_size=SIZE, compression="none", labels={"label": label})


@dataclass(frozen=True)
class Scene:
    """A registry that sends blobs slowly, and a store."""

    root: Path
    server: FaultServer

    @property
    def layer(self) -> Digest:
        return image().layers[0].digest

    @property
    def size(self) -> int:
        return image().layers[0].size

    @property
    def name(self) -> str:
        return f"{self.server.host}/{PATH}:v1"

    @property
    def held(self) -> int:
        return held(self.root, self.layer)

    def holds(self, count: int) -> bool:
        return self.held >= count

    @property
    def part(self) -> Part:
        return Part.of(self.root / "ingest", self.layer)

    def offer(self, what: TestImage, path: str = PATH, tag: str = "v1") -> str:
        for data in what.blobs.values():
            self.server.add_blob(data, path)
        self.server.add_manifest(what.raw.data, what.raw.media_type, path, tag)
        return f"{self.server.host}/{path}:{tag}"

    def fault(self, fault: Fault, times: int = 1) -> None:
        self.server.fault(fault, "GET", str(self.layer), times)

    def stop_in_the_middle(self, number: int = signal.SIGKILL) -> tuple[Result, int]:
        """Begin a pull and stop it; how it ended, and the bytes it left."""
        with pulling(self.root, self.name) as running:
            wait_until(functools.partial(self.holds, MIDDLE))
            running.send(number)
            result = running.ended()
        assert MIDDLE <= self.held < self.size
        return result, self.held

    def pull(self, name: str | None = None, progress: str = "plain") -> Result:
        return pull(self.root, name or self.name, progress=progress)

    @property
    def ranges(self) -> list[str | None]:
        """What was asked for of the layer, request by request."""
        return [r.headers.get("range") for r in self.server.seen("GET", str(self.layer))]

    def check_pulled(self, result: Result, what: TestImage | None = None) -> None:
        """It ended well, every byte is right, and nothing is left over."""
        assert (result.code, result.out) == (0, f"{(what or image()).id}\n"), result.err
        assert "Traceback" not in result.err
        with Store.open(self.root) as store:
            # A killed pull may leave a finished file that has no row yet.
            assert not store.check(deep=True).damaged
            assert store.partial_downloads() == []


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with FaultServer() as server:
        server.rate = RATE
        scene = Scene(tmp_path / "store", server)
        scene.offer(image())
        yield scene


@pytest.fixture
def left(scene: Scene) -> int:
    """Bytes that a killed pull has left."""
    return scene.stop_in_the_middle()[1]


# ---- ways to be stopped


def test_any_image_that_needs_the_blob_goes_on_where_a_killed_pull_was(scene: Scene) -> None:
    result, left = scene.stop_in_the_middle(signal.SIGKILL)
    assert result.code == -signal.SIGKILL
    other = image("second")
    name = scene.offer(other, "another/repository", "v2")
    result = scene.pull(name)
    scene.check_pulled(result, other)
    assert scene.ranges == [None, f"bytes={left}-"]
    assert f"layer {scene.layer.short}: resumed at {left / 1e6:.1f} MB" in result.err
    assert scene.server.sent < 1.2 * scene.size


def test_a_pull_killed_again_and_again_still_ends(scene: Scene) -> None:
    for megabytes in (1, 3, 5):
        with pulling(scene.root, scene.name) as running:
            wait_until(functools.partial(scene.holds, megabytes << 20))
            running.send(signal.SIGKILL)
    scene.check_pulled(scene.pull())
    assert len(scene.ranges) == 4
    assert scene.server.sent < 1.2 * scene.size


@pytest.mark.slow
def test_a_pull_killed_at_forty_random_places_fetches_hardly_more_than_the_image(
    scene: Scene,
) -> None:
    chance = random.Random(40)
    scene.server.rate = 1 << 20
    with ForkServer() as forks:
        words = ("--root", scene.root, "pull", "-q", "--tls-verify=false", scene.name)
        for place in sorted(chance.randrange(scene.size) for _ in range(40)):
            assert forks.run(*words, prelude=dying_at(place)).code == -signal.SIGKILL
    scene.server.rate = None
    scene.check_pulled(scene.pull())
    assert scene.server.sent < 1.1 * scene.size + len(image().config)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_obeyed_and_says_that_the_rest_will_resume(
    scene: Scene, number: int, code: int
) -> None:
    result, left = scene.stop_in_the_middle(number)
    assert (result.code, result.out) == (code, "")
    assert result.err.splitlines()[-1] == (
        "kstore: stopped; finished layers and partial downloads are kept, and the next pull goes"
        " on from there"
    )
    result = scene.pull()
    scene.check_pulled(result)
    assert "resumed at" in result.err
    assert scene.ranges == [None, f"bytes={left}-"]


@pytest.mark.parametrize("stalled", [False, True], ids=["while bytes flow", "while it is silent"])
def test_ctrl_c_answers_within_a_fifth_of_a_second(scene: Scene, stalled: bool) -> None:
    """The best of three: other programs run on this machine as well."""
    scene.server.rate = 1 << 20
    if stalled:
        scene.fault(Fault(stall_after=100_000), times=9)
    times = []
    for _ in range(3):
        before = scene.held
        with pulling(scene.root, scene.name) as running:
            wait_until(functools.partial(scene.holds, before + 1))
            began = time.monotonic()
            running.send(signal.SIGINT)
            assert running.ended().code == 130
            times.append(time.monotonic() - began)
        if times[-1] < 0.2:
            return
    pytest.fail(f"it took {times} s")


@pytest.mark.root
def test_a_disk_that_fills_up_keeps_what_there_is_and_room_lets_the_pull_go_on(
    scene: Scene, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)], check=True)
    try:
        scene = replace(scene, root=disk / "store")
        with pulling(scene.root, scene.name) as running:
            wait_until(functools.partial(scene.holds, MIDDLE))
            with contextlib.suppress(OSError), open(disk / "filler", "ab", 0) as file:  # noqa: PTH123
                while True:
                    file.write(bytes(65536))
            result = running.ended()
        left = scene.held
        assert result.code == 10
        assert 0 < left < scene.size
        assert "space" in result.err
        assert f"of {scene.size} bytes" in result.err
        (disk / "filler").unlink()
        result = scene.pull()
        scene.check_pulled(result)
        assert scene.ranges == [None, f"bytes={left}-"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_network_that_goes_and_comes_back_costs_nothing_twice(scene: Scene) -> None:
    with FaultServer() as server:
        server.rate = RATE
        there = replace(scene, server=server)
        there.offer(image())
        with pulling(there.root, there.name) as running:
            wait_until(functools.partial(there.holds, MIDDLE))
            server.__exit__()
            result = running.ended()
    left = there.held
    assert (result.code, result.out) == (8, "")
    assert f"stopped at {left} of {there.size} bytes" in result.err
    with FaultServer(port=int(server.host.rpartition(":")[2])) as server:
        again = replace(scene, server=server)
        again.offer(image())
        again.check_pulled(again.pull())
        assert again.ranges == [f"bytes={left}-"]


def test_after_a_reboot_only_what_was_synced_is_trusted(scene: Scene) -> None:
    _, synced = scene.stop_in_the_middle(signal.SIGTERM)  # which syncs all there is
    assert scene.part.read_side().synced == synced
    with scene.part.path.open("ab") as file:
        file.write(bytes(500_000))  # as after a power cut
    side = json.loads(scene.part.side_path.read_text())
    scene.part.side_path.write_text(json.dumps(side | {"boot": "of-another-day"}))
    scene.check_pulled(scene.pull())
    assert scene.ranges == [None, f"bytes={synced}-"]


def test_after_a_reboot_nothing_is_trusted_that_was_never_synced(scene: Scene, left: int) -> None:
    side = json.loads(scene.part.side_path.read_text())
    scene.part.side_path.write_text(json.dumps(side | {"boot": "of-another-day"}))
    scene.check_pulled(scene.pull())
    assert scene.ranges == [None, None]


def test_a_clock_that_was_set_back_a_year_does_not_matter(scene: Scene, left: int) -> None:
    future = time.time() + 366 * 86400
    os.utime(scene.part.path, (future, future))
    scene.check_pulled(scene.pull())
    assert scene.ranges == [None, f"bytes={left}-"]


# ---- answers to the request for the rest


def test_a_server_that_ignores_ranges_is_read_from_the_start(scene: Scene, left: int) -> None:
    scene.fault(Fault(ignore_range=True))
    result = scene.pull()
    scene.check_pulled(result)
    assert "resumed" not in result.err
    assert scene.ranges == [None, f"bytes={left}-"]


def _wrong_answers() -> dict[str, Fault]:
    size = image().layers[0].size
    faults = {"416": Fault(status=416, body=b"")}
    for what, text in {
        "another start": f"bytes 5-{size - 1}/{size}",
        "another total": f"bytes {{left}}-{size - 1}/{size + 1}",
        "no Content-Range": None,
    }.items():
        faults[f"206 with {what}"] = Fault(status=206, headers={"Content-Range": text})
    return faults


@pytest.mark.parametrize("what", _wrong_answers())
def test_an_answer_that_is_not_the_rest_makes_it_start_again(
    scene: Scene, left: int, what: str
) -> None:
    fault = _wrong_answers()[what]
    if text := fault.headers.get("Content-Range"):
        fault.headers["Content-Range"] = text.replace("{left}", str(left))
    scene.fault(fault)
    result = scene.pull()
    scene.check_pulled(result)
    assert "resumed" not in result.err
    assert scene.ranges == [None, f"bytes={left}-", None]


def test_a_changed_etag_makes_it_start_again(scene: Scene) -> None:
    scene.fault(Fault(headers={"ETag": '"of-yesterday"'}))
    _, left = scene.stop_in_the_middle()
    scene.check_pulled(scene.pull())
    assert scene.ranges == [None, f"bytes={left}-"]
    assert scene.server.seen("GET", str(scene.layer))[1].headers["if-range"] == '"of-yesterday"'
    assert scene.server.sent > scene.size + left


def test_an_etag_is_no_condition_anywhere_but_where_it_was_given(scene: Scene) -> None:
    scene.fault(Fault(headers={"ETag": '"of-this-registry"'}))
    _, left = scene.stop_in_the_middle()
    with FaultServer() as server:
        mirror = replace(scene, server=server)
        mirror.offer(image())
        mirror.check_pulled(mirror.pull())
        assert mirror.ranges == [f"bytes={left}-"]
        assert "if-range" not in server.seen("GET", str(scene.layer))[0].headers


# ---- wrong bytes


def spoil(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 255]))


def test_a_part_that_was_damaged_on_the_disk_is_fetched_again_once(scene: Scene, left: int) -> None:
    spoil(scene.part.path)
    scene.check_pulled(scene.pull())
    assert scene.ranges == [None, f"bytes={left}-", None]


def test_a_blob_that_is_wrong_from_its_start_is_refused_and_forgotten(
    scene: Scene, left: int
) -> None:
    scene.fault(Fault(corrupt=True), times=9)
    result = scene.pull()
    assert (result.code, result.out) == (5, "")
    assert str(scene.layer) in result.err
    assert scene.ranges == [None, f"bytes={left}-", None]
    assert run("--root", scene.root, "ingest", "ls", "-n").out == ""
    assert run("--root", scene.root, "images", "-q").out == ""


# ---- ways to the bytes


def test_a_storage_address_that_expires_is_asked_for_again(scene: Scene) -> None:
    """The registry signs an address for every request; each is good for one download."""
    with FaultServer() as storage:
        storage.rate = RATE
        storage.add_blob(image().blobs[scene.layer], PATH)
        address = f"{storage.url}/v2/{PATH}/blobs/{scene.layer}?signature="
        for number in range(4):
            scene.fault(Fault(status=307, headers={"Location": f"{address}{number}"}, body=b""))
        _, left = scene.stop_in_the_middle()
        storage.fault(Fault(reset_after=1_000_000), "GET", "signature=1")
        storage.fault(Fault(status=403, body=b"Request has expired"), "GET", "signature=2")
        scene.check_pulled(scene.pull())
        asked = [(r.target[-1], r.headers.get("range")) for r in storage.seen("GET")]
    assert asked[:2] == [("0", None), ("1", f"bytes={left}-")]
    assert [number for number, _ in asked] == ["0", "1", "2", "3"]
    assert asked[3][1] == f"bytes={left + 1_000_000}-"


@pytest.mark.peer
def test_a_killed_pull_from_a_real_registry_resumes(tmp_path: Path) -> None:
    root, source = tmp_path / "store", tmp_path / "source"
    layer = image().layers[0]
    with DockerRegistry(tmp_path) as registry:
        name = f"{registry.host}/{PATH}:v1"
        with Store.open(source) as store:
            put_image(store, image(), "localhost/app:1")
        pushed = run("--root", source, "push", "-q", "--tls-verify=false", "localhost/app:1", name)
        assert pushed.code == 0, pushed.err
        assert pull(root, name, die_at=MIDDLE).code == -signal.SIGKILL
        left = held(root, layer.digest)
        assert MIDDLE <= left < layer.size
        result = pull(root, name, progress="json")
    assert (result.code, result.out) == (0, f"{image().id}\n")
    assert [e["done"] for e in events(result, "start") if e["size"] == layer.size] == [left]
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()


# ---- what is told


def events(result: Result, kind: str) -> list[dict[str, object]]:
    """The events of one kind that ``--progress json`` has written."""
    lines = [line for line in result.err.splitlines() if line.startswith("{")]
    return [event for line in lines if (event := json.loads(line))["event"] == kind]


def test_json_events_tell_where_the_pull_goes_on(scene: Scene, left: int) -> None:
    result = scene.pull(progress="json")
    scene.check_pulled(result)
    layer = {"digest": str(scene.layer), "size": scene.size}
    [start] = [e for e in events(result, "start") if e["digest"] == layer["digest"]]
    assert start == {"event": "start", **layer, "done": left}
    advances = [e["done"] for e in events(result, "advance") if e["digest"] == layer["digest"]]
    assert advances == sorted(advances)
    assert all(isinstance(done, int) and left <= done <= scene.size for done in advances)
    finish = {"event": "finish", **layer, "done": scene.size, "how": "copied"}
    assert finish in events(result, "finish")


def test_a_lost_connection_is_told_once_and_the_pull_goes_on(scene: Scene) -> None:
    scene.fault(Fault(reset_after=3_000_000))
    result = scene.pull()
    scene.check_pulled(result)
    told = [line for line in result.err.splitlines() if "going on at" in line]
    assert len(told) == 1
    assert told[0].startswith(f"layer {scene.layer.short}: ")
    assert told[0].endswith("; going on at 3.0 MB")
    assert "warning" not in result.err


def test_a_lost_connection_is_an_event(scene: Scene) -> None:
    scene.fault(Fault(reset_after=3_000_000))
    result = scene.pull(progress="json")
    scene.check_pulled(result)
    [retry] = events(result, "retry")
    assert (retry["digest"], retry["done"]) == (str(scene.layer), 3_000_000)
    assert isinstance(retry["text"], str)


def test_a_long_wait_is_told_once_with_its_length(scene: Scene) -> None:
    """In this process, whose patience is kstore's own."""
    scene.fault(Fault(status=503, headers={"Retry-After": "2"}, body=b""))
    result = run("--root", scene.root, "pull", "--tls-verify=false", scene.name)
    scene.check_pulled(result)
    [told] = [line for line in result.err.splitlines() if "503" in line]
    assert told.startswith(f"layer {scene.layer.short}: ")
    assert told.endswith("; waiting 2 s; going on at 0 B")
