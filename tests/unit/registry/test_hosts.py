from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, RemoteError
from kstore.registry import RegistrySettings, exchange
from kstore.registry.hosts import registry_origin, tls_files
from tests.support.faultserver import Fault, FaultServer, make_authority, make_certificate
from tests.unit.registry.conftest import ClientFactory


def touch(directory: Path, *names: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / name).write_text("")
    return directory


def test_docker_io_is_reached_where_its_api_is() -> None:
    assert str(registry_origin("docker.io", "https")) == "https://registry-1.docker.io"
    assert str(registry_origin("quay.io", "https")) == "https://quay.io"
    assert str(registry_origin("localhost:5000", "http")) == "http://localhost:5000"


def test_the_first_directory_of_the_name_is_used_alone(tmp_path: Path) -> None:
    touch(tmp_path / "b/registry.example:5000", "b.crt")
    touch(tmp_path / "c/registry.example:5000", "c.crt")
    touch(tmp_path / "b/registry.example", "no-port.crt")
    settings = RegistrySettings(cert_search=(tmp_path / "a", tmp_path / "b", tmp_path / "c"))
    found = tls_files("registry.example:5000", settings)
    assert [path.name for path in found.authorities] == ["b.crt"]
    assert tls_files("registry.example:6000", settings).authorities == ()


def test_docker_ios_certificates_stand_under_its_own_name(tmp_path: Path) -> None:
    touch(tmp_path / "docker.io", "x.crt")
    settings = RegistrySettings(cert_search=(tmp_path,))
    assert len(tls_files("docker.io", settings).authorities) == 1


def test_an_explicit_directory_is_used_alone(tmp_path: Path) -> None:
    touch(tmp_path / "search/host", "x.crt")
    mine = touch(tmp_path / "mine", "client.cert", "client.key", "notes.txt")
    settings = RegistrySettings(cert_dir=mine, cert_search=(tmp_path / "search",))
    found = tls_files("host", settings)
    assert found.authorities == ()
    assert found.identities == ((mine / "client.cert", mine / "client.key"),)


@pytest.mark.parametrize("name", ["client.cert", "client.key"])
def test_half_a_client_certificate_is_an_error(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    with pytest.raises(InvalidInputError, match="client"):
        tls_files("host", RegistrySettings(cert_dir=tmp_path))


def test_an_explicit_directory_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="does not exist"):
        tls_files("host", RegistrySettings(cert_dir=tmp_path / "absent"))


def test_a_broken_certificate_is_named(tmp_path: Path, make_client: ClientFactory) -> None:
    touch(tmp_path, "broken.crt")
    with pytest.raises(InvalidInputError, match=r"broken\.crt"):
        make_client("127.0.0.1:9", cert_dir=tmp_path).ping()


def test_authorities_of_a_directory_are_trusted_besides_the_systems(
    tmp_path: Path, make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, own = make_certificate(tmp_path, "system"), make_certificate(tmp_path, "own")
    monkeypatch.setenv("SSL_CERT_FILE", str(system[0]))  # where OpenSSL has the system's
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "ca.crt").write_bytes(own[0].read_bytes())
    strict = {"tls_verify": True, "attempts": 1}
    with FaultServer(tls=system) as common, FaultServer(tls=own) as private:
        for server in (common, private):
            make_client(server, cert_dir=mine, **strict).ping()
        make_client(common, **strict).ping()
        with pytest.raises(RemoteError, match="not trusted"):
            make_client(private, **strict).ping()


