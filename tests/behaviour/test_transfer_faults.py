"""Networks and registries at their worst: the image arrives whole, or the error says why.

What a pull that was stopped does in its next process is in ``test_resume``, what many pulls at once
do in ``test_parallel_pulls``.
"""

from __future__ import annotations

import email.utils
import gzip
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.copier.progress import Event
from kstore.digest import Digest
from kstore.errors import (
    DigestMismatchError,
    IntegrityError,
    RemoteError,
    RemoteTimeoutError,
    SizeMismatchError,
)
from kstore.store import Store
from tests.support.cutproxy import CutProxy
from tests.support.dockerregistry import DockerRegistry
from tests.support.faultserver import Bearer, Fault, FaultServer
from tests.support.images import TestImage, random_image
from tests.support.localregistry import serve
from tests.support.stores import put_image
from tests.support.transfers import Waits, pull, push

PATH = "team/app"
LOCAL = "localhost/app:1"
PIECE = 64 * 1024
IMAGE = random_image(1, layers=1, layer_size=1 << 20, compression="none")
LAYER = IMAGE.layers[0]


@dataclass(frozen=True)
class Scene:
    """A registry that offers the image, and an empty store."""

    root: Path
    server: FaultServer

    @property
    def name(self) -> str:
        return f"{self.server.host}/{PATH}:v1"

    def offer(self, image: TestImage) -> None:
        for data in image.blobs.values():
            self.server.add_blob(data, PATH)
        self.server.add_manifest(image.raw.data, image.raw.media_type, PATH, "v1")

    def fault(self, fault: Fault, times: int = 1) -> None:
        """What happens to the next requests for the layer."""
        self.server.fault(fault, "GET", str(LAYER.digest), times)

    @property
    def ranges(self) -> list[str | None]:
        """What was asked for of the layer, request by request."""
        return [r.headers.get("range") for r in self.server.seen("GET", str(LAYER.digest))]

    def check_pulled(self, image: TestImage = IMAGE) -> None:
        with Store.open(self.root) as store:
            assert store.find_image(self.name).image.id == image.id
            assert store.check(deep=True).problems == ()
            assert store.partial_downloads() == []

    def check_refused(self, held: int = 0) -> None:
        """Nothing is visible; so many bytes of the layer are kept."""
        with Store.open(self.root) as store:
            assert store.images() == []
            assert [part.bytes for part in store.partial_downloads()] == ([held] if held else [])

    def check_pushed(self) -> None:
        assert self.server.manifests[PATH]["v1"][1] == IMAGE.raw.data
        for digest, data in IMAGE.blobs.items():
            assert self.server.blobs[PATH][str(digest)] == data


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with FaultServer() as server:
        scene = Scene(tmp_path / "store", server)
        scene.offer(IMAGE)
        yield scene


@pytest.fixture
def to_push(tmp_path: Path) -> Iterator[Scene]:
    """A store with the image, and an empty registry."""
    with FaultServer() as server, Store.open(tmp_path / "store") as store:
        put_image(store, IMAGE, LOCAL)
        yield Scene(tmp_path / "store", server)


def retries(events: list[Event], digest: Digest = LAYER.digest) -> list[Event]:
    return [event for event in events if event.kind == "retry" and event.digest == digest]


# ---- connections that break


@pytest.mark.parametrize(
    "cut",
    [Fault(reset_after=PIECE), Fault(truncate_after=PIECE)],
    ids=["reset", "closed politely"],
)
def test_a_connection_cut_after_every_64_kib_costs_nothing_twice(scene: Scene, cut: Fault) -> None:
    scene.fault(cut, times=1000)
    events = pull(scene.root, scene.name)
    scene.check_pulled()
    assert scene.server.sent < 1.1 * LAYER.size
    assert len(scene.ranges) == math.ceil(LAYER.size / PIECE)
    assert len(retries(events)) == len(scene.ranges) - 1


