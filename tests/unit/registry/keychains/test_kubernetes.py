"""Pull secrets of Kubernetes: from files, and from a cluster's API."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kstore.errors import AuthError, KstoreError, RemoteError, StorageError
from kstore.registry import CredentialLookup, Credentials, RegistrySettings
from kstore.registry.keychains import KeychainSettings, open_keychains
from tests.support.faultserver import make_certificate


def encoded(data: Any) -> str:
    return base64.b64encode(json.dumps(data).encode()).decode()


def entry(user: str, password: str = "p") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def secret(**auths: dict[str, str]) -> dict[str, Any]:
    return {
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": encoded({"auths": auths})},
    }


def keychain(*paths: Path, **more: Any) -> CredentialLookup:
    settings = KeychainSettings(pull_secrets=paths, **more)
    return open_keychains(["kubernetes"], settings)[0]


def write(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


AUTHS = {"r.io": entry("u")}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.json", {"auths": AUTHS}),
        ("old.json", AUTHS),
        ("secret.json", secret(**AUTHS)),
        ("old-secret.json", {"kind": "Secret", "data": {".dockercfg": encoded(AUTHS)}}),
        ("plain.json", {"kind": "Secret", "stringData": {".dockercfg": json.dumps(AUTHS)}}),
        ("list.json", {"kind": "List", "items": [secret(q=entry("q")), secret(**AUTHS)]}),
        ("split.json", {"auths": {"r.io": {"username": "u", "password": "p"}}}),
    ],
)
def test_every_form_of_a_secret_is_read_from_a_file(tmp_path: Path, name: str, data: Any) -> None:
    lookup = keychain(write(tmp_path / name, data))
    assert lookup("r.io", "a/b") == Credentials("u", "p")
    assert lookup("q.io", "a/b") is None


@pytest.mark.parametrize(
    ("name", "data"), [(".dockerconfigjson", {"auths": AUTHS}), (".dockercfg", AUTHS)]
)
def test_a_mounted_secret_is_read_from_its_directory(tmp_path: Path, name: str, data: Any) -> None:
    write(tmp_path / "mount" / name, data)
    assert keychain(tmp_path / "mount")("r.io", "a") == Credentials("u", "p")


@pytest.mark.parametrize(
    ("host", "path", "user"),
    [
        ("r.io", "team/app", "team"),
        ("r.io", "team", "team"),
        ("r.io", "teams/app", "host"),
        ("r.io:5000", "team/app", None),
        ("a.r.io", "x", "wild"),
        ("special.r.io", "x", "special"),
        ("a.b.r.io", "x", None),
        ("docker.io", "library/x", "hub"),
        ("p.io:5000", "x", "port"),
        ("p.io", "x", None),
    ],
)
def test_the_most_specific_key_counts_as_the_kubelet_reads_them(
    tmp_path: Path, host: str, path: str, user: str | None
) -> None:
    keys = {
        "r.io": "host",
        "https://r.io/team": "team",
        "*.r.io": "wild",
        "special.r.io": "special",
        "https://index.docker.io/v1/": "hub",
        "p.io:5000": "port",
    }
    data = {"auths": {key: entry(name) for key, name in keys.items()}}
    found = keychain(write(tmp_path / "x", data))(host, path)
    assert (found.username if found else None) == user


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"kind": "Secret", "data": {".dockercfg": "%"}}', '{"auths": 3}'],
)  # fmt: skip
def test_a_damaged_secret_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken").write_text(text)
    with pytest.raises(StorageError, match="broken"):
        keychain(tmp_path / "broken")("r.io", "x")
    with pytest.raises(StorageError, match="gone"):
        keychain(tmp_path / "gone")("r.io", "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match="empty has neither"):
        keychain(tmp_path / "empty")("r.io", "x")


# ---- in a cluster


class Cluster:
    """The two calls of the API that matter, over TLS with an authority of its own."""

    def __init__(self, directory: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str | None]] = []
        certificate, key = make_certificate(directory)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        cluster = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                cluster.asked.append((self.path, self.headers.get("Authorization")))
                status, data = cluster.answers.get(self.path, (404, {}))
                body = data if isinstance(data, bytes) else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self.account = directory / "serviceaccount"
        self.account.mkdir()
        (self.account / "ca.crt").write_bytes(certificate.read_bytes())
        (self.account / "namespace").write_text("prod")
        claims = {"sub": "system:serviceaccount:prod:puller"}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
        self.token = f"header.{payload}.signature"
        (self.account / "token").write_text(f"{self.token}\n")
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def lookup(self, warnings: list[str] | None = None, **changes: Any) -> CredentialLookup:
        return keychain(
            kubernetes=self.host,
            service_account=self.account,
            registry=RegistrySettings(**changes),
            warn=(warnings if warnings is not None else []).append,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.close()


BASE = "/api/v1/namespaces/prod"
PULLER = {"imagePullSecrets": [{"name": "gone"}, {"name": "regcred"}]}


def test_the_secrets_of_the_service_account_are_used(cluster: Cluster) -> None:
    cluster.answers = {
        f"{BASE}/serviceaccounts/puller": (200, PULLER),
        f"{BASE}/secrets/regcred": (200, secret(**AUTHS)),
    }
    warnings: list[str] = []
    lookup = cluster.lookup(warnings)
    assert cluster.asked == [], "nothing is asked before it is needed"
    for _ in range(3):
        assert lookup("r.io", "a/b") == Credentials("u", "p")
    assert [path for path, _ in cluster.asked] == [
        f"{BASE}/serviceaccounts/puller",
        f"{BASE}/secrets/gone",
        f"{BASE}/secrets/regcred",
    ]
    assert {sent for _, sent in cluster.asked} == {f"Bearer {cluster.token}"}
    assert "gone" in warnings[0]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, {}, AuthError),
        (500, {}, RemoteError),
        (200, b"<html>", RemoteError),
        (200, b"[]", RemoteError),
        (200, b" " * (3 * 1024 * 1024), KstoreError),
    ],
    ids=["forbidden", "broken", "page", "list", "flood"],
)
def test_a_cluster_that_does_not_answer_well_is_an_error(
    cluster: Cluster, status: int, body: Any, error: type[KstoreError]
) -> None:
    cluster.answers = {f"{BASE}/serviceaccounts/puller": (status, body)}
    with pytest.raises(error) as caught:
        cluster.lookup()("r.io", "x")
    assert cluster.token not in caught.value.message


def test_a_cluster_with_another_authority_gets_no_token(cluster: Cluster) -> None:
    (cluster.account / "ca.crt").write_text("")
    (cluster.account / "ca.crt").unlink()
    other = cluster.account.parent / "other"
    other.mkdir()
    stranger, _ = make_certificate(other)
    (cluster.account / "ca.crt").write_bytes(stranger.read_bytes())
    with pytest.raises(RemoteError, match="not trusted"):
        cluster.lookup()("r.io", "x")
    assert cluster.asked == []


def test_a_secrets_name_cannot_lead_elsewhere(cluster: Cluster) -> None:
    cluster.answers = {
        f"{BASE}/serviceaccounts/puller": (
            200,
            {"imagePullSecrets": [{"name": "../../x"}, {"name": "a?b"}, {"nom": 1}, "x"]},
        )
    }
    warnings: list[str] = []
    assert cluster.lookup(warnings)("r.io", "x") is None
    assert len(cluster.asked) == 1
    assert len(warnings) == 2


@pytest.mark.parametrize("token", ["", "a.b", "a.e30.c", "a.W10.c", "x" * 10])
def test_a_token_of_no_service_account_is_named_and_not_shown(cluster: Cluster, token: str) -> None:
    (cluster.account / "token").write_text(token)
    with pytest.raises(StorageError, match="not the token of a service account"):
        cluster.lookup()("r.io", "x")
    (cluster.account / "token").unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        cluster.lookup()("r.io", "x")