def test_a_servers_own_certificate_is_trusted_if_a_user_says_so(
    tmp_path: Path, make_client: ClientFactory
) -> None:
    """As podman and skopeo do it, although an authority has signed it that nobody knows."""
    authority, pair = make_authority(tmp_path)
    for name, certificate in (("own", pair[0]), ("all", authority), ("other", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gone.crt").symlink_to("nowhere")
        if certificate is not None:
            (tmp_path / name / "x.crt").write_bytes(certificate.read_bytes())
    with FaultServer(tls=pair) as server:
        for name in ("own", "all"):
            make_client(server, cert_dir=tmp_path / name, tls_verify=True).ping()
        with pytest.raises(RemoteError, match="not trusted"):
            make_client(server, cert_dir=tmp_path / "other", tls_verify=True, attempts=1).ping()


def test_a_client_certificate_is_presented(tmp_path: Path, make_client: ClientFactory) -> None:
    pair = make_certificate(tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    for source, name in zip(pair, ("client.cert", "client.key"), strict=True):
        (mine / name).write_bytes(source.read_bytes())
    with FaultServer(tls=pair) as server:
        context = server.tls_context
        assert context is not None
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pair[0])
        make_client(server, cert_dir=mine).ping()
        with pytest.raises(RemoteError):
            make_client(server, attempts=1).ping()


def test_an_unknown_host_is_named_and_not_tried_again(make_client: ClientFactory) -> None:
    started = time.monotonic()
    with pytest.raises(RemoteError, match=r"host no-such-host\.invalid is unknown"):
        make_client(
            "no-such-host.invalid", tls_verify=True, backoff_base=5.0, backoff_cap=5.0
        ).ping()
    assert time.monotonic() - started < 4


def test_a_refused_connection_is_named_and_not_tried_again(make_client: ClientFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        host = f"127.0.0.1:{gone.getsockname()[1]}"
    for verify in (True, False):
        started = time.monotonic()
        with pytest.raises(RemoteError, match=f"{host} cannot be reached: connection refused"):
            make_client(host, tls_verify=verify, backoff_base=5.0, backoff_cap=5.0).ping()
        assert time.monotonic() - started < 2


def test_a_registry_that_was_there_before_is_waited_for(make_client: ClientFactory) -> None:
    with FaultServer() as server:
        server.add_manifest(b"{}", "x/y", tag="v1")
        client = make_client(server, backoff_base=0.3, backoff_cap=0.3)
        assert list(client.tags("team/app")) == ["v1"]
        port = int(server.host.rpartition(":")[2])
    with FaultServer(port=port, started=False) as back:
        back.add_manifest(b"{}", "x/y", tag="v2")
        timer = threading.Timer(0.2, back.start)
        timer.start()
        assert list(client.tags("team/app")) == ["v2"]
        timer.join()


def test_a_server_that_is_no_http_server_is_recognised(make_client: ClientFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(2):
                peer, _address = listener.accept()
                with peer:
                    peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    peer.recv(1000)

        thread = threading.Thread(target=greet, daemon=True)
        thread.start()
        with pytest.raises(RemoteError):
            make_client(f"127.0.0.1:{listener.getsockname()[1]}", attempts=1).ping()
        thread.join(5)


def test_plain_http_is_not_waited_for_long_where_it_is_silent_to_tls(
    make_client: ClientFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "_TLS_GREETING", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            silent, _ = listener.accept()
            with silent, contextlib.suppress(OSError):
                while True:  # until the listener is shut down
                    peer, _address = listener.accept()
                    with peer:
                        peer.recv(1000)
                        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        started = time.monotonic()
        client = make_client(f"127.0.0.1:{listener.getsockname()[1]}", connect_timeout=60.0)
        client.ping()
        assert time.monotonic() - started < 30
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_slow_server_of_tls_is_not_taken_for_one_of_plain_http(
    tmp_path: Path, make_client: ClientFactory
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in (b"", b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"):
                peer, _address = listener.accept()
                with peer, contextlib.suppress(OSError):
                    peer.recv(1000)
                    peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(RemoteError, match="does not speak TLS|cannot be reached|too early"):
            make_client(f"127.0.0.1:{listener.getsockname()[1]}", attempts=1).ping()
        thread.join(5)


def test_a_server_that_never_finishes_its_head_is_given_up(make_client: ClientFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def dribble() -> None:
            for _ in range(2):
                peer, _address = listener.accept()
                with peer:
                    if peer.recv(1, socket.MSG_PEEK) == b"\x16":
                        continue
                    peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                    while not stop.wait(0.05):
                        try:
                            peer.sendall(b"x")
                        except OSError:
                            return

        thread = threading.Thread(target=dribble, daemon=True)
        thread.start()
        started = time.monotonic()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RemoteError):
            make_client(host, attempts=1, response_timeout=0.5).ping()
        assert time.monotonic() - started < 3
        stop.set()
        thread.join(5)


def test_a_body_whose_framing_never_ends_is_cut_off(
    server: FaultServer, make_client: ClientFactory
) -> None:
    framing = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    trailers = b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 3_000_000
    server.fault(Fault(body=trailers, headers=dict(framing)), "GET", "/_catalog", times=9)
    with pytest.raises(RemoteError, match="more than any honest answer"):
        list(make_client(server).catalog())
    assert len(server.seen("GET", "/_catalog")) == 1


def test_a_server_that_never_shakes_hands_is_given_up(make_client: ClientFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(RemoteError):
            make_client(host, tls_verify=True, attempts=1, connect_timeout=0.4).ping()
        assert time.monotonic() - started < 2


def test_words_of_a_registry_are_made_fit_for_a_terminal(
    server: FaultServer, make_client: ClientFactory
) -> None:
    body = (
        b'{"errors":[{"code":"X","message":"a\\u001b]0;owned\\u0007\\r\\n\\u202eb'
        + b"z" * 900
        + b'"}]}'
    )
    server.fault(Fault(status=400, body=body), "GET", "/manifests/")
    with pytest.raises(RemoteError) as caught:
        make_client(server).get_manifest("team/app", "v1")
    message = str(caught.value)
    assert "a ]0;owned" in message
    assert message.isprintable()
    assert len(message) < 500


@pytest.mark.parametrize(
    "body", [b"<html>" * 10, b"", b"[1]", b'{"errors": 3}', b"\xff\xfe", b"[" * 5000]
)
def test_an_error_page_without_words_is_an_error_without_words(
    server: FaultServer, make_client: ClientFactory, body: bytes
) -> None:
    server.fault(Fault(status=400, body=body), "GET", "/manifests/")
    with pytest.raises(RemoteError, match=r"answered 400 to manifest team/app:v1$"):
        make_client(server).get_manifest("team/app", "v1")


def test_an_endless_error_page_is_cut_off(server: FaultServer, make_client: ClientFactory) -> None:
    server.fault(Fault(status=400, endless=True), "GET", "/manifests/")
    started = time.monotonic()
    with pytest.raises(RemoteError, match="answered 400"):
        make_client(server).get_manifest("team/app", "v1")
    assert time.monotonic() - started < 3


def test_importing_the_package_loads_no_http_machinery() -> None:
    code = "import sys, kstore.registry; sys.exit('urllib3' in sys.modules or 'ssl' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
