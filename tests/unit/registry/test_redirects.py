from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.descriptor import Descriptor
from kstore.errors import AuthError, RemoteError
from kstore.registry import RegistryClient, hosts
from kstore.registry import http as http_module
from kstore.registry.urls import Url
from kstore.streams import BytesStream, pump
from tests.support.faultserver import Basic, Bearer, Fault, FaultServer, make_certificate
from tests.unit.registry.conftest import ClientFactory, always

USER = ("ann", "s3cret-word")
DATA = b"layer bytes" * 100


@pytest.fixture
def storage() -> Iterator[FaultServer]:
    with FaultServer() as server:
        server.add_blob(DATA)
        yield server


@pytest.fixture
def blob(server: FaultServer) -> Descriptor:
    return server.add_blob(DATA)


def moved(location: str, status: int = 307) -> Fault:
    return Fault(status=status, headers={"Location": location})


def fetch(client: RegistryClient, blob: Descriptor) -> bytes:
    received = bytearray()
    with client.open_blob("team/app", blob) as download:
        pump(download, received.extend)
    return bytes(received)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("auth", [Basic(USER), Bearer(user=USER)], ids=["basic", "bearer"])
def test_credentials_stay_at_home_when_a_blob_is_elsewhere(
    server: FaultServer,
    storage: FaultServer,
    make_client: ClientFactory,
    blob: Descriptor,
    status: int,
    auth: Basic | Bearer,
) -> None:
    server.auth = auth
    server.fault(Fault(), "GET", "/blobs/")  # the one that is answered with a challenge
    server.fault(
        moved(f"{storage.url}/v2/team/app/blobs/{blob.digest}?sig=1", status), "GET", "/blobs/"
    )
    assert fetch(make_client(server, always()), blob) == DATA
    assert "authorization" in server.seen("GET", "/blobs/")[1].headers
    [request] = storage.requests
    assert "authorization" not in request.headers


def test_credentials_follow_within_the_same_server(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    server.auth = Basic(USER)
    server.fault(Fault(), "GET", "/blobs/")
    server.fault(moved(f"/v2/team/app/blobs/{blob.digest}?second"), "GET", "/blobs/")
    assert fetch(make_client(server, always()), blob) == DATA
    assert "authorization" in server.seen("GET", "?second")[0].headers


def test_credentials_do_not_come_back_by_way_of_another_host(
    server: FaultServer, storage: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    server.auth = Basic(USER)
    server.fault(Fault(), "GET", "/blobs/")
    server.fault(moved(f"{storage.url}/v2/hop"), "GET", "/blobs/")
    storage.fault(moved(f"{server.url}/v2/team/app/blobs/{blob.digest}?back"), "GET", "/v2/hop")
    fetch(make_client(server, always()), blob)
    assert all("authorization" not in request.headers for request in storage.requests)


def test_a_circle_of_redirects_ends(
    server: FaultServer, client: RegistryClient, blob: Descriptor
) -> None:
    server.fault(moved(f"/v2/team/app/blobs/{blob.digest}"), "GET", "/blobs/", times=99)
    with pytest.raises(RemoteError, match="redirected more than 5 times"):
        client.open_blob("team/app", blob)
    assert len(server.seen("GET", "/blobs/")) == 6


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "gopher://x/", "https:///x", "http://u:pw@127.0.0.1/", "http://a\x01b/"],
)
def test_a_redirect_to_something_else_than_http_is_refused(
    server: FaultServer, client: RegistryClient, blob: Descriptor, location: str
) -> None:
    server.fault(moved(location), "GET", "/blobs/")
    with pytest.raises(RemoteError) as caught:
        client.open_blob("team/app", blob)
    assert "pw" not in str(caught.value)


