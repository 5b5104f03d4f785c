"""The server under a crowd: it is killed, its clients are slow, break off, and lie."""

from __future__ import annotations

import contextlib
import http.client
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.registry import RegistryClient, RegistrySettings
from kstore.store import Store
from kstore.streams import ByteStream
from tests.faults.scenes import fast_directory
from tests.support.images import random_image
from tests.support.pulls import wait_until
from tests.support.served import NotListeningError, Served
from tests.support.stores import listing
from tests.support.uploads import sizes

_BROKEN = (OSError, http.client.HTTPException)
_MIB = 1 << 20


@pytest.fixture
def directory() -> Iterator[Path]:
    with fast_directory() as place:
        yield place


def settled(root: Path) -> None:
    with Store.open(root) as store:
        assert not store.check(deep=True).damaged
        assert all(image.complete for image in store.images())
        store.prune(lease_grace=0, all_unused_partials=True)
        assert store.check(deep=True).problems == ()
    assert listing(root / "ingest") == []


def killed_at(root: Path, strace: str, call: str, ordinal: int) -> bool:
    """Whether the server died at that call of a push; the store is judged in any case."""
    image, other = random_image(1, layer_size=20_000), random_image(2)
    with Served(root) as server:
        server.push("team/kept", "v1", other)
    inject = f"inject={call}:signal=SIGKILL:when={ordinal}"
    prefix = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    announced = died = False
    try:
        with Served(root, prefix=prefix) as server:
            server.push("team/app", "v1", image)
            announced = True
    except (*_BROKEN, NotListeningError):
        died = True
    with Served(root) as server:
        assert server.pull("team/kept", "v1", other)
        there = server.pull("team/app", "v1", image)
        assert there or not announced
        server.push("team/app", "v1", image)
        assert server.pull("team/app", "v1", image)
    settled(root)
    return died


#: Calls of the threads that answer a push, each counting its own; later ones than those with which
#: the main thread opens the store.
_POINTS = [
    *[("rename", n) for n in (1, 2)],
    *[("fsync", n) for n in (1, 2, 3)],
    *[("fdatasync", n) for n in (2, 3)],
    *[("pwrite64", n) for n in (10, 11, 12, 14, 17, 20)],
    *[("fchmod", 1), ("ftruncate", 2)],
]


@pytest.mark.peer
@pytest.mark.parametrize(("call", "ordinal"), [("rename", 1), ("pwrite64", 12), ("fsync", 2)])
def test_a_server_that_is_killed_shows_an_image_whole_or_not_at_all(
    call: str, ordinal: int, directory: Path, require_program: Callable[[str], str]
) -> None:
    assert killed_at(directory / "store", require_program("strace"), call, ordinal)


@pytest.mark.slow
@pytest.mark.peer
def test_a_server_can_be_killed_at_any_step(
    directory: Path, require_program: Callable[[str], str]
) -> None:
    deaths = 0
    for call, ordinal in _POINTS:
        root = directory / f"{call}-{ordinal}"
        deaths += killed_at(root, require_program("strace"), call, ordinal)
    assert deaths >= len(_POINTS) // 2


def test_clients_at_once_and_a_server_that_dies_between_them(directory: Path) -> None:
    """Four clients push and pull; the server is killed after some of their images."""
    root = directory / "store"
    images = [random_image(n % 3, layers=3, labels={"n": str(n)}) for n in range(24)]
    announced: set[int] = set()

    def client(server: Served, number: int) -> bool:
        try:
            server.push(f"team/r{number % 4}", f"v{number}", images[number])
            announced.add(number)
            return server.pull(f"team/r{number % 4}", f"v{number}", images[number])
        except _BROKEN:
            return False

    with Served(root) as server, ThreadPoolExecutor(4) as pool:
        for begin in range(0, 24, 8):
            running = [pool.submit(client, server, n) for n in range(begin, begin + 8)]
            assert running[3].result()
            server.kill()
            for future in running:
                future.result()
            server.start()
        assert len(announced) >= 3
        for number, image in enumerate(images):
            there = server.pull(f"team/r{number % 4}", f"v{number}", image)
            assert there or number not in announced
    settled(root)


