"""Searching registries: their catalogs, and their old search."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kstore.errors import AuthError, InvalidInputError, RemoteError
from kstore.operations import search
from kstore.operations.search import search_images
from kstore.registry import RegistryClient, RegistrySettings
from kstore.registry.registriesconf import Peer
from kstore.transports import Transports

Answer = Callable[[str, dict[str, list[str]]], tuple[int, Any]]

HITS = [
    {"name": "python", "description": "Snakes\n in a box", "star_count": 900, "is_official": True},
    {"name": "ann/python", "star_count": 3, "is_official": False, "is_automated": True},
    {"name": "bob/python"},
]


class Registry:
    """A server that answers with what ``answer`` makes of path and query, as JSON."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Answer = lambda path, query: (404, {})
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                if parts.path != "/v2/":
                    registry.asked.append(self.path)
                status, body = registry.answer(parts.path, parse_qs(parts.query))
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Standard error is not for this."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


def catalog(*names: str) -> Answer:
    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        return (200, {"repositories": names}) if path == "/v2/_catalog" else (404, {})

    return answer


def v1(*hits: Any, catalog_status: int = 404) -> Answer:
    """Results of which a page holds two."""

    def answer(path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        if path != "/v1/search":
            return catalog_status, {}
        number = int(query["page"][0])
        return 200, {
            "num_pages": (len(hits) + 1) // 2,
            "results": hits[2 * number - 2 : 2 * number],
        }

    return answer


def names(transports: Transports, *args: Any, **options: Any) -> list[str]:
    return [found.name for found in search_images(transports, *args, **options)]


def test_names_of_a_catalog_have_the_term_somewhere(
    transports: Transports, registry: Registry
) -> None:
    registry.answer = catalog("app", "team/app", "team/other", "Not A Name")
    assert names(transports, f"{registry.host}/APP") == [
        f"{registry.host}/app",
        f"{registry.host}/team/app",
    ]
    assert names(transports, "other", registry=registry.host) == [f"{registry.host}/team/other"]


def test_a_registry_alone_lists_its_catalog_up_to_the_limit(
    transports: Transports, registry: Registry
) -> None:
    registry.answer = catalog("a", "b", "c")
    assert names(transports, f"{registry.host}/", limit=2) == [
        f"{registry.host}/a",
        f"{registry.host}/b",
    ]


def test_a_catalog_of_any_length_is_looked_through_to_a_limit(
    transports: Transports, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_CATALOG", 2)
    registry.answer = catalog("a", "b", "c")
    warnings: list[str] = []
    assert len(names(transports, f"{registry.host}/", warn=warnings.append)) == 2
    assert "only the first 2" in warnings[0]


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_without_a_catalog_the_registry_searches_itself(
    transports: Transports, registry: Registry, status: int
) -> None:
    registry.answer = v1(*HITS, catalog_status=status)
    found = search_images(transports, f"{registry.host}/python")
    assert [each.to_json() for each in found[:1]] == [
        {
            "Index": registry.host,
            "Name": f"{registry.host}/python",
            "Description": "Snakes\n in a box",
            "Stars": 900,
            "Official": True,
            "Automated": None,
        }
    ]
    assert [each.stars for each in found] == [900, 3, None]
    assert registry.asked[-1] == "/v1/search?q=python&n=25&page=2"


def test_filters_hold_before_the_limit_counts(transports: Transports, registry: Registry) -> None:
    registry.answer = v1(*HITS)

    def found(*filters: str) -> list[str]:
        text = f"{registry.host}/python"
        hits = names(transports, text, limit=1, filters=filters)
        return [name.removeprefix(f"{registry.host}/") for name in hits]

    assert found("is-official=false") == ["ann/python"]
    assert found("is-official") == ["python"]
    assert found("is-automated=true") == ["ann/python"]
    assert found("stars=3", "is-official=false") == ["ann/python"]
    assert found("stars=901") == []


def test_docker_hub_is_asked_where_it_searches(registry: Registry) -> None:
    registry.answer = v1(*HITS)
    asked: list[str] = []

    def connect(peer: Peer) -> RegistryClient:
        asked.append(peer.host)
        return RegistryClient(registry.host, RegistrySettings(tls_verify=False))

    from kstore.streams import Cancel
    from kstore.transports import TransportSettings

    def no_store() -> Any:
        raise AssertionError("a search needs no store")

    with Transports(TransportSettings(no_store, connect, Cancel())) as transports:
        assert names(transports, "python", limit=2) == [
            "docker.io/library/python",
            "docker.io/ann/python",
        ]
    assert asked == ["index.docker.io"]


@pytest.mark.parametrize(
    "body",
    [b"no json", [], {"results": {}}, {"results": [1]}, {"results": [{"name": 1}]}],
    ids=["bytes", "list", "object", "number", "name"],
)
def test_an_answer_that_makes_no_sense_is_the_registrys_fault(
    transports: Transports, registry: Registry, body: Any
) -> None:
    registry.answer = lambda path, query: (200, body) if path == "/v1/search" else (404, {})
    with pytest.raises(RemoteError):
        search_images(transports, f"{registry.host}/x")


def test_a_registry_that_refuses_both_says_why_it_refused_the_catalog(
    transports: Transports, registry: Registry
) -> None:
    registry.answer = lambda path, query: (401, {})
    with pytest.raises(AuthError, match="catalog"):
        search_images(transports, f"{registry.host}/x")


def test_a_registry_that_is_not_there_is_an_error(transports: Transports) -> None:
    with pytest.raises(RemoteError):
        search_images(transports, "127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("a\nb", {}),
        ("x" * 300, {}),
        ("x", {"limit": 0}),
        ("x", {"limit": 10_000}),
        ("x", {"filters": ["nope=1"]}),
        ("x", {"filters": ["stars=many"]}),
        ("x", {"filters": ["is-official=maybe"]}),
        ("x", {"registry": "not a host"}),
    ],
)
def test_what_cannot_be_searched_for_is_refused_at_once(
    transports: Transports, text: str, options: Any
) -> None:
    with pytest.raises(InvalidInputError):
        search_images(transports, text, **options)
