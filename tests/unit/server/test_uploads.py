from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.server import Limits, ServeSettings
from kstore.server.responses import Refusal
from kstore.server.sessions import Uploads
from kstore.store import Lease, Store
from tests.support.localregistry import LocalRegistry, serve
from tests.support.pulls import wait_until
from tests.support.uploads import begin, leftovers, patch, sizes, stored

DATA = random.Random(3).randbytes(2_500_000)


def test_a_blob_sent_with_its_post_is_stored_at_once(registry: LocalRegistry) -> None:
    digest = Digest.of(DATA)
    answer = registry.ask("POST", f"/v2/app/blobs/uploads/?digest={digest}", DATA)
    assert answer.status == 201
    assert answer.headers["location"] == f"/v2/app/blobs/{digest}"
    assert answer.headers["docker-content-digest"] == str(digest)
    assert stored(registry, digest) == DATA
    assert leftovers(registry) == []


def test_post_then_put_stores_a_blob(registry: LocalRegistry) -> None:
    location = begin(registry)
    answer = registry.ask("PUT", f"{location}?digest={Digest.of(DATA)}", DATA)
    assert answer.status == 201
    assert stored(registry, Digest.of(DATA)) == DATA


def test_chunks_in_order_make_a_blob(registry: LocalRegistry) -> None:
    location = begin(registry)
    cuts = [0, 1, 700_000, 700_001, 2_000_000]
    for start, end in itertools.pairwise(cuts):
        answer = patch(registry, location, DATA[start:end], f"{start}-{end - 1}")
        assert (answer.status, answer.headers["range"]) == (202, f"0-{end - 1}")
        location = answer.headers["location"]
    headers = {"Content-Range": f"{cuts[-1]}-{len(DATA) - 1}"}
    url = f"{location}?digest={Digest.of(DATA)}"
    assert registry.ask("PUT", url, DATA[cuts[-1] :], headers).status == 201
    assert stored(registry, Digest.of(DATA)) == DATA
    assert leftovers(registry) == []


def test_a_stream_of_unknown_length_makes_a_blob(registry: LocalRegistry) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(DATA), 77_777):
            yield DATA[start : start + 77_777]

    location = begin(registry)
    assert registry.ask("PATCH", location, pieces()).status == 202
    assert registry.ask("PUT", f"{location}?digest={Digest.of(DATA)}", b"").status == 201
    assert stored(registry, Digest.of(DATA)) == DATA


def test_the_status_of_an_upload_tells_how_far_it_is(shared: LocalRegistry) -> None:
    location = begin(shared)
    assert shared.ask("GET", location).headers["range"] == "0-0"
    patch(shared, location, b"12345")
    answer = shared.ask("GET", location)
    assert (answer.status, answer.headers["range"], answer.body) == (204, "0-4", b"")


@pytest.mark.parametrize("span", ["0-4", "4-8", "6-10", "100-104"])
def test_a_chunk_out_of_order_is_refused_and_the_upload_goes_on(
    shared: LocalRegistry, span: str
) -> None:
    location = begin(shared)
    patch(shared, location, b"12345", "0-4")
    answer = patch(shared, location, b"xxxxx", span)
    assert answer.status == 416
    assert answer.headers["range"] == "0-4"
    assert patch(shared, location, b"67890", "5-9").status == 202
    digest = Digest.of(b"1234567890")
    assert shared.ask("PUT", f"{location}?digest={digest}", b"").status == 201


def test_a_last_chunk_out_of_order_is_refused(shared: LocalRegistry) -> None:
    location = begin(shared)
    patch(shared, location, b"12345", "0-4")
    url = f"{location}?digest={Digest.of(b'12345678')}"
    assert shared.ask("PUT", url, b"678", {"Content-Range": "0-2"}).status == 416
    assert shared.ask("PUT", url, b"678", {"Content-Range": "5-7"}).status == 201


@pytest.mark.parametrize("span", ["0-9", "0-3", "5", "a-b", "5-0", "bytes */5", "-5"])
def test_a_content_range_that_does_not_fit_is_refused(shared: LocalRegistry, span: str) -> None:
    location = begin(shared)
    assert patch(shared, location, b"12345", span).status == 400
    assert shared.ask("GET", location).headers["range"] == "0-0"


