"""Starting and stopping, addresses, passwords, and bounded connections."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import InvalidInputError, RemoteError, StorageError
from kstore.server import Limits, RegistryServer, ServeSettings
from kstore.server import manifests as manifest_handlers
from kstore.store import Store
from kstore.streams import Cancel
from tests.support.images import random_image
from tests.support.localregistry import LocalRegistry, ask, serve

SHA_OF_SECRET = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LocalRegistry]:
    """A server that knows one user: anna, with the password "secret"."""
    users = tmp_path / "users"
    users.write_text(f"anna:{SHA_OF_SECRET}\n")
    with serve(tmp_path / "root", ServeSettings(htpasswd=users)) as running:
        yield running


def test_the_address_says_where_the_server_listens(registry: LocalRegistry) -> None:
    host, port = registry.host.split(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_an_ipv6_address_is_served_and_shown_in_brackets(tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve(tmp_path / "root", ServeSettings(host="::1")) as registry:
        assert registry.host.startswith("[::1]:")
        assert registry.ask("GET", "/v2/").status == 200


def test_a_port_in_use_is_an_error_that_names_it(registry: LocalRegistry, tmp_path: Path) -> None:
    port = int(registry.host.split(":")[1])
    server = RegistryServer(partial(Store.open, tmp_path / "root"), ServeSettings(port=port))
    with pytest.raises(RemoteError, match=rf"127\.0\.0\.1:{port}: Address already in use"), server:
        pass


def test_a_host_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    settings = ServeSettings(host="no.such.host.invalid")
    server = RegistryServer(partial(Store.open, tmp_path / "root"), settings)
    with pytest.raises(RemoteError, match=r"cannot listen on no\.such\.host\.invalid"), server:
        pass


@pytest.mark.parametrize("port", [-1, 65536, 70000])
def test_a_port_that_cannot_exist_is_an_error(tmp_path: Path, port: int) -> None:
    server = RegistryServer(partial(Store.open, tmp_path / "root"), ServeSettings(port=port))
    with pytest.raises(InvalidInputError, match=f"{port} is not a port"), server:
        pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_an_open_address_without_passwords_is_refused(tmp_path: Path, host: str) -> None:
    server = RegistryServer(partial(Store.open, tmp_path / "root"), ServeSettings(host=host))
    with pytest.raises(InvalidInputError, match="reached from other machines") as caught, server:
        pass
    assert "--insecure-no-auth" in (caught.value.hint or "")


def test_an_open_address_is_served_when_that_is_meant(tmp_path: Path) -> None:
    settings = ServeSettings(host="0.0.0.0", insecure_no_auth=True)
    with serve(tmp_path / "root", settings) as registry:
        local = LocalRegistry(
            registry.host.replace("0.0.0.0", "127.0.0.1"), registry.root, registry.log
        )
        assert local.ask("GET", "/v2/", headers={"Host": "my.machine:5000"}).status == 200


def test_nobody_gets_anything_without_a_password(guarded: LocalRegistry) -> None:
    for method, path in [
        ("GET", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "/nowhere"),
        ("PUT", "/v2/app/manifests/v1"),
        ("POST", "/v2/app/blobs/uploads/"),
        ("HEAD", f"/v2/app/blobs/{Digest.of(b'x')}"),
        ("DELETE", "/v2/app/manifests/v1"),
    ]:
        answer = guarded.ask(method, path, b"" if method in ("PUT", "POST") else None)
        assert (path, answer.status) == (path, 401)
        assert answer.headers["www-authenticate"].startswith('Basic realm="kstore"')
        if method != "HEAD":
            assert answer.code == "UNAUTHORIZED"


def test_a_wrong_password_is_refused_and_the_right_one_opens(guarded: LocalRegistry) -> None:
    assert guarded.ask("GET", "/v2/", headers=basic("anna", "wrong")).status == 401
    assert guarded.ask("GET", "/v2/", headers=basic("bert", "secret")).status == 401
    assert guarded.ask("GET", "/v2/", headers=basic("anna", "secret")).status == 200


def test_the_log_names_the_user_and_never_the_password(guarded: LocalRegistry) -> None:
    guarded.ask("GET", "/v2/", headers=basic("anna", "secret"))
    guarded.ask("GET", "/v2/", headers=basic("anna", "sesame"))
    guarded.ask("GET", "/v2/", headers={"Host": "any.name", **basic("anna", "secret")})
    assert [line.user for line in guarded.lines(3)] == ["anna", None, "anna"]
    assert [line.status for line in guarded.log] == [200, 401, 200]
    assert "secret" not in repr(guarded.log)
    assert "sesame" not in repr(guarded.log)


def test_a_large_body_without_a_password_is_answered_and_not_read(guarded: LocalRegistry) -> None:
    answer = guarded.ask("POST", f"/v2/a/blobs/uploads/?digest={Digest.of(b'')}", b"x" * 300_000)
    assert answer.status == 401
    assert guarded.lines(1)[-1].received == 0


def test_a_store_that_cannot_be_opened_is_the_error_of_start(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_text("not a directory")
    server = RegistryServer(partial(Store.open, root), ServeSettings())
    with server, pytest.raises(StorageError):
        server.start()


def test_serving_in_this_thread_ends_with_a_cancel(tmp_path: Path) -> None:
    cancel = Cancel()
    open_store = partial(Store.open, tmp_path / "root")
    with RegistryServer(open_store, ServeSettings()) as server:
        timer = threading.Timer(0.2, cancel.cancel)
        timer.start()
        started = time.monotonic()
        server.serve_forever(cancel)
        assert time.monotonic() - started < 5
        timer.join()


def test_an_idle_connection_does_not_delay_the_end(tmp_path: Path) -> None:
    with serve(tmp_path / "root") as registry:
        connection = http.client.HTTPConnection(registry.host, timeout=20)
        assert ask(connection, "GET", "/v2/").status == 200
        started = time.monotonic()
    assert time.monotonic() - started < 1.5
    connection.close()


def test_a_request_under_way_is_finished_before_the_end(tmp_path: Path) -> None:
    data = b"x" * 200_000
    digest = Digest.of(data)
    with contextlib.ExitStack() as stack:
        with serve(tmp_path / "root", ServeSettings(limits=Limits(linger=10))) as registry:
            wire = stack.enter_context(registry.dial())
            wire.sendall(
                f"POST /v2/app/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {len(data)}\r\n\r\n".encode()
                + data[:100_000]
            )
            while not list((registry.root / "ingest").iterdir()):
                time.sleep(0.01)

            timer = threading.Timer(0.3, wire.sendall, [data[100_000:]])
            timer.start()
        timer.join()
        answer = wire.recv(1000)
        assert answer.startswith(b"HTTP/1.1 201 ")
        assert b"\r\nConnection: close\r\n" in answer
    with Store.open(tmp_path / "root") as store:
        assert store.blob(digest) == len(data)


def test_a_request_that_does_not_end_is_broken_off(tmp_path: Path) -> None:
    with serve(tmp_path / "root", ServeSettings(limits=Limits(linger=0.2))) as registry:
        wire = registry.dial()
        wire.sendall(
            b"POST /v2/app/blobs/uploads/?digest=sha256:" + b"a" * 64 + b" HTTP/1.1\r\n"
            b"Host: localhost\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000
        )
        while not list((registry.root / "ingest").iterdir()):
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    wire.close()
    assert list((tmp_path / "root" / "ingest").iterdir()) == []


def test_connections_beyond_the_limit_wait_for_their_turn(tmp_path: Path) -> None:
    settings = ServeSettings(limits=Limits(connections=2, patience=1.0))
    with serve(tmp_path / "root", settings) as registry:
        idle = [registry.dial(), registry.dial()]
        time.sleep(0.2)
        before = threading.active_count()
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(registry.ask("GET", "/v2/").status))
            for _ in range(5)
        ]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
        assert results == []
        assert threading.active_count() <= before + len(threads)
        for sock in idle:
            sock.close()
        for thread in threads:
            thread.join(timeout=20)
        assert results == [200] * 5


def test_a_defect_in_a_handler_is_an_answer_and_a_log_line_and_nothing_else(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("bug")

    monkeypatch.setattr(manifest_handlers, "_stored", broken)
    answer = registry.ask("GET", "/v2/app/manifests/v1")
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert b"bug" not in answer.body
    assert registry.lines(1)[-1].error == "internal error: RuntimeError: bug"
    assert registry.ask("GET", "/v2/").status == 200
    assert capfd.readouterr() == ("", "")


def test_many_clients_push_and_pull_at_once(registry: LocalRegistry) -> None:
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            image = random_image(number % 3, layer_size=50_000)
            path = f"team/app{number}"
            registry.push(path, "v1", image)
            assert registry.ask("GET", f"/v2/{path}/manifests/v1").body == image.raw.data
            for digest, data in image.blobs.items():
                assert registry.ask("GET", f"/v2/{path}/blobs/{digest}").body == data
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    assert len(registry.ask("GET", "/v2/_catalog").json["repositories"]) == 6


def test_index_json_shows_what_was_pushed_when_the_connection_ends(
    registry: LocalRegistry,
) -> None:
    registry.push("team/app", "v1", random_image(1))
    deadline = time.monotonic() + 10
    while True:
        index = json.loads((registry.root / "index.json").read_text())
        names = [
            entry.get("annotations", {}).get("org.opencontainers.image.ref.name")
            for entry in index["manifests"]
        ]
        if names == ["localhost/team/app:v1"]:
            return
        assert time.monotonic() < deadline, names
        time.sleep(0.02)
