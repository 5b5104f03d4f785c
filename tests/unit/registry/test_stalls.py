"""Downloads that are silent, slow, or no longer wanted."""

from __future__ import annotations

import threading
import time

import pytest

from kstore.descriptor import Descriptor
from kstore.errors import CancelledError, RemoteTimeoutError
from kstore.registry import RegistryClient
from kstore.streams import Cancel, pump
from tests.support.faultserver import Fault, FaultServer
from tests.unit.registry.conftest import ClientFactory

DATA = bytes(100_000)


@pytest.fixture
def blob(server: FaultServer) -> Descriptor:
    return server.add_blob(DATA)


def fetch(client: RegistryClient, blob: Descriptor) -> None:
    with client.open_blob("team/app", blob) as download:
        pump(download, len)


def test_a_stalled_server_is_given_up_after_the_idle_timeout(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    server.fault(Fault(stall_after=10), "GET", "/blobs/", times=9)
    client = make_client(server, attempts=1)
    started = time.monotonic()
    with pytest.raises(RemoteTimeoutError, match="silent for 0.4 s"):
        fetch(client, blob)
    assert time.monotonic() - started < 3


def test_a_server_that_never_answers_is_given_up_after_the_response_timeout(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    server.fault(Fault(delay=30), "GET", "/blobs/")
    client = make_client(server, attempts=1, response_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(RemoteTimeoutError, match="did not answer in time"):
        fetch(client, blob)
    assert time.monotonic() - started < 3


def test_a_slow_loris_is_given_up_although_it_never_stalls(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    server.fault(Fault(trickle=0.02), "GET", "/blobs/")
    client = make_client(server, attempts=1)
    started = time.monotonic()
    with pytest.raises(RemoteTimeoutError, match=r"it moved \d+ bytes in"):
        fetch(client, blob)
    assert time.monotonic() - started < 4


def test_a_slow_reader_is_not_taken_for_a_slow_server(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    buffer = memoryview(bytearray(30_000))
    total = 0
    with client.open_blob("team/app", blob) as download:
        while count := download.readinto(buffer):
            total += count
            time.sleep(0.3)
    assert total == len(DATA)
    assert len(server.seen("GET", "/blobs/")) == 1


def test_a_cancel_stops_a_stalled_download_at_once(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    server.fault(Fault(stall_after=10), "GET", "/blobs/")
    cancel = Cancel()
    client = make_client(server, cancel=cancel, idle_timeout=30)
    timer = threading.Timer(0.2, cancel.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(CancelledError):
        fetch(client, blob)
    assert time.monotonic() - started < 1
    timer.join()