def test_a_token_server_that_redirects_does_not_pass_the_password_on(
    server: FaultServer, storage: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = storage.auth = Bearer(user=USER)
    server.add_manifest(b"{}", "x/y", tag="v1")
    server.fault(moved(f"{storage.url}/token"), "GET", "/token")
    with pytest.raises(AuthError):
        list(make_client(server, always()).tags("team/app"))
    assert len(storage.requests) == 1
    assert "authorization" not in storage.requests[0].headers


def test_an_upload_is_not_redirected(server: FaultServer, client: RegistryClient) -> None:
    blob = Descriptor("x/y", server.add_blob(b"zz").digest, 2)
    server.fault(moved("/elsewhere"), "PATCH", times=9)
    with pytest.raises(RemoteError, match="answered 307"):
        client.upload_blob("team/app", blob, _no_body)


def _no_body(offset: int) -> BytesStream:
    return BytesStream(b"zz"[offset:])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[FaultServer]:
    with FaultServer(tls=certificate) as server:
        server.add_blob(DATA)
        server.add_manifest(b"{}", "x/y", tag="v1")
        yield server


@pytest.fixture
def trusted(certificate: tuple[Path, Path], tmp_path: Path) -> dict[str, object]:
    """Settings under which ``secure`` is a registry with a proper certificate."""
    (tmp_path / "own.crt").write_bytes(certificate[0].read_bytes())
    return {"tls_verify": True, "cert_dir": tmp_path}


def test_a_blob_arrives_over_tls(
    secure: FaultServer, make_client: ClientFactory, trusted: dict[str, object], blob: Descriptor
) -> None:
    assert fetch(make_client(secure, **trusted), blob) == DATA


def test_a_large_upload_goes_through_tls(
    secure: FaultServer, make_client: ClientFactory, trusted: dict[str, object]
) -> None:
    data = bytes(3_000_000)
    blob = Descriptor("x/y", secure.add_blob(data, path="other").digest, len(data))
    client = make_client(secure, **trusted)
    client.upload_blob("team/app", blob, lambda offset: BytesStream(data[offset:]))
    assert secure.blobs["team/app"][str(blob.digest)] == data


@pytest.mark.parametrize(
    "fault", [Fault(stall_after=500), Fault(reset_after=500)], ids=["stall", "reset"]
)
def test_a_broken_transfer_continues_over_tls(
    secure: FaultServer,
    make_client: ClientFactory,
    trusted: dict[str, object],
    blob: Descriptor,
    fault: Fault,
) -> None:
    secure.fault(fault, "GET", "/blobs/")
    assert fetch(make_client(secure, **trusted), blob) == DATA
    assert secure.seen("GET", "/blobs/")[1].headers["range"] == "bytes=500-"


def test_an_untrusted_certificate_is_refused_and_nothing_sent(
    secure: FaultServer, make_client: ClientFactory
) -> None:
    with pytest.raises(RemoteError, match=r"certificate .* is not trusted") as caught:
        make_client(secure, always(), tls_verify=True).ping()
    assert "--tls-verify=false" in (caught.value.hint or "")
    assert secure.requests == []
    assert caught.value.retryable is False


def test_an_untrusted_certificate_is_taken_without_verification(
    secure: FaultServer, make_client: ClientFactory
) -> None:
    client = make_client(secure, tls_verify=False)
    assert list(client.tags("team/app")) == ["v1"]


def test_plain_http_is_not_tried_unless_allowed(
    server: FaultServer, make_client: ClientFactory
) -> None:
    with pytest.raises(RemoteError) as caught:
        make_client(server, always(), tls_verify=True, attempts=1).ping()
    assert "--tls-verify=false" in (caught.value.hint or "")
    assert server.requests == []


def test_a_certificate_for_another_name_is_refused(
    certificate: tuple[Path, Path], make_client: ClientFactory, trusted: dict[str, object]
) -> None:
    with FaultServer(tls=certificate, address="127.0.0.2") as other:
        with pytest.raises(RemoteError, match="not trusted"):
            make_client(other, **trusted).ping()
        assert other.requests == []


def test_a_certificate_is_checked_against_a_host_name_too(
    secure: FaultServer, make_client: ClientFactory, trusted: dict[str, object]
) -> None:
    make_client("localhost:" + secure.host.rpartition(":")[2], **trusted).ping()


def test_a_redirect_may_not_give_up_tls(
    secure: FaultServer,
    storage: FaultServer,
    make_client: ClientFactory,
    trusted: dict[str, object],
    blob: Descriptor,
) -> None:
    secure.fault(moved(f"{storage.url}/v2/team/app/blobs/{blob.digest}"), "GET", "/blobs/")
    with pytest.raises(RemoteError, match="not protected by TLS"):
        make_client(secure, **trusted).open_blob("team/app", blob)
    assert storage.requests == []


def test_a_token_server_needs_a_trusted_certificate_as_well(
    secure: FaultServer,
    make_client: ClientFactory,
    trusted: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    other = make_certificate(tmp_path_factory.mktemp("other"), "thief")
    with FaultServer(tls=other) as thief:
        thief.auth = Bearer(user=USER)
        secure.auth = Bearer(user=USER, realm=f"{thief.url}/token")
        with pytest.raises(RemoteError, match="not trusted"):
            list(make_client(secure, always(), **trusted).tags("team/app"))
        assert thief.requests == []


def test_a_plain_token_server_of_a_tls_registry_gets_no_password(
    secure: FaultServer,
    storage: FaultServer,
    make_client: ClientFactory,
    trusted: dict[str, object],
) -> None:
    storage.auth = Bearer(user=USER)
    secure.auth = Bearer(user=USER, realm=f"{storage.url}/token")
    for settings in (trusted, {"tls_verify": False}):
        with pytest.raises(AuthError, match="not protected by TLS"):
            list(make_client(secure, always(), **settings).tags("team/app"))
    assert storage.requests == []


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as a public address, 127.0.0.2 as one inside."""
    for name in ("is_private", "is_local"):
        monkeypatch.setattr(http_module, name, lambda address: address != "127.0.0.1")


@pytest.mark.usefixtures("public")
def test_a_public_registry_cannot_send_us_inside(
    server: FaultServer, make_client: ClientFactory, blob: Descriptor
) -> None:
    with FaultServer(address="127.0.0.2") as inside:
        inside.auth = Bearer()
        server.fault(moved(f"{inside.url}/metadata"), "GET", "/blobs/")
        with pytest.raises(RemoteError, match="inside a private network"):
            make_client(server).open_blob("team/app", blob)
        server.auth = Bearer(realm=f"{inside.url}/token")
        with pytest.raises(RemoteError, match="inside a private network"):
            list(make_client(server).tags("team/app"))
        server.auth = None
        away = Fault(headers={"Location": f"{inside.url}/upload"})
        server.fault(away, "POST")
        with pytest.raises(RemoteError, match="inside a private network"):
            make_client(server).upload_blob("team/app", blob, _no_body)
        assert inside.requests == []


@pytest.mark.usefixtures("public")
def test_a_private_registry_may_use_its_own_network(
    make_client: ClientFactory, storage: FaultServer
) -> None:
    with FaultServer(address="127.0.0.2") as inside:
        blob = inside.add_blob(DATA)
        with FaultServer(address="127.0.0.3") as other:
            other.add_blob(DATA)
            inside.fault(moved(f"{other.url}/v2/team/app/blobs/{blob.digest}"), "GET", "/blobs/")
            assert fetch(make_client(inside), blob) == DATA


@pytest.mark.usefixtures("public")
def test_a_realm_on_the_registry_itself_is_always_allowed(make_client: ClientFactory) -> None:
    with FaultServer(address="127.0.0.2") as inside:
        inside.auth = Bearer()
        inside.add_manifest(b"{}", "x/y", tag="v1")
        assert list(make_client(inside).tags("team/app")) == ["v1"]


@pytest.mark.parametrize(
    ("address", "local", "private"),
    [
        ("127.0.0.1", True, True),
        ("::1", True, True),
        ("::ffff:127.0.0.1", True, True),
        ("169.254.169.254", True, True),
        ("fe80::1%eth0", True, True),
        ("0.0.0.0", True, True),
        ("::", True, True),
        ("224.0.0.1", True, None),
        ("10.0.0.1", False, True),
        ("192.168.1.1", False, True),
        ("172.16.0.1", False, True),
        ("100.64.0.1", False, True),
        ("fd00::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("93.184.216.34", False, False),
        ("2606:4700::1111", False, False),
    ],
)
def test_addresses_are_classified(address: str, local: bool, private: bool | None) -> None:
    assert hosts.is_local(address) is local
    if private is not None:
        assert hosts.is_private(address) is private


def test_an_address_shows_no_query_in_messages() -> None:
    url = Url.parse("https://host/path?X-Amz-Signature=geheim", "x")
    assert str(url) == "https://host/path"
    assert url.target == "/path?X-Amz-Signature=geheim"


def test_a_target_is_not_encoded_twice() -> None:
    assert Url.parse("https://host/a%2Fb?c=%20d", "x").target == "/a%2Fb?c=%20d"
    assert Url.parse("https://host/ä", "x").target == "/%C3%A4"
