"""Which way out of a network a request takes."""

from __future__ import annotations

import base64
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, KstoreError, RemoteError
from kstore.registry.proxies import Proxies, Proxy
from kstore.registry.urls import Url
from tests.support.faultserver import FaultServer, make_certificate
from tests.support.leadingproxy import LeadingProxy
from tests.unit.registry.conftest import ClientFactory


def origin(text: str) -> object:
    return Url.parse(text, "test").origin


def via(without: str, url: str) -> bool:
    proxies = Proxies.parse({"http_proxy": "http://p:1", "https_proxy": "p:2", "no_proxy": without})
    return proxies.for_origin(origin(url)) is not None  # type: ignore[arg-type]


def test_each_scheme_has_its_proxy() -> None:
    proxies = Proxies.parse({"http_proxy": "http://p:81", "https_proxy": "q"})
    assert proxies.for_origin(origin("http://r.io/")) == Proxy("p", 81)  # type: ignore[arg-type]
    assert proxies.for_origin(origin("https://r.io/")) == Proxy("q", 80)  # type: ignore[arg-type]
    assert Proxies.parse({}).for_origin(origin("https://r.io/")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("without", "url", "proxied"),
    [
        ("", "https://r.io/", True),
        ("*", "https://r.io/", False),
        ("r.io", "https://r.io/", False),
        ("r.io", "https://a.r.io/", False),
        (".r.io", "https://a.r.io/", False),
        ("*.r.io", "https://a.r.io/", False),
        ("r.io", "https://xr.io/", True),
        ("q.io, r.io", "https://r.io/", False),
        ("R.IO", "https://r.io/", False),
        ("r.io:443", "https://r.io/", False),
        ("r.io:5000", "https://r.io/", True),
        ("10.0.0.0/8", "https://10.1.2.3/", False),
        ("10.0.0.0/8", "https://11.1.2.3/", True),
        ("10.1.2.3", "https://10.1.2.3:5000/", False),
        ("2.3", "https://10.1.2.3/", True),
        ("[2001:db8::1]", "https://[2001:db8::1]/", False),
        ("bad/net", "https://r.io/", True),
        ("", "https://localhost/", False),
        ("", "http://127.0.0.1:5000/", False),
        ("", "http://[::1]:5000/", False),
    ],
)
def test_what_is_near_is_reached_directly(without: str, url: str, proxied: bool) -> None:
    assert via(without, url) == proxied


@pytest.mark.parametrize(
    "text", ["socks4://p:1", "https://p:1", "http://", "http://p:x", "http://[p"]
)
def test_what_is_no_usable_proxy_is_refused_without_its_password(text: str) -> None:
    secret = text.replace("://", "://user:s3cret-word@")
    with pytest.raises(InvalidInputError, match="https_proxy") as caught:
        Proxies.parse({"https_proxy": secret})
    assert "s3cret" not in caught.value.message


def test_a_password_is_told_the_proxy_and_nobody_else() -> None:
    proxy = Proxies.parse({"https_proxy": "http://ann:s3cret%20word@p:1"}).https
    assert proxy is not None
    assert proxy.authorization == "Basic " + base64.b64encode(b"ann:s3cret word").decode()
    assert "s3cret" not in repr(proxy)
    assert "Basic" not in repr(proxy)


