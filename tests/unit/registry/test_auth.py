from __future__ import annotations

import io
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import AuthError, IntegrityError, RemoteError
from kstore.registry import Credentials, RegistryClient
from kstore.registry.auth import token_server
from kstore.registry.urls import Origin
from tests.support.faultserver import (
    Basic,
    Bearer,
    Fault,
    FaultServer,
    make_authority,
    make_certificate,
)
from tests.unit.registry.conftest import ClientFactory, always

USER = ("ann", "s3cret-word")
HTTPS = Origin("https", "registry.example", 443)
HTTP = Origin("http", "registry.example", 5000)


def tag_list(client: RegistryClient) -> list[str]:
    return list(client.tags("team/app"))


@pytest.fixture
def stocked(server: FaultServer) -> FaultServer:
    server.add_manifest(b"{}", "x/y", tag="v1")
    server.add_manifest(b"{}", "x/y", path="other/app", tag="v2")
    return server


def test_basic_credentials_answer_a_challenge_only(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    stocked.auth = Basic(USER)
    assert tag_list(make_client(stocked, always())) == ["v1"]
    first, second = stocked.seen("GET", "/tags/")
    assert "authorization" not in first.headers
    assert second.headers["authorization"].startswith("Basic ")


def test_a_registry_that_asks_nobody_gets_no_credentials(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    tag_list(make_client(stocked, always()))
    assert all("authorization" not in request.headers for request in stocked.requests)


def test_wrong_basic_credentials_are_sent_once(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    stocked.auth = Basic(USER)
    with pytest.raises(AuthError, match="refuses the given credentials") as caught:
        tag_list(make_client(stocked, always(password="guess-word")))
    assert caught.value.hint == f"kstore login {stocked.host}"
    assert "guess-word" not in str(caught.value)
    assert len(stocked.seen("GET", "/tags/")) == 2


def test_wrong_basic_credentials_lock_no_account_by_repetition(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    stocked.auth = Basic(USER)
    client = make_client(stocked, always(password="guess-word"))
    for _ in range(2):
        with pytest.raises(AuthError):
            tag_list(client)
    sent = [r for r in stocked.seen("GET", "/tags/") if "authorization" in r.headers]
    assert len(sent) == 2


def test_missing_credentials_are_named_as_missing(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.auth = Basic(USER)
    with pytest.raises(AuthError, match="refuses anonymous access"):
        tag_list(client)


def test_an_anonymous_token_is_fetched(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.auth = Bearer()
    assert tag_list(client) == ["v1"]
    token = stocked.seen("GET", "/token")[0]
    query = parse_qs(urlsplit(token.target).query)
    assert query == {"service": ["the registry"], "scope": ["repository:team/app:pull"]}
    assert "authorization" not in token.headers


def test_a_token_is_fetched_with_the_password(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    stocked.auth = Bearer(user=USER)
    assert tag_list(make_client(stocked, always())) == ["v1"]
    query = parse_qs(urlsplit(stocked.seen("GET", "/token")[0].target).query)
    assert query["account"] == ["ann"]


def test_an_identity_token_is_traded_by_post(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    stocked.auth = Bearer(identity="refresh-me")
    lookup = lambda host, path: Credentials(identity_token="refresh-me")  # noqa: E731
    assert tag_list(make_client(stocked, lookup)) == ["v1"]
    form = parse_qs(stocked.seen("POST", "/token")[0].body.decode())
    assert form["grant_type"] == ["refresh_token"]
    assert form["scope"] == ["repository:team/app:pull"]
    assert "refresh-me" not in stocked.seen("POST", "/token")[0].target


def test_a_token_is_used_again_for_the_same_repository_only(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.auth = Bearer()
    tag_list(client)
    tag_list(client)
    assert len(stocked.seen("GET", "/token")) == 1
    list(client.tags("other/app"))
    assert len(stocked.seen("GET", "/token")) == 2


def test_a_token_is_fetched_once_by_many_threads(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.auth = Bearer()
    stocked.fault(Fault(delay=0.2), "GET", "/token")
    threads = [threading.Thread(target=tag_list, args=(client,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(stocked.seen("GET", "/token")) == 1


def test_an_expired_token_is_not_sent(
    stocked: FaultServer, client: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.auth = Bearer(expires_in=90)
    tag_list(client)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 91)
    before = len(stocked.seen("GET", "/tags/"))
    tag_list(client)
    assert len(stocked.seen("GET", "/token")) == 2
    assert len(stocked.seen("GET", "/tags/")) == before + 1


@pytest.mark.parametrize("life", [None, 0, -5, 3])
def test_a_token_lives_a_minute_at_least(
    stocked: FaultServer, client: RegistryClient, life: int | None
) -> None:
    stocked.auth = Bearer(expires_in=life)
    tag_list(client)
    tag_list(client)
    assert len(stocked.seen("GET", "/token")) == 1


def test_a_revoked_token_is_renewed_once(stocked: FaultServer, client: RegistryClient) -> None:
    auth = stocked.auth = Bearer()
    tag_list(client)
    auth.revoke()
    assert tag_list(client) == ["v1"]
    assert len(stocked.seen("GET", "/token")) == 2


def test_a_registry_that_refuses_every_token_is_given_up(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.auth = Bearer(uses=0)
    with pytest.raises(AuthError):
        tag_list(client)
    assert len(stocked.seen("GET", "/tags/")) == 2


def test_a_token_server_that_refuses_is_named(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    stocked.auth = Bearer(user=USER)
    with pytest.raises(AuthError, match="token server .* refuses the given credentials"):
        tag_list(make_client(stocked, always(password="wrong-word")))


def test_a_token_server_in_trouble_is_asked_again(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.auth = Bearer()
    stocked.fault(Fault(status=503), "GET", "/token")
    assert tag_list(client) == ["v1"]


def test_a_dead_token_server_does_not_multiply_the_attempts(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.auth = Bearer()
    stocked.fault(Fault(status=503), "GET", "/token", times=99)
    with pytest.raises(RemoteError):
        tag_list(client)
    assert len(stocked.seen("GET", "/token")) == 4  # the settings' attempts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token": 5}',
        b'{"token": "a\\nb"}',
        b'{"token":"a","token":"b"}',
        b"\xff",
    ],
)
def test_a_useless_token_answer_is_an_error(
    stocked: FaultServer, client: RegistryClient, body: bytes
) -> None:
    stocked.auth = Bearer()
    stocked.fault(Fault(body=body), "GET", "/token")
    with pytest.raises(RemoteError, match="token server"):
        tag_list(client)


def test_an_endless_token_answer_is_cut_off(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.auth = Bearer()
    stocked.fault(Fault(endless=True), "GET", "/token")
    with pytest.raises(IntegrityError, match="larger than the limit of 1048576"):
        tag_list(client)


def test_a_challenge_nobody_understands_is_a_refusal(
    stocked: FaultServer, make_client: ClientFactory
) -> None:
    for header in ("Negotiate", 'Bearer service="no realm"', "", 'Basic realm="'):
        stocked.fault(Fault(status=401, headers={"WWW-Authenticate": header}), "GET", "/tags/")
        with pytest.raises(AuthError):
            tag_list(make_client(stocked, always()))
    assert all("authorization" not in request.headers for request in stocked.requests)


def test_the_login_check_uses_the_credentials(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = Bearer(user=USER)
    make_client(server, always()).ping()
    with pytest.raises(AuthError):
        make_client(server, always(password="wrong-word")).ping()
    server.auth = Basic(USER)
    make_client(server, always()).ping()
    with pytest.raises(AuthError):
        make_client(server).ping()


def test_something_that_is_no_registry_is_recognised(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(status=404), "GET", "/v2/", times=9)
    with pytest.raises(RemoteError, match="does not speak the registry protocol"):
        client.ping()


@pytest.mark.parametrize(
    ("realm", "registry", "allow_http"),
    [
        ("http://auth.example/token", HTTPS, False),
        ("http://auth.example/token", HTTPS, True),
        ("http://registry.example/token", HTTPS, True),
        ("http://auth.example/token", HTTP, False),
        ("file:///etc/passwd", HTTPS, True),
        ("ftp://auth.example/", HTTPS, True),
        ("//auth.example/", HTTPS, True),
        ("https://ann:pw@auth.example/", HTTPS, True),
        ("https://auth.example\r\nX: y/", HTTPS, True),
        ("https:///token", HTTPS, True),
        ("https://[::1/token", HTTPS, True),
        ("https://auth.example:99999/", HTTPS, True),
        ("", HTTPS, True),
        (None, HTTPS, True),
    ],
)
def test_a_realm_that_could_leak_a_password_is_refused(
    realm: str | None, registry: Origin, allow_http: bool
) -> None:
    with pytest.raises(AuthError):
        token_server(realm, registry, allow_http=allow_http)


@pytest.mark.parametrize(
    ("realm", "registry", "allow_http"),
    [
        ("https://auth.example/token?x=1", HTTPS, False),
        ("https://registry.example/token", HTTPS, False),
        ("http://auth.example/token", HTTP, True),
        ("http://registry.example:5000/token", HTTP, True),
    ],
)
def test_a_realm_within_the_rules_is_used(realm: str, registry: Origin, allow_http: bool) -> None:
    url, trusted = token_server(realm, registry, allow_http=allow_http)
    assert trusted == ("registry.example" in realm)
    assert url.target.startswith("/token")


@pytest.mark.parametrize("trusted", [True, False])
def test_a_token_server_needs_a_certificate_as_the_registry_does(
    tmp_path: Path, make_client: ClientFactory, trusted: bool
) -> None:
    authority, pair = make_authority(tmp_path)
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/ca.crt").write_bytes(authority.read_bytes())
    with (
        FaultServer(tls=pair) as registry,
        FaultServer(tls=pair if trusted else make_certificate(stranger)) as tokens,
    ):
        tokens.auth = Bearer(user=("ann", "s3cret-word"))
        registry.auth = Bearer(realm=f"{tokens.url}/token", tokens=tokens.auth.tokens)
        client = make_client(
            registry, always(), cert_dir=tmp_path / "certs", tls_verify=True, attempts=1
        )
        if trusted:
            client.ping()
            return
        with pytest.raises(RemoteError, match="is not trusted"):
            client.ping()
        assert tokens.requests == [], "no password leaves before the certificate is checked"


def test_a_refused_push_names_the_repository(
    server: FaultServer, make_client: ClientFactory
) -> None:
    server.auth = Basic(("ann", "secret"))
    blob = Descriptor("x/y", Digest.of(b"data"), 4)
    with pytest.raises(AuthError, match=r"refuses anonymous access for team/app \("):
        make_client(server).upload_blob("team/app", blob, lambda at: io.BytesIO(b"data"[at:]))


def test_a_realms_own_query_is_kept(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.auth = Bearer(realm=f"{stocked.url}/token?account=x&y=%2F")
    tag_list(client)
    assert stocked.seen("GET", "/token")[0].target.startswith("/token?account=x&y=%2F&service=")


def test_the_challenge_of_another_host_is_not_answered(
    server: FaultServer, make_client: ClientFactory
) -> None:
    with FaultServer() as storage:
        storage.auth = Basic(USER)
        blob = server.add_blob(b"data")
        away = Fault(status=307, headers={"Location": f"{storage.url}/v2/team/app/blobs/x"})
        server.fault(away, "GET", "/blobs/", times=99)
        with pytest.raises(RemoteError, match="401"):
            make_client(server, always()).open_blob("team/app", blob)
        assert all("authorization" not in request.headers for request in storage.requests)