def test_bytes_of_another_digest_are_refused_and_leave_nothing(registry: LocalRegistry) -> None:
    wrong = Digest.of(b"other")
    location = begin(registry)
    patch(registry, location, b"12345")
    answer = registry.ask("PUT", f"{location}?digest={wrong}", b"")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert stored(registry, wrong) is None
    assert stored(registry, Digest.of(b"12345")) is None
    assert registry.ask("GET", location).status == 404
    assert leftovers(registry) == []


def test_a_wrong_blob_never_replaces_a_good_one(shared: LocalRegistry) -> None:
    digest = shared.push_blob("app", b"good")
    answer = shared.ask("POST", f"/v2/app/blobs/uploads/?digest={digest}", b"evil")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert stored(shared, digest) == b"good"


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:abc", "?digest=md5:" + "a" * 32])
def test_an_upload_is_not_finished_without_a_digest(shared: LocalRegistry, query: str) -> None:
    location = begin(shared)
    patch(shared, location, b"12345")
    answer = shared.ask("PUT", f"{location}{query}", b"")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert shared.ask("PUT", f"{location}?digest={Digest.of(b'12345')}", b"").status == 201


def test_a_cancelled_upload_is_gone(registry: LocalRegistry) -> None:
    location = begin(registry)
    patch(registry, location, b"12345")
    assert leftovers(registry) != []
    assert registry.ask("DELETE", location).status == 204
    assert leftovers(registry) == []
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        answer = registry.ask(method, location, b"")
        assert (answer.status, method == "GET" or answer.code) in (
            (404, True),
            (404, "BLOB_UPLOAD_UNKNOWN"),
        )


def test_an_upload_belongs_to_its_repository(shared: LocalRegistry) -> None:
    location = begin(shared, "one").replace("/one/", "/two/")
    answer = shared.ask("PATCH", location, b"12345")
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_a_blob_that_is_there_is_mounted(shared: LocalRegistry) -> None:
    digest = shared.push_blob("one", DATA)
    answer = shared.ask("POST", f"/v2/two/blobs/uploads/?mount={digest}&from=one", b"")
    assert (answer.status, answer.headers["location"]) == (201, f"/v2/two/blobs/{digest}")


def test_a_blob_that_is_not_there_is_not_mounted_but_can_be_uploaded(
    registry: LocalRegistry,
) -> None:
    digest = Digest.of(b"12345")
    location = begin(registry, query=f"?mount={digest}&from=one")
    assert registry.ask("PUT", f"{location}?digest={digest}", b"12345").status == 201


def test_a_blob_can_be_named_by_sha512(registry: LocalRegistry) -> None:
    digest = Digest.of(DATA, "sha512")
    assert registry.ask("POST", f"/v2/app/blobs/uploads/?digest={digest}", DATA).status == 201
    assert stored(registry, digest) == DATA
    other = Digest.of(b"12345", "sha512")
    assert registry.ask("PUT", f"{begin(registry)}?digest={other}", b"12345").status == 201
    third = Digest.of(b"678", "sha512")
    location = begin(registry, query="?digest-algorithm=sha512")
    patch(registry, location, b"678")
    assert registry.ask("PUT", f"{location}?digest={third}", b"").status == 201


def test_an_unknown_digest_algorithm_is_refused(shared: LocalRegistry) -> None:
    answer = shared.ask("POST", "/v2/app/blobs/uploads/?digest-algorithm=md5", b"")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_blob_larger_than_the_limit_is_refused(tmp_path: Path, chunked: bool) -> None:
    with serve(tmp_path / "root", ServeSettings(max_upload=1000)) as registry:
        location = begin(registry)
        assert patch(registry, location, b"x" * 600).status == 202
        body = iter([b"x" * 300, b"x" * 300]) if chunked else b"x" * 600
        answer = registry.ask("PATCH", location, body)
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")
        exact = b"y" * 1000
        registry.push_blob("app", exact)


def test_a_blob_larger_than_the_disk_is_refused_before_it_is_sent(registry: LocalRegistry) -> None:
    location = begin(registry)
    with registry.dial() as wire:
        wire.sendall(
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {1 << 59}\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert wire.recv(100).startswith(b"HTTP/1.1 507 ")


def test_a_broken_connection_keeps_what_arrived(registry: LocalRegistry) -> None:
    location = begin(registry)
    with registry.dial() as wire:
        wire.sendall(
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(DATA)}\r\n\r\n".encode()
            + DATA[:100_000]
        )
    registry.lines(2)  # the server has noticed
    answer = registry.ask("GET", location)
    assert answer.headers["range"] == "0-99999"
    assert patch(registry, location, DATA[100_000:], f"100000-{len(DATA) - 1}").status == 202
    assert registry.ask("PUT", f"{location}?digest={Digest.of(DATA)}", b"").status == 201
    assert stored(registry, Digest.of(DATA)) == DATA