class ForwardProxy(LeadingProxy):
    """An HTTP proxy that notes what it was asked."""

    def __init__(self, target: str, refuse: bytes | None = None) -> None:
        super().__init__(target)
        self._refuse = refuse
        self.heads: list[str] = []

    def _serve(self, peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                data = peer.recv(4096)
                if not data:
                    return
                head += data
            self.heads.append(head.decode())
            if self._refuse is not None:
                peer.sendall(self._refuse)
            elif head.startswith(b"CONNECT"):
                peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                self._pass_on(peer)
            else:  # one request, in the form a server takes; the next connection is another's
                first, _, rest = head.partition(b"\r\n")
                method, url, version = first.split()
                path = b"/" + url.split(b"/", 3)[3]
                said = b" ".join((method, path, version)) + b"\r\nConnection: close\r\n" + rest
                self._pass_on(peer, said)


@pytest.fixture
def proxied_server() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.add_manifest(b"{}", "x/y", tag="v1")
        yield server


def test_plain_http_is_asked_of_the_proxy(
    proxied_server: FaultServer, make_client: ClientFactory
) -> None:
    with ForwardProxy(proxied_server.host) as proxy:
        proxies = Proxies(http=Proxy("127.0.0.1", proxy.port, "Basic eA=="))
        client = make_client("registry.test:5000", proxies=proxies, attempts=1)
        assert list(client.tags("team/app")) == ["v1"]
    asked = [head for head in proxy.heads if "/tags/" in head]
    assert asked[0].startswith("GET http://registry.test:5000/v2/team/app/tags/list")
    assert "Proxy-Authorization: Basic eA==" in asked[0]
    assert proxied_server.requests[-1].headers["host"] == "registry.test:5000"


def test_tls_goes_through_a_tunnel_and_keeps_the_registrys_certificate(
    tmp_path: Path, make_client: ClientFactory
) -> None:
    pair = make_certificate(tmp_path)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(pair[0].read_bytes())
    with FaultServer(tls=pair) as server:
        server.add_manifest(b"{}", "x/y", tag="v1")
        with ForwardProxy(server.host) as proxy:
            proxies = Proxies(https=Proxy("127.0.0.1", proxy.port, "Basic eA=="))
            options = {"proxies": proxies, "tls_verify": True, "attempts": 1}
            client = make_client("registry.test", cert_dir=trusted, **options)
            with pytest.raises(RemoteError, match="not trusted"):  # it is for another name
                client.ping()
            lax = make_client("registry.test", **{**options, "tls_verify": False})
            assert list(lax.tags("team/app")) == ["v1"]
        assert proxy.heads[0].startswith("CONNECT registry.test:443 ")
        assert "Proxy-Authorization: Basic eA==" in proxy.heads[0]
        for request in server.requests:
            assert "proxy-authorization" not in request.headers, "the tunnel's end is another host"


def test_a_proxy_that_refuses_is_named_as_the_reason(make_client: ClientFactory) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with ForwardProxy("127.0.0.1:1", refusal) as proxy:
        proxies = Proxies(https=Proxy("127.0.0.1", proxy.port, "Basic c2VjcmV0"))
        client = make_client("registry.test", proxies=proxies, tls_verify=True, attempts=1)
        with pytest.raises(KstoreError, match="407") as caught:
            client.ping()
    assert "c2VjcmV0" not in caught.value.message


def test_a_proxy_that_is_not_there_is_named_and_not_the_registry(
    make_client: ClientFactory,
) -> None:
    for proxy, reason in (
        (Proxy("127.0.0.1", 1), r"registry.test \(by way of proxy 127.0.0.1:1\) cannot be reached"),
        (Proxy("proxy.invalid", 1), "proxy proxy.invalid is unknown"),
    ):
        client = make_client(
            "registry.test", proxies=Proxies(https=proxy), tls_verify=True, attempts=1
        )
        with pytest.raises(RemoteError, match=reason):
            client.ping()


def test_a_proxy_does_not_make_addresses_of_this_machine_reachable(
    proxied_server: FaultServer, make_client: ClientFactory
) -> None:
    """A registry behind a proxy names a token server by a private address."""
    from tests.support.faultserver import Bearer

    proxied_server.auth = Bearer(realm="http://10.0.0.1/token")
    with ForwardProxy(proxied_server.host) as proxy:
        proxies = Proxies(http=Proxy("127.0.0.1", proxy.port))
        client = make_client("registry.test:5000", proxies=proxies, attempts=1)
        with pytest.raises(KstoreError, match="private network"):
            client.ping()
    assert not any("10.0.0.1" in head for head in proxy.heads)