def test_an_upload_cut_after_every_64_kib_costs_nothing_twice(to_push: Scene) -> None:
    server = to_push.server
    server.fault(Fault(swallow=PIECE), "PATCH", times=LAYER.size // PIECE)
    events = push(to_push.root, LOCAL, to_push.name)
    to_push.check_pushed()
    sent = sum(len(request.body) for request in server.seen("PATCH"))
    assert sent == sum(map(len, IMAGE.blobs.values()))
    assert len(retries(events)) == LAYER.size // PIECE


def test_an_upload_that_breaks_is_told_of_without_a_place(to_push: Scene) -> None:
    """The registry decides how much of it is sent again."""
    to_push.server.fault(Fault(swallow=500_000), "PATCH")
    events = push(to_push.root, LOCAL, to_push.name)
    to_push.check_pushed()
    [lost] = retries(events)
    assert lost.done is None
    assert "connection" in (lost.text or "")


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_a_body_that_is_too_long_is_refused(scene: Scene, chunked: bool) -> None:
    scene.fault(Fault(extra=b"more", chunked=chunked), times=9)
    with pytest.raises(SizeMismatchError, match=str(LAYER.digest)):
        pull(scene.root, scene.name)
    scene.check_refused()


# ---- wrong bytes


def test_wrong_bytes_from_one_connection_are_refused_at_once(scene: Scene) -> None:
    scene.fault(Fault(corrupt=True), times=9)
    with pytest.raises(DigestMismatchError, match=str(LAYER.digest)) as caught:
        pull(scene.root, scene.name)
    assert caught.value.exit_code == 5
    assert scene.ranges == [None]
    scene.check_refused()


def test_wrong_bytes_from_two_connections_are_fetched_again_once(scene: Scene) -> None:
    scene.fault(Fault(corrupt=True, reset_after=300_000))
    events = pull(scene.root, scene.name)
    scene.check_pulled()
    assert scene.ranges == [None, "bytes=300000-", None]
    assert [e.done for e in events if e.kind == "start" and e.digest == LAYER.digest] == [0, 0]


def test_bytes_that_are_wrong_again_are_refused(scene: Scene) -> None:
    scene.fault(Fault(corrupt=True, reset_after=300_000))
    scene.fault(Fault())
    scene.fault(Fault(corrupt=True, reset_after=300_000))
    with pytest.raises(DigestMismatchError) as caught:
        pull(scene.root, scene.name)
    assert caught.value.exit_code == 5
    assert scene.ranges == [None, "bytes=300000-", None, "bytes=300000-"]
    scene.check_refused()


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("what", ["the layer", "the manifest"])
def test_a_proxy_that_compresses_is_named_instead_of_the_blob(
    scene: Scene, what: str, chunked: bool
) -> None:
    data, target = IMAGE.blobs[LAYER.digest], str(LAYER.digest)
    if what == "the manifest":
        data, target = IMAGE.raw.data, "/manifests/"
    headers: dict[str, str | None] = {"Content-Encoding": "gzip"}
    proxied = Fault(body=gzip.compress(data), headers=headers, chunked=chunked)
    scene.server.fault(proxied, "GET", target, times=9)
    with pytest.raises(RemoteError, match="Content-Encoding 'gzip'") as caught:
        pull(scene.root, scene.name)
    assert caught.value.hint is not None
    assert not isinstance(caught.value, IntegrityError)
    assert len(scene.server.seen("GET", target)) == 1
    with Store.open(scene.root) as store:
        assert store.images() == []
    scene.server.forgive()
    pull(scene.root, scene.name)  # the proxy was mended; what it left does no harm
    scene.check_pulled()


# ---- silence


_SILENCES = {
    "before the headers": Fault(delay=60),
    "in the middle": Fault(stall_after=20_000),
    "a byte now and then": Fault(trickle=0.02),
}
_IMPATIENT = {
    "response_timeout": 0.5,
    "idle_timeout": 0.5,
    "minimum_speed": 1000,
    "minimum_speed_window": 0.5,
}


@pytest.mark.parametrize("what", _SILENCES)
def test_a_server_that_falls_silent_once_is_asked_again(scene: Scene, what: str) -> None:
    scene.fault(_SILENCES[what])
    events = pull(scene.root, scene.name, **_IMPATIENT, attempts=20)
    scene.check_pulled()
    assert "was given up" in (retries(events)[0].text or "")
    ranges = scene.ranges
    assert len(ranges) >= 2
    assert (ranges[1] is None) == (what == "before the headers")


@pytest.mark.parametrize("what", _SILENCES)
def test_a_server_that_stays_silent_is_given_up(scene: Scene, what: str) -> None:
    scene.fault(_SILENCES[what], times=99)
    began = time.monotonic()
    with pytest.raises(RemoteTimeoutError, match=r"of \d+ bytes: .* \(3 attempts\)") as caught:
        pull(scene.root, scene.name, **_IMPATIENT, attempts=3)
    assert time.monotonic() - began < 20
    assert caught.value.exit_code == 8
    assert str(LAYER.digest) in str(caught.value)


# ---- too many requests


def _tomorrow() -> str:
    return email.utils.formatdate(time.time() + 86400, usegmt=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("after", [lambda: "86400", _tomorrow], ids=["seconds", "date"])
def test_a_storm_of_refusals_is_waited_out_as_long_as_is_reasonable(
    scene: Scene, status: int, after: Callable[[], str]
) -> None:
    storm = Fault(status=status, headers={"Retry-After": after()}, body=b"")
    for target in ("/manifests/", str(LAYER.digest)):
        scene.server.fault(storm, "GET", target, times=5)
    waits = Waits()
    pull(scene.root, scene.name, waits=waits, attempts=6, backoff_cap=7.0)
    scene.check_pulled()
    assert len(waits.seconds) == 10
    assert all(7.0 <= seconds <= 7.7 for seconds in waits.seconds)
    assert len(set(waits.seconds)) > 1  # not all clients at the same moment


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "HEAD"])
def test_a_push_waits_a_storm_out(to_push: Scene, method: str) -> None:
    storm = Fault(status=429, headers={"Retry-After": "3"}, body=b"")
    to_push.server.fault(storm, method, "/blobs/", times=3)
    waits = Waits()
    push(to_push.root, LOCAL, to_push.name, waits=waits, backoff_cap=60.0)
    to_push.check_pushed()
    assert len(waits.seconds) == 3
    assert all(3.0 <= seconds <= 3.3 for seconds in waits.seconds)


