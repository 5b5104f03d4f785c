"""The wire: keep-alive, malformed requests, limits, slow and rude clients."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.server import Limits, ServeSettings
from tests.support.localregistry import LocalRegistry, ask, serve

HOST = b"Host: localhost\r\n"


def talk(registry: LocalRegistry, data: bytes) -> bytes:
    """Everything the server says to ``data`` until it closes the connection."""
    with registry.dial() as wire:
        wire.sendall(data)
        return read_all(wire)


def read_all(wire: socket.socket) -> bytes:
    result = b""
    while piece := wire.recv(65536):
        result += piece
    return result


def trickle(wire: socket.socket) -> float:
    """Seconds until the server has had enough of getting one byte after the other."""
    started = time.monotonic()
    try:
        while time.monotonic() - started < 10:
            wire.sendall(b"A")
            time.sleep(0.05)
    except OSError:
        pass
    return time.monotonic() - started


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[LocalRegistry]:
    """A server that waits only 0.3 s for its clients."""
    with serve(tmp_path / "root", ServeSettings(limits=Limits(patience=0.3))) as running:
        yield running


def test_many_requests_share_a_connection(registry: LocalRegistry) -> None:
    with closing(http.client.HTTPConnection(registry.host, timeout=20)) as connection:
        connection.connect()
        sock = connection.sock
        for number in range(20):
            data = f"blob {number}".encode()
            digest = Digest.of(data)
            url = f"/v2/app/blobs/uploads/?digest={digest}"
            assert ask(connection, "POST", url, data).status == 201
            assert ask(connection, "GET", f"/v2/app/blobs/{digest}").body == data
            assert ask(connection, "HEAD", f"/v2/app/blobs/{digest}").status == 200
            assert ask(connection, "GET", "/v2/app/blobs/x").status == 400
            assert ask(connection, "PUT", "/v2/nowhere", b"small unwanted body").status == 404
        assert connection.sock is sock


def test_requests_may_be_sent_ahead(shared: LocalRegistry) -> None:
    one = b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /v2/_catalog HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n"
    answer = talk(shared, one + one + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n",
        b"GET /v2/ HTTP/1.0\r\n\r\n",
        b"GET /v2/ HTTP/1.1\n" + b"Host: localhost\nConnection: close\n\n",
        b"\r\nGET /v2 HTTP/1.1\r\n" + HOST + b"Connection: Close, TE\r\n\r\n",
    ],
)
def test_a_client_that_wants_one_answer_gets_one(shared: LocalRegistry, head: bytes) -> None:
    answer = talk(shared, head)
    assert status(answer) == 200
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"{}")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /v2/\r\n\r\n", 400),
        (b"GET  /v2/ HTTP/1.1\r\n\r\n", 400),
        (b"GET v2 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://localhost/v2/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"G(T /v2/ HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /v2/ HTTP/2.0\r\n" + HOST + b"\r\n", 505),
        (b"GET /v2/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"no colon\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Name : value\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b" folded: value\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"A: b\rX: c\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Content-Length: 1_0\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\n", 400),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400),
        (
            b"PUT /v2/ HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"PUT /v2/ HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /v2/%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /v2/%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /v2/_catalog?n=1&n=2 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /v2/_catalog?" + b"a&" * 50 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", 431),
        (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 40_000 + b"\r\n\r\n", 431),
    ],
)
def test_a_malformed_request_is_answered_and_ends_the_connection(
    shared: LocalRegistry, data: bytes, expected: int
) -> None:
    answer = talk(shared, data)
    assert status(answer) == expected
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nConnection: close" in head
    assert list(json.loads(body)) == ["errors"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"3\r\nabc\r\n0\r\n\r\n", 202),
        (b"3;name=value\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", 202),
        (b"003\r\nabc\r\n00\r\n\r\n", 202),
        (b"3\r\nabcd\r\n0\r\n\r\n", 400),
        (b"3\r\nabcXX0\r\n\r\n", 400),
        (b"x\r\nabc\r\n0\r\n\r\n", 400),
        (b"-3\r\nabc\r\n0\r\n\r\n", 400),
        (b"\r\nabc\r\n0\r\n\r\n", 400),
        (b"0x3\r\nabc\r\n0\r\n\r\n", 400),
        (b"f" * 2000 + b"\r\n", 400),
        (b"3\r\nabc\r\n0\r\n" + b"A: b\r\n" * 100, 400),
    ],
)
def test_chunks_are_read_strictly(shared: LocalRegistry, body: bytes, expected: int) -> None:
    location = shared.ask("POST", "/v2/app/blobs/uploads/", b"").headers["location"]
    head = (
        f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n"
    )
    assert status(talk(shared, head.encode() + body)) == expected
    if expected == 202:
        assert shared.ask("GET", location).headers["range"] == "0-2"
    else:
        assert shared.ask("GET", location).status == 404


def test_permission_to_send_is_given_when_the_body_is_wanted(shared: LocalRegistry) -> None:
    digest = Digest.of(b"12345")
    with shared.dial() as wire:
        wire.sendall(
            f"POST /v2/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: localhost\r\n"
            "Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n".encode()
        )
        assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(b"12345")
        assert status(read_all(wire)) == 201


def test_permission_to_send_is_not_given_when_the_body_is_not_wanted(
    shared: LocalRegistry,
) -> None:
    with shared.dial() as wire:
        wire.sendall(
            b"PUT /v2/app/manifests/v1 HTTP/1.1\r\n"
            + HOST
            + b"Content-Length: 50000000\r\nExpect: 100-continue\r\n\r\n"
        )
        answer = read_all(wire)
    assert status(answer) == 413
    assert b"100 Continue" not in answer


def test_an_unwanted_large_body_does_not_hide_the_answer(shared: LocalRegistry) -> None:
    size = 3_000_000
    with shared.dial() as wire:
        wire.sendall(b"PUT /v2/nothing HTTP/1.1\r\n" + HOST)
        wire.sendall(f"Content-Length: {size}\r\n\r\n".encode() + b"x" * size)
        assert status(read_all(wire)) == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("DELETE", "/v2/_catalog", "GET, HEAD"),
        ("POST", "/v2/app/manifests/v1", "GET, HEAD, PUT, DELETE"),
        ("GET", "/v2/app/blobs/uploads/", "POST"),
        ("OPTIONS", "/v2/app/tags/list", "GET, HEAD"),
        ("TRACE", "/v2/", "GET, HEAD"),
    ],
)
def test_a_method_that_does_not_fit_is_refused_with_those_that_do(
    shared: LocalRegistry, method: str, path: str, allowed: str
) -> None:
    answer = shared.ask(method, path)
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1/",
        "/v2x",
        "/v2/app",
        "/v2/app/tags",
        "/v2//tags/list",
        "/etc/passwd",
        "/v3/_catalog",
    ],
)
def test_there_is_nothing_beside_the_protocol(shared: LocalRegistry, path: str) -> None:
    assert shared.ask("GET", path).status in (400, 404)


def test_a_client_that_says_nothing_is_given_up(impatient: LocalRegistry) -> None:
    started = time.monotonic()
    assert talk(impatient, b"") == b""
    assert 0.2 < time.monotonic() - started < 5


def test_a_client_that_stops_in_the_middle_of_a_head_is_given_up(impatient: LocalRegistry) -> None:
    started = time.monotonic()
    talk(impatient, b"GET /v2/ HTTP/1.1\r\nHost: local")
    assert 0.2 < time.monotonic() - started < 5


def test_a_client_that_trickles_its_head_is_given_up(impatient: LocalRegistry) -> None:
    with impatient.dial() as wire:
        assert 0.2 < trickle(wire) < 5


def test_a_client_that_trickles_its_body_is_given_up(impatient: LocalRegistry) -> None:
    location = impatient.ask("POST", "/v2/app/blobs/uploads/", b"").headers["location"]
    with impatient.dial() as wire:
        wire.sendall(
            f"PATCH {location} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode()
        )
        assert 0.2 < trickle(wire) < 5
    line = impatient.lines(2)[-1]
    assert line.status is None
    assert line.error == "the client was too slow to send"


def test_a_slow_client_that_makes_progress_is_served(tmp_path: Path) -> None:
    piece = b"x" * 20_000

    def slowly() -> Iterator[bytes]:
        for _ in range(6):
            time.sleep(0.25)
            yield piece

    with serve(tmp_path / "root", ServeSettings(limits=Limits(patience=1.0))) as registry:
        location = registry.ask("POST", "/v2/app/blobs/uploads/", b"").headers["location"]
        assert registry.ask("PATCH", location, slowly()).status == 202
        digest = Digest.of(piece * 6)
        assert registry.ask("PUT", f"{location}?digest={digest}", b"").status == 201


def test_a_client_that_does_not_read_its_answer_is_given_up(impatient: LocalRegistry) -> None:
    digest = impatient.push_blob("app", bytes(20_000_000))
    with impatient.dial() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.sendall(f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        impatient.lines(2)
    line = impatient.lines(2)[-1]
    assert (line.status, line.error) == (None, "the client was too slow to receive")


def test_a_client_that_hangs_up_in_an_answer_is_no_trouble(
    registry: LocalRegistry, capfd: pytest.CaptureFixture[str]
) -> None:
    digest = registry.push_blob("app", bytes(20_000_000))
    with registry.dial() as wire:
        wire.sendall(f"GET /v2/app/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wire.recv(1000)
        # Unread bytes make this close a reset.
    registry.lines(2)
    assert registry.lines(2)[-1].status is None
    assert registry.ask("GET", "/v2/").status == 200
    assert capfd.readouterr() == ("", "")


def test_every_request_is_logged_once(registry: LocalRegistry) -> None:
    digest = registry.push_blob("app", b"12345")
    first = registry.lines(1)[0]
    assert (first.method, first.status, first.received, first.sent) == ("POST", 201, 5, 0)
    registry.ask("GET", f"/v2/app/blobs/{digest}", headers={"Range": "bytes=1-2"})
    second = registry.lines(2)[1]
    assert (second.method, second.status, second.received, second.sent) == ("GET", 206, 0, 2)
    assert (second.path, second.client) == (f"/v2/app/blobs/{digest}", "127.0.0.1")
    registry.ask("GET", "/v2/app/manifests/none")
    assert "none" in (registry.lines(3)[2].error or "")
    talk(registry, b"nonsense\r\n\r\n")
    assert (registry.lines(4)[3].method, registry.lines(4)[3].status) == ("-", 400)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("localhost:5000", 200),
        ("registry.localhost:80", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:5000", 200),
        ("[::1]", 200),
        ("192.168.1.7", 200),
        ("evil.example", 421),
        ("evil.example:5000", 421),
        ("localhost.evil.example", 421),
        ("", 421),
    ],
)
def test_a_web_page_under_a_foreign_host_name_cannot_use_the_server(
    shared: LocalRegistry, host: str, expected: int
) -> None:
    assert shared.ask("GET", "/v2/", headers={"Host": host}).status == expected


def test_no_answer_can_be_taken_for_a_page(shared: LocalRegistry) -> None:
    digest = shared.push_blob("app", b"<html><script>alert(1)</script>")
    answer = shared.ask("GET", f"/v2/app/blobs/{digest}")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"