def test_blobs_that_arrived_before_a_death_are_not_sent_again(directory: Path) -> None:
    image = random_image(1, layers=3)
    with Served(directory / "store") as server:
        for data in list(image.blobs.values())[:2]:
            digest = Digest.of(data)
            path = f"/v2/team/app/blobs/uploads/?digest={digest}"
            assert server.ask("POST", path, data).status == 201
        server.kill()
        server.start()
        rest = sum(len(data) for data in list(image.blobs.values())[2:])
        assert server.push("team/app", "v1", image) == rest


def test_half_an_upload_goes_on_after_the_client_died_and_shows_nothing_before(
    directory: Path,
) -> None:
    image = random_image(1, layers=1, layer_size=3 * _MIB)
    layer = image.layers[0]
    data = image.blobs[layer.digest]
    with Served(directory / "store") as server:
        begun = server.ask("POST", "/v2/team/app/blobs/uploads/")
        place = begun.headers["location"].removeprefix(f"http://{server.host}")
        with server.dial() as line:
            head = (
                f"PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
            )
            line.sendall(head.encode() + data[:_MIB])
        assert server.ask("HEAD", f"/v2/team/app/blobs/{layer.digest}").status == 404

        def received() -> int:
            answer = server.ask("GET", place)
            assert answer.status == 204, answer
            return int(answer.headers["range"].rpartition("-")[2]) + 1

        wait_until(lambda: received() == _MIB)  # what the client left in the wire counts
        there = received()
        span = {"Content-Range": f"{there}-{len(data) - 1}"}
        joint = "&" if "?" in place else "?"
        ended = server.ask("PUT", f"{place}{joint}digest={layer.digest}", data[there:], span)
        assert ended.status == 201, ended
        server.push("team/app", "v1", image)
        assert server.pull("team/app", "v1", image)
    settled(directory / "store")


def test_uploads_that_a_killed_server_was_taking_in_go_on_at_the_next_one(directory: Path) -> None:
    """One for each of several offsets, all at once."""
    root = directory / "store"
    data = random.Random(1).randbytes(3 * _MIB)
    digest = Digest.of(data)
    with Served(root) as server, ExitStack() as stack:
        held = [0, 1, 4096, _MIB + 1, len(data)]
        places = []
        for size in held:
            place = server.ask("POST", "/v2/team/app/blobs/uploads/").headers["location"]
            line = stack.enter_context(server.dial())
            head = (
                f"PATCH {place} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data) + 9}\r\n"
            )
            line.sendall(head.encode() + b"\r\n" + data[:size])
            places.append(place)
        wait_until(lambda: sizes(root) == held)
        server.kill()
        server.start()
        assert server.ask("HEAD", f"/v2/team/app/blobs/{digest}").status == 404
        for place, size in zip(places, held, strict=True):
            told = server.ask("GET", place)
            assert (told.status, told.headers["range"]) == (204, f"0-{max(size - 1, 0)}")
            middle = (size + len(data)) // 2
            span = {"Content-Range": f"{size}-{middle - 1}"}
            if middle > size:
                assert server.ask("PATCH", place, data[size:middle], span).status == 202
            done = server.ask("PUT", f"{place}?digest={digest}", data[middle:])
            assert done.status == 201, done
            assert server.ask("GET", f"/v2/team/app/blobs/{digest}").body == data
    settled(root)


