"""Registries behind a SOCKS proxy."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, RemoteError, RemoteTimeoutError
from kstore.registry.proxies import Proxies
from tests.support.faultserver import FaultServer, make_certificate
from tests.support.socksproxy import SocksProxy
from tests.unit.registry.conftest import ClientFactory


def through(proxy: SocksProxy, who: str = "", kind: str = "socks5") -> Proxies:
    address = f"{kind}://{who}127.0.0.1:{proxy.port}"
    return Proxies.parse({"http_proxy": address, "https_proxy": address})


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
def test_the_proxy_is_asked_for_the_registry_by_its_name(
    make_client: ClientFactory, kind: str
) -> None:
    with FaultServer() as server, SocksProxy(server.host) as proxy:
        server.add_manifest(b"{}", "x/y", tag="v1")
        client = make_client("registry.test:5000", proxies=through(proxy, kind=kind), attempts=1)
        assert list(client.tags("team/app")) == ["v1"]
        assert server.requests[-1].headers["host"] == "registry.test:5000"
    assert set(proxy.asked) == {"registry.test:5000"}


@pytest.mark.parametrize("host", ["192.0.2.1:5000", "[2001:db8::1]:5000"])
def test_an_address_is_told_as_an_address(make_client: ClientFactory, host: str) -> None:
    with FaultServer() as server, SocksProxy(server.host) as proxy:
        make_client(host, proxies=through(proxy), attempts=1).ping()
    assert set(proxy.asked) == {host.replace("[", "").replace("]", "")}


def test_tls_is_spoken_with_the_registry_and_not_with_the_proxy(
    tmp_path: Path, make_client: ClientFactory
) -> None:
    pair = make_certificate(tmp_path)
    with FaultServer(tls=pair) as server, SocksProxy(server.host) as proxy:
        options = {"proxies": through(proxy), "attempts": 1}
        with pytest.raises(RemoteError, match="not trusted"):
            make_client("registry.test", tls_verify=True, **options).ping()
        assert server.requests == []
        make_client("registry.test", **options).ping()


def test_a_password_is_told_the_proxy_and_nobody_else(make_client: ClientFactory) -> None:
    with FaultServer() as server, SocksProxy(server.host, login=("ann", "s3cret:word")) as proxy:
        good = through(proxy, "ann:s3cret%3Aword@")
        make_client("registry.test:5000", proxies=good, attempts=1).ping()
        assert "s3cret" not in repr(good)
        assert "s3cret" not in repr([request.headers for request in server.requests])
        for who, reason in (("ann:bad@", "refuses the user name"), ("", "wants to know who asks")):
            client = make_client("registry.test:5000", proxies=through(proxy, who), attempts=1)
            with pytest.raises(RemoteError, match=reason):
                client.ping()


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"answer": 2}, "its rules do not allow it"),
        ({"answer": 5}, "the connection was refused"),
        ({"answer": 99}, "answer 99"),
        ({"greeting": b"HTTP/1.1 400 Bad Request\r\n"}, "does not speak socks 5"),
        ({"greeting": b"\x05"}, "hung up"),
        ({"greeting": b"\x05\x02"}, "wants to know who asks"),
    ],
)
def test_a_proxy_that_does_not_help_is_named_with_the_reason(
    make_client: ClientFactory, how: dict[str, object], reason: str
) -> None:
    with SocksProxy("127.0.0.1:1", **how) as proxy:  # type: ignore[arg-type]
        client = make_client("registry.test", proxies=through(proxy), tls_verify=True, attempts=1)
        where = f"registry.test \\(by way of proxy 127.0.0.1:{proxy.port}\\)"
        with pytest.raises(RemoteError, match=f"{where} cannot be reached: .*{reason}"):
            client.ping()


def test_a_proxy_that_never_answers_is_given_up(make_client: ClientFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"socks5://127.0.0.1:{silent.getsockname()[1]}"
        client = make_client(
            "registry.test",
            proxies=Proxies.parse({"https_proxy": address}),
            tls_verify=True,
            attempts=1,
            connect_timeout=0.2,
        )
        with pytest.raises(RemoteTimeoutError, match=r"\(by way of proxy .*\) was given up"):
            client.ping()


def test_a_password_no_proxy_could_take_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidInputError, match="https_proxy holds .* too long") as caught:
        Proxies.parse({"https_proxy": f"socks5://ann:{'s3cret' * 50}@p:1"})
    assert "s3cret" not in caught.value.message
