from __future__ import annotations

import gzip
import random
import threading
import time

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AuthError,
    BlobNotFoundError,
    RemoteError,
    SizeMismatchError,
)
from kstore.registry import BlobDownload, Credentials, RegistryClient
from kstore.streams import VerifiedStream, pump
from tests.support.faultserver import Bearer, Fault, FaultServer
from tests.unit.registry.conftest import ClientFactory, always

DATA = random.Random(7).randbytes(100_000)


@pytest.fixture
def blob(server: FaultServer) -> Descriptor:
    return server.add_blob(DATA)


def fetch(client: RegistryClient, blob: Descriptor, path: str = "team/app") -> bytes:
    """The blob through the same check that every reader of a source uses."""
    received = bytearray()
    with VerifiedStream(client.open_blob(path, blob), blob) as stream:
        pump(stream, received.extend)
    return bytes(received)


def ranges(server: FaultServer) -> list[str | None]:
    return [request.headers.get("range") for request in server.seen("GET", "/blobs/")]


def test_a_blob_arrives_whole(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    assert fetch(client, blob) == DATA
    assert server.seen("GET", "/blobs/")[0].headers["accept-encoding"] == "identity"


def test_an_empty_blob_arrives(server: FaultServer, client: RegistryClient) -> None:
    assert fetch(client, server.add_blob(b"")) == b""


def test_a_chunked_blob_arrives_whole(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(chunked=True), "GET", "/blobs/")
    assert fetch(client, blob) == DATA


def test_a_blob_without_length_arrives_whole(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(
        Fault(headers={"Content-Length": None}, truncate_after=len(DATA)), "GET", "/blobs/"
    )
    assert fetch(client, blob) == DATA


def test_a_compressed_transfer_is_not_decoded(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(headers={"Content-Encoding": "gzip"}), "GET", "/blobs/")
    assert fetch(client, blob) == DATA


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("data", [DATA, bytes(100_000)], ids=["grown", "shrunk"])
def test_a_transfer_that_was_really_compressed_is_not_blamed_on_the_blob(
    server: FaultServer, client: RegistryClient, data: bytes, chunked: bool
) -> None:
    blob = server.add_blob(data)
    headers: dict[str, str | None] = {"Content-Encoding": "gzip"}
    packed = Fault(body=gzip.compress(data), headers=headers, chunked=chunked)
    server.fault(packed, "GET", "/blobs/", times=9)
    with pytest.raises(RemoteError, match="Content-Encoding 'gzip'"):
        fetch(client, blob)
    assert len(ranges(server)) == 1


@pytest.mark.parametrize(
    "fault",
    [Fault(reset_after=30_000), Fault(truncate_after=30_000), Fault(stall_after=30_000)],
    ids=["reset", "premature end", "stall"],
)
def test_a_broken_transfer_continues_where_it_stopped(
    server: FaultServer, client: RegistryClient, blob: Descriptor, fault: Fault
) -> None:
    server.fault(fault, "GET", "/blobs/")
    assert fetch(client, blob) == DATA
    assert ranges(server) == [None, "bytes=30000-"]
    second = server.seen("GET", "/blobs/")[1]
    assert second.headers["if-range"] == f'"{blob.digest}"'


def test_a_chunked_body_that_breaks_off_continues(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    broken = Fault(
        headers={"Content-Length": None, "Transfer-Encoding": "chunked"},
        body=b"3e8\r\n" + DATA[:1000] + b"\r\n",
        truncate_after=1007,
    )
    server.fault(broken, "GET", "/blobs/")
    assert fetch(client, blob) == DATA
    assert ranges(server) == [None, "bytes=1000-"]


def test_a_weak_validator_is_not_used(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(headers={"ETag": 'W/"x"'}, reset_after=30_000), "GET", "/blobs/")
    with client.open_blob("team/app", blob) as download:
        assert download.validator is None
        assert pump(download, len) == len(DATA)
    assert "if-range" not in server.seen("GET", "/blobs/")[1].headers


def test_a_server_that_ignores_ranges_has_the_known_bytes_skipped(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(reset_after=30_000), "GET", "/blobs/")
    server.fault(Fault(ignore_range=True), "GET", "/blobs/")
    assert fetch(client, blob) == DATA


@pytest.mark.parametrize(
    "text",
    [
        "bytes 0-99999/100000",
        "bytes 29999-99999/100000",
        "bytes 30000-99999/100001",
        "bytes 30000-100000/100000",
        "items 30000-99999/100000",
        "nonsense",
        None,
    ],
)
def test_a_partial_answer_that_is_not_the_rest_is_not_used(
    server: FaultServer, client: RegistryClient, blob: Descriptor, text: str | None
) -> None:
    server.fault(Fault(reset_after=30_000), "GET", "/blobs/")
    server.fault(
        Fault(status=206, headers={"Content-Range": text}, ignore_range=True), "GET", "/blobs/"
    )
    assert fetch(client, blob) == DATA
    assert ranges(server) == [None, "bytes=30000-", None]


def test_a_changed_blob_behind_a_range_is_not_appended(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(reset_after=30_000), "GET", "/blobs/")
    server.fault(Fault(headers={"ETag": '"other"'}), "GET", "/blobs/")
    assert fetch(client, blob) == DATA
    assert ranges(server) == [None, "bytes=30000-", None]


def test_a_download_starts_in_the_middle_if_asked(client: RegistryClient, blob: Descriptor) -> None:
    received = bytearray()
    with client.open_blob("team/app", blob, 40_000, f'"{blob.digest}"') as download:
        assert download.offset == 40_000
        pump(download, received.extend)
    assert received == DATA[40_000:]


def test_a_download_whose_validator_is_outdated_starts_over(
    client: RegistryClient, blob: Descriptor
) -> None:
    with client.open_blob("team/app", blob, 40_000, '"old"') as download:
        assert download.offset == 0
        assert download.validator == f'"{blob.digest}"'
        assert pump(download, len) == len(DATA)


def test_a_download_that_starts_in_the_middle_and_breaks_keeps_its_place(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(reset_after=10_000), "GET", "/blobs/")
    server.fault(Fault(ignore_range=True), "GET", "/blobs/")
    received = bytearray()
    with client.open_blob("team/app", blob, 40_000) as download:
        pump(download, received.extend)
    assert received == DATA[40_000:]


def test_an_offset_at_the_end_needs_no_bytes(client: RegistryClient, blob: Descriptor) -> None:
    with client.open_blob("team/app", blob, blob.size) as download:
        left = pump(download, len)
        assert download.offset + left == blob.size


def test_failures_without_progress_are_counted_and_named(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(reset_after=30_000), "GET", "/blobs/")
    server.fault(Fault(reset_after=0), "GET", "/blobs/", times=100)
    with pytest.raises(RemoteError) as caught:
        fetch(client, blob)
    message = str(caught.value)
    assert server.host in message
    assert str(blob.digest) in message
    assert "at 30000 of 100000 bytes" in message
    assert len(ranges(server)) == 4  # the settings' attempts


def test_a_server_that_dribbles_bytes_between_resets_is_given_up(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(reset_after=10), "GET", "/blobs/", times=100)
    with pytest.raises(RemoteError, match="4 attempts"):
        fetch(client, blob)


def test_progress_makes_attempts_available_again(
    server: FaultServer, client: RegistryClient
) -> None:
    data = random.Random(1).randbytes(9 * 1024 * 1024)
    blob = server.add_blob(data)
    server.fault(Fault(reset_after=3 << 19), "GET", "/blobs/", times=5)
    assert fetch(client, blob) == data
    assert len(ranges(server)) == 6


def test_a_missing_blob_is_named(client: RegistryClient) -> None:
    absent = Descriptor("x/y", Digest.of(b"absent"), 6)
    with pytest.raises(BlobNotFoundError, match=str(absent.digest)):
        client.open_blob("team/app", absent)
    assert client.has_blob("team/app", absent.digest) is None


def test_has_blob_tells_the_size(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    assert client.has_blob("team/app", blob.digest) == len(DATA)
    assert not server.seen("GET", "/blobs/")


def test_has_blob_works_where_head_does_not(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(status=405), "HEAD", "/blobs/")
    assert client.has_blob("team/app", blob.digest) == len(DATA)


def test_at_most_one_byte_too_many_is_delivered(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(endless=True), "GET", "/blobs/", times=2)
    with client.open_blob("team/app", blob) as download:
        assert pump(download, len) == len(DATA) + 1
    with pytest.raises(SizeMismatchError):
        fetch(client, blob)


def test_a_blob_announced_with_another_size_is_refused_at_once(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.blobs["team/app"][str(blob.digest)] = DATA[:-1]
    with pytest.raises(SizeMismatchError, match=str(len(DATA) - 1)):
        fetch(client, blob)
    server.blobs["team/app"][str(blob.digest)] = DATA
    server.fault(Fault(extra=b"more"), "GET", "/blobs/")
    with pytest.raises(SizeMismatchError, match=str(len(DATA) + 4)):
        fetch(client, blob)
    assert len(server.seen("GET", "/blobs/")) == 2


def test_a_temporary_refusal_is_waited_out(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    for status in (429, 502, 503):
        server.fault(Fault(status=status), "GET", "/blobs/")
    assert fetch(client, blob) == DATA


def test_retry_after_is_obeyed_but_capped(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(status=429, headers={"Retry-After": "86400"}), "GET", "/blobs/")
    started = time.monotonic()
    assert fetch(client, blob) == DATA
    assert 0.3 <= time.monotonic() - started < 2  # the settings' cap is 0.3 s


def test_a_token_that_expires_in_the_middle_is_renewed(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    auth = server.auth = Bearer(user=("ann", "s3cret-word"))
    client = make_client(server, always())
    server.fault(Fault(), "GET", "/blobs/")  # the one that is answered with a challenge
    server.fault(Fault(reset_after=30_000, act=auth.revoke), "GET", "/blobs/")
    assert fetch(client, blob) == DATA
    assert len(server.seen("GET", "/token")) == 2
    assert ranges(server) == [None, None, "bytes=30000-", "bytes=30000-"]


def test_a_storage_address_that_expires_is_resolved_anew(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    with FaultServer() as storage:
        storage.add_blob(DATA)
        target = f"{storage.url}/v2/team/app/blobs/{blob.digest}?signature="
        for number in range(3):
            moved = Fault(status=307, headers={"Location": f"{target}{number}"})
            server.fault(moved, "GET", "/blobs/")
        storage.fault(Fault(reset_after=30_000), "GET", "signature=0")
        storage.fault(Fault(status=403), "GET", "signature=1", times=9)
        assert fetch(client, blob) == DATA
        assert [r.target[-1] for r in storage.seen("GET")] == ["0", "1", "2"]
        assert storage.seen("GET")[2].headers["range"] == "bytes=30000-"


def test_a_storage_host_that_keeps_refusing_is_no_question_of_login(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    with FaultServer() as storage:
        storage.fault(Fault(status=403), "GET", times=99)
        moved = Fault(status=307, headers={"Location": f"{storage.url}/x?signature=geheim"})
        server.fault(moved, "GET", "/blobs/", times=99)
        with pytest.raises(RemoteError, match="answered 403") as caught:
            fetch(client, blob)
        assert "geheim" not in str(caught.value)


def test_a_refusal_by_the_registry_is_not_repeated(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(Fault(status=403), "GET", "/blobs/")
    with pytest.raises(AuthError):
        client.open_blob("team/app", blob)
    assert len(ranges(server)) == 1


def test_several_threads_share_a_client(server: FaultServer, make_client: ClientFactory) -> None:
    server.auth = Bearer()
    blobs = [server.add_blob(random.Random(n).randbytes(200_000)) for n in range(8)]
    client = make_client(server, lambda host, path: Credentials("a", "b"))
    failures: list[BaseException] = []

    def work(blob: Descriptor) -> None:
        try:
            fetch(client, blob)
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(blob,)) for blob in blobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert len(server.seen("GET", "/token")) == 1


def test_connections_are_reused(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    for _ in range(5):
        fetch(client, blob)
    assert server.connections <= 3  # one was closed by the probe for TLS


def test_a_download_is_closed_once_and_for_all(client: RegistryClient, blob: Descriptor) -> None:
    download: BlobDownload = client.open_blob("team/app", blob)
    download.close()
    download.close()
