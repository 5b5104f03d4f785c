"""Importing from the web."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstore.errors import (
    AuthError,
    CancelledError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    RemoteError,
    RemoteTimeoutError,
)
from kstore.operations.import_ import ImportOptions, ImportResult, import_tar
from kstore.operations.inspect import inspect_image
from kstore.registry import RegistrySettings
from kstore.registry import http as http_module
from kstore.store import Store
from kstore.streams import Cancel
from tests.support.faultserver import Fault, FaultServer, make_certificate
from tests.support.images import layer_tar

TAR = layer_tar({"bin/tool": random.Random(1).randbytes(300_000)})
PACKED = gzip.compress(TAR, 1, mtime=0)


def settings(**changes: Any) -> RegistrySettings:
    fast: dict[str, Any] = {"backoff_base": 0.01, "backoff_cap": 0.05, "attempts": 4}
    return RegistrySettings(**{**fast, **changes})


def offer(server: FaultServer, data: bytes = PACKED) -> str:
    """Put a file on the web; its address."""
    digest = server.add_blob(data).digest
    return f"{server.url}/v2/team/app/blobs/{digest}"


def bring(store: Store, url: str, limit: int | None = None, **changes: Any) -> ImportResult:
    return import_tar(store, url, "base", ImportOptions(max_size=limit), web=settings(**changes))


def layer_of(store: Store, result: ImportResult) -> bytes:
    [layer] = inspect_image(store, result.image_id).manifest.layers
    return store.read_blob(layer.digest, cap=1 << 22)


@pytest.fixture
def nothing_left(store: Store) -> Iterator[None]:
    """No image, name or file is left in the store at the end of the test."""
    yield
    assert (store.images(), store.names()) == ([], [])
    store.prune(all_unused_partials=True)
    assert store.facts().blobs == 0


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress, bz2.compress])
def test_a_tar_on_the_web_becomes_an_image(
    store: Store, faulty: FaultServer, pack: Callable[[bytes], bytes]
) -> None:
    result = bring(store, offer(faulty, pack(TAR)))
    assert gzip.decompress(layer_of(store, result)) == TAR
    assert not store.check(deep=True).problems


def test_the_image_is_as_old_as_the_file_and_tells_where_it_is_from(
    store: Store, faulty: FaultServer
) -> None:
    url = offer(faulty)
    dated = Fault(headers={"Last-Modified": "Tue, 14 Nov 2023 22:13:20 GMT"})
    faulty.fault(dated, "GET", times=2)
    bring(store, f"{url}?token=secret")
    shown = inspect_image(store, "base").to_json()
    assert shown["Created"] == "2023-11-14T22:13:20Z"
    assert shown["Comment"] == f"imported from {url}"
    assert bring(store, f"{url}?token=other").image_id == shown["Id"]


def test_no_credentials_are_sent(
    store: Store, faulty: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = base64.b64encode(b"ann:secret").decode()
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {faulty.host: {"auth": secret}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    bring(store, offer(faulty))
    assert [set(r.headers) & {"authorization", "cookie"} for r in faulty.requests] == [set()]


@pytest.mark.parametrize("cut", ["reset_after", "truncate_after"])
def test_a_broken_connection_is_continued_where_it_stopped(
    store: Store, faulty: FaultServer, cut: str
) -> None:
    faulty.fault(Fault(**{cut: 100_000}), "GET", times=1)
    result = bring(store, offer(faulty))
    assert layer_of(store, result) == PACKED
    first, second = faulty.seen("GET")
    assert "range" not in first.headers
    assert second.headers["range"] == "bytes=100000-"


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    "second",
    [Fault(ignore_range=True), Fault(status=206, headers={"Content-Range": "bytes 5-9/99"})],
)
def test_a_file_that_cannot_be_continued_makes_no_image(
    store: Store, faulty: FaultServer, second: Fault
) -> None:
    faulty.fault(Fault(reset_after=100_000), "GET")
    faulty.fault(second, "GET")
    with pytest.raises(RemoteError, match="closed the connection|broke"):
        bring(store, offer(faulty))


@pytest.mark.usefixtures("nothing_left")
def test_without_a_mark_of_its_version_a_file_is_not_continued(
    store: Store, faulty: FaultServer
) -> None:
    faulty.fault(Fault(truncate_after=100_000, headers={"ETag": None}), "GET")
    with pytest.raises(RemoteError, match="cannot fetch http://127"):
        bring(store, offer(faulty))
    assert len(faulty.requests) == 1


def test_a_server_that_is_busy_is_asked_again(store: Store, faulty: FaultServer) -> None:
    faulty.fault(Fault(status=503, headers={"Retry-After": "0"}), "GET", times=2)
    assert layer_of(store, bring(store, offer(faulty))) == PACKED
    assert len(faulty.requests) == 3


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [(404, NotFoundError, 1), (401, AuthError, 1), (418, RemoteError, 1), (503, RemoteError, 4)],
)
def test_an_answer_that_is_no_file_is_one_sentence_with_the_address(
    store: Store,
    faulty: FaultServer,
    status: int,
    error: type[KstoreError],
    requests: int,
) -> None:
    url = offer(faulty)
    faulty.fault(Fault(status=status, body=b"<html>"), "GET", times=9)
    with pytest.raises(error) as caught:
        bring(store, f"{url}?token=secret")
    assert url in caught.value.message
    assert "secret" not in caught.value.message
    assert len(faulty.requests) == requests


@pytest.mark.usefixtures("nothing_left")
def test_a_page_in_place_of_a_tar_is_no_tar(store: Store, faulty: FaultServer) -> None:
    with pytest.raises(InvalidInputError, match="is not a tar archive"):
        bring(store, offer(faulty, b"<!doctype html>" * 100))


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_beyond_the_limit_is_not_taken(
    store: Store, faulty: FaultServer, chunked: bool
) -> None:
    faulty.fault(Fault(chunked=chunked), "GET")
    with pytest.raises(IntegrityError, match="larger than the limit of 100000 bytes") as caught:
        bring(store, offer(faulty), limit=100_000)
    assert caught.value.hint == "--max-size sets another limit"


@pytest.mark.usefixtures("nothing_left")
def test_what_follows_the_tar_counts_too(store: Store, faulty: FaultServer) -> None:
    small = gzip.compress(layer_tar({"a": b"b"})) + bytes(1_000_000)
    faulty.fault(Fault(chunked=True), "GET")
    with pytest.raises(IntegrityError, match="larger than the limit of 500000 bytes$"):
        bring(store, offer(faulty, small), limit=500_000)


@pytest.mark.usefixtures("nothing_left")
def test_a_file_that_unpacks_to_more_than_the_limit_is_given_up(
    store: Store, faulty: FaultServer
) -> None:
    bomb = lzma.compress(bytes(512) + bytes(50_000_000))
    assert len(bomb) < 100_000
    with pytest.raises(IntegrityError, match="limit of 1000000 bytes, unpacked"):
        bring(store, offer(faulty, bomb), limit=1_000_000)


@pytest.mark.usefixtures("nothing_left")
def test_a_silent_server_is_given_up(store: Store, faulty: FaultServer) -> None:
    faulty.fault(Fault(stall_after=1000), "GET", times=9)
    with pytest.raises(RemoteTimeoutError, match="was silent"):
        bring(store, offer(faulty), idle_timeout=0.3, attempts=1)


def moved(to: str) -> Fault:
    return Fault(status=302, headers={"Location": to})


def test_redirects_are_followed(store: Store, faulty: FaultServer) -> None:
    url = offer(faulty)
    faulty.fault(moved("/elsewhere"), "GET")
    faulty.fault(moved(url), "GET", "/elsewhere")
    assert layer_of(store, bring(store, url)) == PACKED


@pytest.mark.usefixtures("nothing_left")
def test_redirects_without_end_are_given_up(store: Store, faulty: FaultServer) -> None:
    faulty.fault(moved("/v2/team/app/blobs/again"), "GET", times=99)
    with pytest.raises(RemoteError, match="redirected more than 5 times"):
        bring(store, offer(faulty))
    assert len(faulty.requests) == 6


@pytest.mark.usefixtures("nothing_left")
def test_a_server_on_the_internet_cannot_send_us_inside(
    store: Store, faulty: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("is_private", "is_local"):
        monkeypatch.setattr(http_module, name, lambda address: address != "127.0.0.1")
    with FaultServer(address="127.0.0.2") as inside:
        faulty.fault(moved(offer(inside)), "GET")
        with pytest.raises(RemoteError, match="an address inside a private network"):
            bring(store, offer(faulty))
        assert inside.requests == []


def test_a_certificate_must_be_trusted(store: Store, tmp_path: Path) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    certificate, key = make_certificate(tmp_path)
    (trusted / "ca.crt").write_bytes(certificate.read_bytes())
    with FaultServer(tls=(certificate, key)) as server:
        url = offer(server)
        for careless in (True, False):
            with pytest.raises(RemoteError, match="is not trusted") as caught:
                bring(store, url, tls_verify=careless)
            assert "tls-verify" not in str(caught.value.hint)
        assert server.requests == []
        assert layer_of(store, bring(store, url, cert_dir=trusted)) == PACKED


@pytest.mark.usefixtures("nothing_left")
def test_a_redirect_that_gives_up_tls_is_not_followed(
    store: Store, faulty: FaultServer, tmp_path: Path
) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    certificate, key = make_certificate(tmp_path)
    (trusted / "ca.crt").write_bytes(certificate.read_bytes())
    with FaultServer(tls=(certificate, key)) as server:
        server.fault(moved(offer(faulty)), "GET")
        with pytest.raises(RemoteError, match="without TLS"):
            bring(store, offer(server), cert_dir=trusted)
    assert faulty.requests == []


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://ann:secret@127.0.0.1:1/x.tar", "a user name inside"),
        ("https://", "names no usable host"),
        ("http://host/a b", "characters no address may have"),
    ],
)
def test_an_address_that_is_none_shows_before_anything_is_sent(
    store: Store, url: str, sentence: str
) -> None:
    with pytest.raises(InvalidInputError, match=sentence) as caught:
        bring(store, url)
    assert "secret" not in caught.value.message


@pytest.mark.usefixtures("nothing_left")
def test_a_cancel_stops_the_download(store: Store, faulty: FaultServer) -> None:
    cancel = Cancel()
    with pytest.raises(CancelledError):
        import_tar(
            store,
            offer(faulty),
            "base",
            web=settings(),
            progress=lambda _: cancel.cancel(),
            cancel=cancel,
        )