def test_the_number_of_uploads_is_bounded(tmp_path: Path) -> None:
    settings = ServeSettings(limits=Limits(uploads=2))
    with serve(tmp_path / "root", settings) as registry:
        location = begin(registry)
        begin(registry)
        answer = registry.ask("POST", "/v2/app/blobs/uploads/", b"")
        assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
        assert int(answer.headers["retry-after"]) > 0
        registry.ask("DELETE", location)
        begin(registry)


def test_an_upload_that_rests_too_long_makes_room(tmp_path: Path) -> None:
    settings = ServeSettings(limits=Limits(uploads=1, upload_age=0.2))
    with serve(tmp_path / "root", settings) as registry:
        location = begin(registry)
        patch(registry, location, b"12345")
        time.sleep(0.25)
        begin(registry)
        assert registry.ask("GET", location).status == 404
        assert sizes(registry.root) == [0]


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Callable[[float], tuple[Uploads, Lease]]]:
    """Makes the sessions of a server whose uploads may rest for so many seconds."""
    with Store.open(tmp_path / "root") as store, store.lease("serve") as lease:
        yield lambda age: (Uploads(10, age, lease.uploads), lease)


def test_an_upload_is_used_by_one_request_at_a_time(
    monkeypatch: pytest.MonkeyPatch, uploads: Callable[[float], tuple[Uploads, Lease]]
) -> None:
    monkeypatch.setattr("kstore.server.sessions._BUSY_SECONDS", 0.05)
    sessions, lease = uploads(3600)
    upload = sessions.start("app", "sha256", lease)
    refused = []

    def second() -> None:
        try:
            with sessions.use(upload.id, "app"):
                pass
        except Refusal as exc:
            refused.append(exc.response.status.value)

    with sessions.use(upload.id, "app"):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert refused == [409]
    with sessions.use(upload.id, "app"):
        pass


def test_an_upload_in_use_does_not_expire(
    uploads: Callable[[float], tuple[Uploads, Lease]],
) -> None:
    sessions, lease = uploads(0.0)
    upload = sessions.start("app", "sha256", lease)
    with sessions.use(upload.id, "app"):
        sessions.expire()
        assert len(sessions) == 1
    time.sleep(0.01)
    sessions.expire()
    assert len(sessions) == 0


def test_bytes_that_nobody_says_the_place_of_are_not_put_behind_those_of_another(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kstore.server.sessions._BUSY_SECONDS", 60.0)  # nobody waits that long
    location = begin(registry)
    with registry.dial() as wire:
        wire.sendall(
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\none".encode()
        )
        wait_until(lambda: sizes(registry.root) == [3])
        for method, url in (("PATCH", location), ("PUT", f"{location}?digest={Digest.of(b'two')}")):
            answer = registry.ask(method, url, b"two")
            assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID")
        wire.sendall(b"-three")
        assert wire.recv(100).startswith(b"HTTP/1.1 202 ")
    assert patch(registry, location, b"two", "0-2").status == 416
    digest = Digest.of(b"one-three")
    assert registry.ask("PUT", f"{location}?digest={digest}", b"").status == 201


def test_a_blob_sent_with_its_post_that_breaks_off_leaves_nothing(registry: LocalRegistry) -> None:
    with registry.dial() as wire:
        wire.sendall(
            f"POST /v2/app/blobs/uploads/?digest={Digest.of(DATA)} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(DATA)}\r\n\r\n".encode()
            + DATA[:100_000]
        )
        wait_until(lambda: leftovers(registry) != [])
    registry.lines(1)
    assert leftovers(registry) == []


def test_clients_may_upload_the_same_blob_at_once(registry: LocalRegistry) -> None:
    results: list[int] = []

    def push() -> None:
        url = f"/v2/app/blobs/uploads/?digest={Digest.of(DATA)}"
        results.append(registry.ask("POST", url, DATA).status)

    threads = [threading.Thread(target=push) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [201] * 6
    assert stored(registry, Digest.of(DATA)) == DATA