@pytest.mark.peer
@pytest.mark.parametrize(
    ("call", "ordinal", "status"), [("fchmod", 1, 204), ("fsync", 2, 404)], ids=["before", "after"]
)
def test_an_upload_whose_server_died_around_its_last_rename_is_brought_to_its_end(
    call: str,
    ordinal: int,
    status: int,
    directory: Path,
    require_program: Callable[[str], str],
) -> None:
    """Before, all its bytes are still those of the upload; after, they are sent again."""
    root, data = directory / "store", random.Random(3).randbytes(300_000)
    digest = Digest.of(data)
    Store.open(root).close()
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={ordinal}"]
    prefix = [require_program("strace"), "-f", "-qq", "-o", "/dev/null", *inject]

    def begun(server: Served) -> str:
        place = server.ask("POST", "/v2/team/app/blobs/uploads/").headers["location"]
        assert server.ask("PATCH", place, data).headers["range"] == "0-299999"
        return f"{place}?digest={digest}"

    with Served(root, prefix=prefix) as server:
        place = begun(server)
        with pytest.raises(_BROKEN):
            server.ask("PUT", place)
    with Served(root) as server:
        assert server.ask("GET", place).status == status
        again = place if status == 204 else begun(server)
        assert server.ask("PUT", again).status == 201
        assert server.ask("GET", f"/v2/team/app/blobs/{digest}").body == data
    settled(root)


class Deadly:
    """A body during which the server is killed, once ``alive`` bytes of it have arrived there."""

    def __init__(self, data: bytes, server: Served, alive: int) -> None:
        self._data = data
        self._server = server
        self._alive: int | None = alive
        self._offset = 0
        self.offsets: list[int] = []

    def open(self, offset: int) -> ByteStream:
        self.offsets.append(offset)
        self._offset = offset
        return self

    def readinto(self, buffer: memoryview, /) -> int:
        start = self._offset
        if start == self._alive:
            wait_until(lambda: sizes(self._server.root) == [start])
            self._server.kill()
            self._alive = None
        piece = self._data[start : start + min(len(buffer), 100_000)]
        buffer[: len(piece)] = piece
        self._offset += len(piece)
        return len(piece)

    def close(self) -> None:
        return


@pytest.mark.parametrize("alive", [100_000, 1_700_000, 2_900_000])
def test_a_push_goes_on_where_it_was_when_a_killed_server_is_back(
    directory: Path, alive: int
) -> None:
    """The server is still away when the client first asks what has arrived."""
    data = random.Random(2).randbytes(3_000_000)
    blob = Descriptor("x/y", Digest.of(data), len(data))
    heard: list[str] = []

    def hear(why: str) -> None:
        heard.append(why)
        if len(heard) == 2:
            server.start(server.host)

    settings = RegistrySettings(tls_verify=False, backoff_base=0.01)
    with Served(directory / "store") as server:
        body = Deadly(data, server, alive)
        with contextlib.closing(RegistryClient(server.host, settings)) as client:
            client.upload_blob("team/app", blob, body.open, on_retry=hear)
        assert body.offsets == [0, alive]
        assert "cannot be reached" in heard[1]
        assert server.ask("GET", f"/v2/team/app/blobs/{blob.digest}").body == data
    settled(directory / "store")


def test_slow_clients_and_large_bodies_cost_little_memory_and_hinder_nobody(
    directory: Path,
) -> None:
    """Forty clients dribble a request or never read an answer, and large blobs go in and out."""
    image = random_image(1, layers=2, layer_size=24 * _MIB, compression="none")
    with (
        Served(directory / "store", address_space=6000 * _MIB) as server,
        ExitStack() as stack,
    ):
        server.push("team/first", "v1", random_image(2))
        before = server.peak_memory()
        for number in range(40):
            line = stack.enter_context(server.dial())
            if number % 2:
                line.sendall(b"GET /v2/ HT")
            else:
                head = b"POST /v2/team/slow/blobs/uploads/ HTTP/1.1\r\nHost: localhost\r\n"
                line.sendall(head + b"Content-Length: 1000000\r\n\r\nx")
        server.push("team/app", "v1", image)
        with server.dial() as line:  # asks for a large blob, and never reads it
            layer = image.layers[0].digest
            line.sendall(
                f"GET /v2/team/app/blobs/{layer} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
            assert server.pull("team/app", "v1", image)
        assert server.peak_memory() - before < 40 * _MIB
    settled(directory / "store")
