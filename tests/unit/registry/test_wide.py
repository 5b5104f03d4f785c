"""A large blob from a registry that limits each connection."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import RemoteError
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry import wide as wide_module
from kstore.streams import VerifiedStream, pump
from tests.support.faultserver import Fault, FaultServer

PIECE = 64 * 1024
DATA = random.Random(1).randbytes(20 * PIECE + 17)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide_module, "PIECE", PIECE)
    monkeypatch.setattr(wide_module, "WORTHWHILE", 5 * PIECE)
    monkeypatch.setattr("kstore.registry.client.WORTHWHILE", 5 * PIECE)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.rate = 1_000_000  # bytes a second for each connection: 1.3 s in one stream
        yield server


def client_of(server: FaultServer, **settings: object) -> RegistryClient:
    values: dict[str, object] = {
        "tls_verify": False, "slow_after": 0.1, "attempts": 2, "backoff_base": 0.01, **settings
    }  # fmt: skip
    return RegistryClient(server.host, RegistrySettings(**values))  # type: ignore[arg-type]


def fetch(client: RegistryClient, blob: Descriptor, offset: int = 0) -> bytes:
    found = bytearray()
    with client.open_blob("team/app", blob, offset) as download:
        assert download.offset == offset
        pump(download, found.extend)
    return bytes(found)


def ranges(server: FaultServer) -> list[str]:
    return [r.headers["range"] for r in server.seen("GET", "/blobs/") if "range" in r.headers]


def test_a_slow_blob_is_fetched_in_ranges_and_arrives_whole(server: FaultServer) -> None:
    blob = server.add_blob(DATA)
    began = time.monotonic()
    with client_of(server, connections=1) as client:
        assert fetch(client, blob) == DATA
    alone, began = time.monotonic() - began, time.monotonic()
    assert ranges(server) == []
    with client_of(server) as client, client.open_blob("team/app", blob) as download:
        stream = VerifiedStream(download, blob)
        assert pump(stream, len) == len(DATA)
    together = time.monotonic() - began
    assert len(ranges(server)) >= 15
    assert together < alone * 0.75


def test_a_resumed_slow_blob_is_widened_too(server: FaultServer) -> None:
    blob = server.add_blob(DATA)
    with client_of(server) as client:
        assert fetch(client, blob, 100_000) == DATA[100_000:]
    assert len(ranges(server)) > 10


def test_a_fast_blob_stays_one_stream(server: FaultServer) -> None:
    server.rate = None
    blob = server.add_blob(DATA)
    with client_of(server, slow_after=0.01, slow_speed=1) as client:
        assert fetch(client, blob) == DATA
    assert len(server.seen("GET", "/blobs/")) == 1


def test_a_registry_without_ranges_goes_on_as_one_stream(server: FaultServer) -> None:
    blob = server.add_blob(DATA)

    def answer_whole() -> None:
        for _ in range(40):
            server.fault(Fault(ignore_range=True), "GET", str(blob.digest))

    server.fault(Fault(act=answer_whole), "GET", str(blob.digest))
    with client_of(server) as client, pytest.raises(RemoteError, match="sending ranges"):
        fetch(client, blob)


def test_a_piece_that_fails_leaves_the_rest_to_one_stream(server: FaultServer) -> None:
    blob = server.add_blob(DATA)
    refuse = Fault(status=503, headers={"Retry-After": "0"}, body=b"")

    def refuse_pieces() -> None:
        server.fault(refuse, "GET", str(blob.digest), times=8)

    server.fault(Fault(act=refuse_pieces), "GET", str(blob.digest))
    with client_of(server, attempts=2) as client:
        assert fetch(client, blob) == DATA


def test_only_one_download_of_a_client_is_wide_at_a_time(server: FaultServer) -> None:
    one, other = server.add_blob(DATA), server.add_blob(DATA[::-1])
    with client_of(server) as client:
        results: list[bytes] = []
        threads = [
            threading.Thread(target=lambda blob=blob: results.append(fetch(client, blob)))
            for blob in (one, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(results) == sorted([DATA, DATA[::-1]])
        wide = {Digest.parse(r.target.rpartition("/")[2]) for r in server.seen("GET", "/blobs/")
                if "range" in r.headers}  # fmt: skip
        assert len(wide) == 1
        assert not client._wide.taken


def test_closing_early_leaves_no_thread_behind(server: FaultServer) -> None:
    blob = server.add_blob(DATA)
    with client_of(server) as client:
        with client.open_blob("team/app", blob) as download:
            buffer = memoryview(bytearray(PIECE))
            for _ in range(8):
                download.readinto(buffer)
        assert not [t for t in threading.enumerate() if t.name.startswith("piece")]


def test_what_comes_in_pieces_is_known_to_be_put_together(server: FaultServer) -> None:
    blob = server.add_blob(DATA)
    with client_of(server) as client, client.open_blob("team/app", blob) as download:
        assert not download.spliced
        pump(download, len)
        assert download.spliced


def test_a_blob_that_was_wide_comes_as_one_stream_if_it_is_asked_for_again(
    server: FaultServer,
) -> None:
    blob = server.add_blob(DATA)
    with client_of(server) as client:
        assert fetch(client, blob) == DATA
        wide = len(ranges(server))
        assert wide > 10
        with client.open_blob("team/app", blob) as download:
            pump(download, len)
            assert not download.spliced
    assert len(ranges(server)) == wide
