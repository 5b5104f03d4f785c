"""Lists that come in pages: tags, repositories, referrers.

Source: OCI distribution specification 1.1, "Listing Tags", "Listing Referrers"; RFC 8288 (Link).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from kstore import strictjson
from kstore.errors import InvalidManifestError, NotFoundError, RemoteError
from kstore.registry.exchange import Exchange, Load
from kstore.registry.urls import Url

__all__ = ["listing"]

MAX_PAGE = 4 * 1024 * 1024
MAX_PAGES = 10_000
MAX_ITEMS = 1_000_000
_NEXT = re.compile(r'<([^<>]*)>\s*(?:;[^,<>]*)?;\s*rel\s*=\s*"?next"?(?=\s*[;,]|\s*\Z)', re.I)
_SHOWN = 40

T = TypeVar("T")


def listing(
    exchange: Exchange,
    target: str,
    key: str,
    what: str,
    *,
    path: str,
    scopes: tuple[str, ...],
    read: Callable[[object], T | None],
    missing: str | None = None,
) -> Iterator[T]:
    """The entries under ``key`` of all pages that start at ``target``; ``what`` names the list,
    ``missing`` says what it means that there is none.

    Those that ``read`` answers with None are left out with a warning.  Raises NotFoundError,
    RemoteError for pages that leave the registry, repeat, or never end.
    """
    url, seen, count = exchange.url(target), set[Url](), 0
    while True:
        seen.add(url)
        if len(seen) > MAX_PAGES:
            raise RemoteError(f"{what} has more than {MAX_PAGES} pages")
        absent = missing or f"{what} does not exist"
        values, link = _page(exchange, url, key, what, absent, path=path, scopes=scopes)
        count += len(values)
        if count > MAX_ITEMS:
            raise RemoteError(f"{what} has more than {MAX_ITEMS} entries")
        for value in values:
            entry = read(value)
            if entry is not None:
                yield entry
            else:
                exchange.warn(f"{what} contains the invalid entry {ascii(value)[:_SHOWN]}")
        if link is None:
            return
        url = exchange.next_url(url, link)
        if url.origin != exchange.origin():
            raise RemoteError(f"{what} continues on another host, {url.origin.netloc}")
        if url in seen:
            raise RemoteError(f"{what} repeats a page and would never end")


def _page(
    exchange: Exchange,
    url: Url,
    key: str,
    what: str,
    absent: str,
    *,
    path: str,
    scopes: tuple[str, ...],
) -> tuple[list[object], str | None]:
    response = exchange.request("GET", url, path=path, scopes=scopes, load=Load(MAX_PAGE, what))
    if response.status != 200:
        refusal = exchange.refusal(response)
        if refusal.status == 404 and refusal.own:
            raise NotFoundError(absent)
        raise exchange.error(refusal, what, path)
    link = _next_link(response.headers("Link"))
    try:
        body = strictjson.loads(response.body, what, cap=MAX_PAGE)
        values = strictjson.as_object(body, what).get(key)
    except InvalidManifestError as exc:
        raise RemoteError(exc.message) from exc
    if values is None:
        return [], link
    if not isinstance(values, list):
        raise RemoteError(f"{what} is not a list")
    return values, link


def _next_link(headers: list[str]) -> str | None:
    for header in headers:
        match = _NEXT.search(header[: 16 * 1024])
        if match is not None:
            return match[1]
    return None
