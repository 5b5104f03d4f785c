from __future__ import annotations

import json
import random
import threading
import time

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AuthError,
    CancelledError,
    DigestMismatchError,
    RemoteError,
    SizeMismatchError,
    StorageError,
)
from kstore.registry import RegistryClient
from kstore.streams import BytesStream, ByteStream, Cancel
from tests.support.faultserver import Bearer, Fault, FaultServer
from tests.unit.registry.conftest import ClientFactory, always

DATA = random.Random(3).randbytes(3_000_000)
BLOB = Descriptor("x/y", Digest.of(DATA), len(DATA))
PATH = "team/app"
#: The connection breaks before there is an answer.
BROKEN = Fault(swallow=0)


class Opened:
    """Opens a body anywhere, and remembers where it was opened."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.offsets: list[int] = []

    def __call__(self, offset: int) -> ByteStream:
        self.offsets.append(offset)
        return BytesStream(self.data[offset:])


def arrived(server: FaultServer) -> bool:
    return server.blobs.get(PATH, {}).get(str(BLOB.digest)) == DATA


def test_a_blob_is_sent_in_one_stream(server: FaultServer, client: RegistryClient) -> None:
    heard: list[int] = []
    client.upload_blob(PATH, BLOB, Opened(), progress=heard.append)
    assert arrived(server)
    assert heard == sorted(heard)
    assert heard[-1] == len(DATA)
    assert [r.method for r in server.seen("PATCH")] == ["PATCH"]
    assert "content-range" not in server.seen("PATCH")[0].headers


def test_an_empty_blob_is_sent(server: FaultServer, client: RegistryClient) -> None:
    empty = Descriptor("x/y", Digest.of(b""), 0)
    client.upload_blob(PATH, empty, Opened(b""))
    assert server.blobs[PATH][str(empty.digest)] == b""


def test_a_blob_is_sent_in_pieces_where_that_is_wanted(
    server: FaultServer, make_client: ClientFactory
) -> None:
    opened = Opened()
    make_client(server, upload_chunk=1_200_000).upload_blob(PATH, BLOB, opened)
    assert arrived(server)
    assert opened.offsets == [0]
    assert [r.headers["content-range"] for r in server.seen("PATCH")] == [
        "0-1199999",
        "1200000-2399999",
        "2400000-2999999",
    ]


def test_the_registry_may_ask_for_larger_pieces(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.fault(Fault(headers={"OCI-Chunk-Min-Length": "2000000"}), "POST")
    make_client(server, upload_chunk=10).upload_blob(PATH, BLOB, Opened())
    assert arrived(server)
    assert len(server.seen("PATCH")) == 2


def test_an_upload_that_breaks_continues_where_the_registry_stands(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(swallow=1_300_000), "PATCH")
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert arrived(server)
    assert opened.offsets == [0, 1_300_000]
    assert server.seen("PATCH")[1].headers["content-range"] == "1300000-2999999"


def test_a_piece_that_breaks_continues_where_the_registry_stands(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.fault(Fault(), "PATCH")
    server.fault(Fault(swallow=100_000), "PATCH")
    make_client(server, upload_chunk=1_000_000).upload_blob(PATH, BLOB, Opened())
    assert arrived(server)
    assert server.seen("PATCH")[2].headers["content-range"] == "1100000-2099999"


def test_an_upload_the_registry_forgot_starts_again(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(swallow=1_300_000, act=server.uploads.clear), "PATCH")
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert arrived(server)
    assert opened.offsets == [0, 0]
    assert len(server.seen("POST", "/uploads/")) == 2


def test_a_registry_that_cannot_be_asked_at_first_is_asked_again(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(swallow=1_300_000), "PATCH")
    server.fault(BROKEN, "GET", "/uploads/", times=2)
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert arrived(server)
    assert opened.offsets == [0, 1_300_000]
    assert len(server.seen("POST", "/uploads/")) == 1


def test_a_finished_blob_is_recognised_when_the_registry_is_back(
    server: FaultServer, client: RegistryClient
) -> None:
    def store() -> None:
        server.blobs.setdefault(PATH, {})[str(BLOB.digest)] = DATA
        server.uploads.clear()

    server.fault(Fault(swallow=0, act=store), "PUT")
    server.fault(BROKEN, "HEAD", "/blobs/")
    server.fault(BROKEN, "GET", "/uploads/")
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert opened.offsets == [0]
    assert len(server.seen("HEAD", "/blobs/")) == 2


def test_a_disagreement_on_the_offset_is_settled_by_asking_again(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(swallow=1_300_000), "PATCH")
    server.fault(Fault(headers={"Range": "0-1199999"}), "GET", "/uploads/")
    client.upload_blob(PATH, BLOB, Opened())
    assert arrived(server)
    starts = [r.headers.get("content-range") for r in server.seen("PATCH")]
    assert starts == [None, "1200000-2999999", "1300000-2999999"]


def test_an_upload_that_was_put_together_wrongly_starts_again_once(
    server: FaultServer, client: RegistryClient
) -> None:
    def spoil() -> None:
        server.uploads["u0"].extend(b"junk")

    server.fault(Fault(swallow=1_300_000, act=spoil), "PATCH")
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert arrived(server)
    assert opened.offsets == [0, 1_300_004, 0]


def test_a_registry_that_shrinks_and_refuses_in_turn_is_given_up(
    server: FaultServer, make_client: ClientFactory
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'}
    location = f"/v2/{PATH}/blobs/uploads/u0"
    server.auth = Bearer()
    server.fault(Fault(), "PATCH")
    for _ in range(50):
        server.fault(Fault(status=401, headers=dict(challenge)), "PATCH")
        server.fault(
            Fault(status=202, headers={"Range": "0-599999", "Location": location}), "PATCH"
        )
    server.fault(Fault(headers={"Range": "0-99999"}), "GET", "/uploads/", times=99)
    with pytest.raises(AuthError):
        make_client(server, upload_chunk=500_000).upload_blob(PATH, BLOB, Opened())
    assert len(server.seen("PATCH")) < 10


def test_bytes_the_registry_does_not_recognise_are_a_mismatch(
    server: FaultServer, client: RegistryClient
) -> None:
    with pytest.raises(DigestMismatchError, match="received other bytes"):
        client.upload_blob(PATH, BLOB, Opened(b"x" * len(DATA)))
    assert not arrived(server)


def test_a_body_that_ends_early_is_an_error_and_the_upload_is_cancelled(
    server: FaultServer, client: RegistryClient
) -> None:
    with pytest.raises(SizeMismatchError, match="ended after 1000 of 3000000"):
        client.upload_blob(PATH, BLOB, Opened(DATA[:1000]))
    assert server.uploads == {}
    assert len(server.seen("DELETE", "/uploads/")) == 1


def test_a_body_longer_than_its_descriptor_is_not_sent_beyond_it(
    server: FaultServer, client: RegistryClient
) -> None:
    client.upload_blob(PATH, BLOB, Opened(DATA + b"more"))
    assert arrived(server)


@pytest.mark.parametrize("error", [StorageError("disk"), RemoteError("source", retryable=True)])
def test_a_failure_of_the_source_is_not_blamed_on_the_registry(
    server: FaultServer, client: RegistryClient, error: Exception
) -> None:
    class Broken:
        def readinto(self, buffer: memoryview, /) -> int:
            raise error

        def close(self) -> None:
            return

    with pytest.raises(type(error)) as caught:
        client.upload_blob(PATH, BLOB, lambda offset: Broken())
    assert caught.value is error
    assert len(server.seen("PATCH")) <= 1


def test_a_gateway_timeout_after_success_is_a_success(
    server: FaultServer, client: RegistryClient
) -> None:
    def store() -> None:
        server.blobs.setdefault(PATH, {})[str(BLOB.digest)] = DATA

    server.fault(Fault(status=504, act=store), "PUT")
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert opened.offsets == [0]
    assert len(server.seen("HEAD", "/blobs/")) == 1


def test_a_finishing_request_that_failed_is_repeated_without_the_bytes(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(status=503), "PUT")
    opened = Opened()
    client.upload_blob(PATH, BLOB, opened)
    assert arrived(server)
    assert opened.offsets == [0]


def test_temporary_refusals_are_waited_out_everywhere(
    server: FaultServer, client: RegistryClient
) -> None:
    for method in ("POST", "PATCH", "PUT"):
        server.fault(Fault(status=429, headers={"Retry-After": "0"}), method)
    client.upload_blob(PATH, BLOB, Opened())
    assert arrived(server)


def test_giving_up_names_the_place_and_cancels_the_upload(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(status=503), "PATCH", times=99)
    with pytest.raises(RemoteError, match="stopped at 0 of 3000000") as caught:
        client.upload_blob(PATH, BLOB, Opened())
    assert server.host in str(caught.value)
    assert len(server.seen("PATCH")) == 4  # the settings' attempts
    assert server.uploads == {}


def test_a_token_that_expires_in_the_middle_is_renewed(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = Bearer(user=("ann", "s3cret-word"), uses=2)
    make_client(server, always(), upload_chunk=700_000).upload_blob(PATH, BLOB, Opened())
    assert arrived(server)
    requests = server.seen("GET", "/token")
    assert len(requests) >= 3
    assert all("pull%2Cpush" in request.target for request in requests)


def test_a_stream_whose_token_expires_is_sent_again(
    server: FaultServer, client: RegistryClient
) -> None:
    auth = server.auth = Bearer()
    server.fault(Fault(), "POST")
    server.fault(Fault(act=auth.revoke), "POST")
    client.upload_blob(PATH, BLOB, Opened())
    assert arrived(server)


def test_credentials_that_stay_refused_are_not_tried_for_ever(
    server: FaultServer, client: RegistryClient
) -> None:
    challenge = {"WWW-Authenticate": f'Bearer realm="{server.url}/token"'}
    server.auth = Bearer()
    server.fault(Fault(status=401, headers=dict(challenge)), "PATCH", times=99)
    with pytest.raises(AuthError):
        client.upload_blob(PATH, BLOB, Opened())
    assert len(server.seen("PATCH")) == 2


def test_a_request_that_is_too_large_points_to_pieces(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(status=413), "PATCH")
    with pytest.raises(RemoteError, match="413") as caught:
        client.upload_blob(PATH, BLOB, Opened())
    assert "smaller" in (caught.value.hint or "")


def test_a_refused_repository_is_a_question_of_login(
    server: FaultServer, client: RegistryClient
) -> None:
    body = json.dumps({"errors": [{"code": "DENIED", "message": "requested access denied"}]})
    server.fault(Fault(status=403, body=body.encode()), "POST")
    with pytest.raises(AuthError, match="requested access denied") as caught:
        client.upload_blob(PATH, BLOB, Opened())
    assert caught.value.hint == f"kstore login {server.host}"


def test_a_registry_that_stored_another_digest_is_not_believed(
    server: FaultServer, client: RegistryClient
) -> None:
    other = str(Digest.of(b"other"))
    server.fault(Fault(headers={"Docker-Content-Digest": other}), "PUT")
    with pytest.raises(DigestMismatchError):
        client.upload_blob(PATH, BLOB, Opened())


def test_a_registry_that_does_not_read_is_given_up(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.fault(Fault(delay=30), "PATCH")
    client = make_client(server, attempts=1, response_timeout=0.3)
    started = time.monotonic()
    with pytest.raises(RemoteError):
        client.upload_blob(PATH, BLOB, Opened())
    assert time.monotonic() - started < 5


def test_a_cancel_stops_an_upload_and_cleans_up(
    server: FaultServer, make_client: ClientFactory
) -> None:
    cancel = Cancel()
    client = make_client(server, cancel=cancel, response_timeout=30)
    server.fault(Fault(delay=2), "PATCH")
    timer = threading.Timer(0.3, cancel.cancel)
    timer.start()
    started = time.monotonic()
    with pytest.raises(CancelledError):
        client.upload_blob(PATH, BLOB, Opened())
    assert time.monotonic() - started < 1.5
    assert server.uploads == {}
    timer.join()


def test_a_blob_of_another_repository_is_linked(
    server: FaultServer, client: RegistryClient
) -> None:
    server.add_blob(DATA, path="base/image")
    assert client.mount_blob(PATH, BLOB.digest, "base/image") is True
    assert arrived(server)


def test_a_mount_that_became_an_upload_is_cancelled(
    server: FaultServer, client: RegistryClient
) -> None:
    assert client.mount_blob(PATH, BLOB.digest, "base/image") is False
    assert server.uploads == {}


def test_a_mount_asks_for_both_repositories(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = Bearer()
    make_client(server).mount_blob(PATH, BLOB.digest, "base/image")
    target = server.seen("GET", "/token")[0].target
    assert "repository%3Ateam%2Fapp%3Apull%2Cpush" in target
    assert "repository%3Abase%2Fimage%3Apull" in target


def test_an_upload_at_another_host_gets_no_credentials(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = Bearer(user=("ann", "s3cret-word"))
    with FaultServer() as storage:
        storage.uploads["u7"] = bytearray()
        away = f"{storage.url}/v2/{PATH}/blobs/uploads/u7"
        server.fault(Fault(), "POST")  # the one that is answered with a challenge
        server.fault(Fault(headers={"Location": away}), "POST")
        make_client(server, always()).upload_blob(PATH, BLOB, Opened())
        assert storage.blobs[PATH][str(BLOB.digest)] == DATA
        assert storage.requests
        assert all("authorization" not in request.headers for request in storage.requests)


def _claims(end: int) -> Fault:
    location = f"/v2/{PATH}/blobs/uploads/u0"
    return Fault(headers={"Range": f"0-{end}", "Location": location})


@pytest.mark.parametrize("claimed", [0, 99_999, 2_999_998, 3_000_000, 9_999_999_999])
def test_an_answer_that_claims_another_offset_is_settled_by_asking(
    server: FaultServer, client: RegistryClient, claimed: int
) -> None:
    server.fault(_claims(claimed), "PATCH")
    client.upload_blob(PATH, BLOB, Opened())
    assert arrived(server)
    assert len(server.seen("GET", "/uploads/")) == 1


@pytest.mark.parametrize("claimed", [1_299_990, 1_300_010, 2_999_999, 3_000_000])
def test_an_upload_whose_offset_is_always_a_lie_ends_and_stores_nothing_wrong(
    server: FaultServer, make_client: ClientFactory, claimed: int
) -> None:
    server.fault(Fault(swallow=1_300_000), "PATCH")
    server.fault(_claims(claimed), "GET", "/uploads/", times=99)
    client = make_client(server, attempts=5)
    failure = None
    try:
        client.upload_blob(PATH, BLOB, Opened())
    except RemoteError as error:
        failure = error
    assert (failure is None) == arrived(server)
    assert failure is None or "(5 attempts)" in str(failure)
    assert len(server.requests) < 60


def test_each_lost_attempt_of_an_upload_is_told_and_not_warned_of(
    server: FaultServer, client: RegistryClient, warnings: list[str]
) -> None:
    server.fault(Fault(swallow=1_300_000), "PATCH")
    server.fault(Fault(status=503, body=b""), "PUT")
    told: list[str] = []
    client.upload_blob(PATH, BLOB, Opened(), on_retry=told.append)
    assert arrived(server)
    assert len(told) == 2
    assert "connection" in told[0]
    assert "503" in told[1]
    assert warnings == []


def test_a_token_for_each_request_is_enough_for_an_upload(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = Bearer(uses=1)
    make_client(server, upload_chunk=1_000_000).upload_blob(PATH, BLOB, Opened())
    assert arrived(server)
    assert server.seen("GET", "/uploads/") == []  # a refused piece needs no question