def test_a_storm_that_does_not_end_is_given_up(scene: Scene) -> None:
    scene.fault(Fault(status=429, headers={"Retry-After": "1"}, body=b""), times=99)
    with pytest.raises(RemoteError, match=r"429 .*\(4 attempts\)") as caught:
        pull(scene.root, scene.name, waits=Waits())
    assert caught.value.status == 429
    assert len(scene.ranges) == 4
    scene.check_refused()


# ---- tokens and addresses that expire


def test_a_token_for_each_request_is_enough_for_a_pull_that_breaks(scene: Scene) -> None:
    scene.server.auth = Bearer(uses=1)
    for _ in range(3):
        # The request with the old token, which is refused, and the one with the new token.
        scene.fault(Fault())
        scene.fault(Fault(reset_after=300_000))
    pull(scene.root, scene.name)
    scene.check_pulled()
    assert scene.server.sent < 1.01 * LAYER.size
    granted = len(scene.server.seen("GET", "/token"))
    assert granted >= 6  # the manifest, the configuration, and the layer four times


def test_a_token_for_each_request_is_enough_for_a_push_in_pieces(to_push: Scene) -> None:
    to_push.server.auth = Bearer(uses=1)
    push(to_push.root, LOCAL, to_push.name, upload_chunk=300_000)
    to_push.check_pushed()


def test_a_token_that_expires_with_each_broken_upload_is_renewed(to_push: Scene) -> None:
    auth = to_push.server.auth = Bearer()
    for _ in range(3):
        to_push.server.fault(Fault(swallow=300_000, act=auth.revoke), "PATCH")
    push(to_push.root, LOCAL, to_push.name)
    to_push.check_pushed()


def test_a_storage_address_that_expires_at_every_break_is_asked_for_again(scene: Scene) -> None:
    with FaultServer() as storage:
        storage.add_blob(IMAGE.blobs[LAYER.digest], PATH)
        address = f"{storage.url}/v2/{PATH}/blobs/{LAYER.digest}?signature="
        for number in range(5):
            scene.fault(Fault(status=307, headers={"Location": f"{address}{number}"}, body=b""))
        for number in (0, 2):
            storage.fault(Fault(reset_after=400_000), "GET", f"signature={number}")
            expired = Fault(status=403, body=b"Request has expired")
            storage.fault(expired, "GET", f"signature={number + 1}")
        pull(scene.root, scene.name)
        scene.check_pulled()
        assert [r.headers.get("range") for r in storage.seen("GET")] == [
            None, "bytes=400000-", "bytes=400000-", "bytes=800000-", "bytes=800000-",
        ]  # fmt: skip


