"""Searching a registry by words: the old index protocol, which Docker Hub still speaks.

Source: docker registry v1 API, "Search" (``GET /v1/search``); the OCI specification has no search.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from kstore import strictjson
from kstore.errors import InvalidManifestError, RemoteError
from kstore.registry.exchange import Exchange, Load
from kstore.values import dataclass

__all__ = ["PAGE", "SearchHit", "search"]

#: Most results a server is asked for at once.
PAGE = 100
_MAX_BODY = 4 * 1024 * 1024
_MAX_PAGES = 20
_MAX_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A repository a server found; ``name`` is its word for it and follows no grammar yet.

    What the server does not tell is None.
    """

    name: str
    description: str | None = None
    stars: int | None = None
    official: bool | None = None
    automated: bool | None = None


def search(exchange: Exchange, term: str, count: int) -> tuple[SearchHit, ...]:
    """At most ``count`` repositories (and 2000) that the server finds for ``term``.

    Raises RemoteError, also where there is no such search; AuthError.
    """
    found: list[SearchHit] = []
    size = min(count, PAGE)
    for number in range(1, _MAX_PAGES + 1):
        query = urlencode({"q": term, "n": size, "page": number})
        hits, pages = _page(exchange, f"/v1/search?{query}")
        found += hits
        if not hits or len(found) >= count or number >= pages:
            break
    return tuple(found[:count])


def _page(exchange: Exchange, target: str) -> tuple[list[SearchHit], int]:
    """The results of one page, and how many pages there are."""
    what = f"the search at {exchange.host}"
    response = exchange.request("GET", target, load=Load(_MAX_BODY, what))
    if response.status != 200:
        raise exchange.error(exchange.refusal(response), what)
    try:
        document = strictjson.as_object(strictjson.loads(response.body, what, cap=_MAX_BODY), what)
        results = document.get("results")
        if results is None:
            results = []
        if not isinstance(results, list):
            raise RemoteError(f"{what} answered without a list of results")
        hits = [_hit(strictjson.as_object(result, what), what) for result in results[: 2 * PAGE]]
    except InvalidManifestError as exc:
        raise RemoteError(exc.message) from exc
    pages = document.get("num_pages")
    return hits, pages if isinstance(pages, int) else 1


def _hit(result: dict[str, Any], what: str) -> SearchHit:
    name, description = result.get("name"), result.get("description")
    stars = result.get("star_count")
    if not isinstance(name, str) or not name:
        raise RemoteError(f"{what} answered with a result without a name")
    return SearchHit(
        name=name[:_MAX_TEXT],
        description=description[:_MAX_TEXT] if isinstance(description, str) else None,
        stars=stars if isinstance(stars, int) and not isinstance(stars, bool) else None,
        official=_flag(result.get("is_official")),
        automated=_flag(result.get("is_automated")),
    )


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