# ---- few connections


@pytest.mark.parametrize("single", ["close", "wait"])
def test_a_server_with_one_connection_serves_many_layers(scene: Scene, single: str) -> None:
    image = random_image(7, layers=6, layer_size=50_000)
    scene.offer(image)
    scene.server.single = single  # type: ignore[assignment]
    pull(scene.root, scene.name, parallel=6, attempts=60, response_timeout=0.5)
    scene.check_pulled(image)


# ---- registries that are restarted, forget, and lie


def check_served(root: Path, name: str) -> None:
    """The pushed image can be pulled whole from where it is."""
    pull(root, name)
    with Store.open(root) as store:
        assert store.find_image(name).image.id == IMAGE.id
        assert store.check(deep=True).problems == ()


def test_a_push_to_kstores_own_registry_continues_where_it_was_cut(
    to_push: Scene, tmp_path: Path
) -> None:
    with serve(tmp_path / "served") as registry, CutProxy(registry.host) as proxy:
        proxy.cut_after(500_000)
        name = f"{proxy.host}/{PATH}:v1"
        [lost] = retries(push(to_push.root, LOCAL, name))
        assert lost.text
        check_served(tmp_path / "again", name)
        asked = [line.method for line in registry.log if "/uploads/" in line.path]
    # The layer, its offset and the rest of it; the configuration.
    assert asked.count("POST") == 2
    assert asked.count("GET") == 1


def test_a_push_survives_the_restart_of_kstores_own_registry(
    to_push: Scene, tmp_path: Path
) -> None:
    served = tmp_path / "served"
    with ExitStack() as first, ExitStack() as second:
        proxy = second.enter_context(CutProxy(first.enter_context(serve(served)).host))

        def restart() -> None:
            first.close()
            proxy.target = second.enter_context(serve(served)).host

        proxy.cut_after(500_000, restart)
        name = f"{proxy.host}/{PATH}:v1"
        events = push(to_push.root, LOCAL, name)
        assert proxy.cuts == 1
        assert retries(events)
        check_served(tmp_path / "again", name)


@pytest.mark.peer
@pytest.mark.parametrize("chunk", [None, 300_000], ids=["one stream", "pieces"])
@pytest.mark.parametrize("restarted", [False, True], ids=["it runs on", "it is restarted"])
def test_a_push_to_a_real_registry_survives_a_cut(
    to_push: Scene, tmp_path: Path, restarted: bool, chunk: int | None
) -> None:
    """This one drops an upload that has another size than it last told: the blob begins again."""
    with ExitStack() as stack:
        registry = stack.enter_context(DockerRegistry(tmp_path))
        proxy = stack.enter_context(CutProxy(registry.host))

        def restart() -> None:
            registry.__exit__()
            registry.__enter__()

        proxy.cut_after(500_000, restart if restarted else lambda: None)
        name = f"{proxy.host}/{PATH}:v1"
        events = push(to_push.root, LOCAL, name, upload_chunk=chunk, backoff_base=0.2, attempts=8)
        assert proxy.cuts == 1
        assert retries(events)
        check_served(tmp_path / "again", name)


# ---- clocks


@pytest.mark.parametrize("years", [-1, 1], ids=["back", "ahead"])
def test_a_clock_that_jumps_a_year_between_tries_does_not_matter(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    scene.fault(Fault(reset_after=400_000))
    scene.fault(Fault(status=404, body=b""))
    with pytest.raises(Exception, match="has no blob"):
        pull(scene.root, scene.name)
    scene.check_refused(held=400_000)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + years * 366 * 86400)
    events = pull(scene.root, scene.name)
    monkeypatch.undo()
    scene.check_pulled()
    assert scene.ranges == [None, "bytes=400000-", "bytes=400000-"]
    starts = [e.done for e in events if e.kind == "start" and e.digest == LAYER.digest]
    assert starts == [400_000]
