"""Lists over HTTP: the catalog, a repository's tags, what refers to a manifest.

Source: OCI distribution specification 1.1, "Listing Tags", "Listing Referrers"; the catalog is
from Docker's Registry HTTP API V2.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlencode

from kstore.descriptor import Descriptor
from kstore.manifest import parse_image
from kstore.mediatypes import INDEXES, OCI_INDEX
from kstore.server.exchange import Exchange, digest_of, meanings_of
from kstore.server.names import paths_of
from kstore.server.responses import Refusal, Response, json_response

__all__ = ["catalog", "referrers", "tags"]


def catalog(exchange: Exchange) -> Response:
    """A path for every repository of the store."""
    page, headers = _page(exchange, paths_of(exchange.store.repositories()), "/v2/_catalog")
    return json_response({"repositories": page}, "application/json", headers)


def tags(exchange: Exchange, path: str) -> Response:
    """All tags that can be pulled under a path, whatever repository they belong to."""
    repositories = meanings_of(path)
    found = [
        record.name for each in repositories for record in exchange.store.names(each.repository)
    ]
    if not found:
        raise Refusal(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", f"there is no repository {path!r:.140}")
    names = sorted({name.tag for name in found if name.tag is not None})
    page, headers = _page(exchange, names, f"/v2/{path}/tags/list")
    return json_response({"name": path, "tags": page}, "application/json", headers)


def referrers(exchange: Exchange, path: str, digest: str) -> Response:
    """An index of the manifests whose subject is ``digest``; empty where there are none."""
    meanings_of(path)
    subject = digest_of(digest)
    wanted = exchange.request.query.get("artifactType")
    found = [_with_type(exchange, each) for each in exchange.store.referrers(subject)]
    headers = {}
    if wanted is not None:
        found = [each for each in found if each.artifact_type == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [each.to_json() for each in found],
    }
    return json_response(index, OCI_INDEX, headers)


def _with_type(exchange: Exchange, referrer: Descriptor) -> Descriptor:
    """The referrer with an artifact type: that of its config where it states none."""
    if referrer.artifact_type is not None or referrer.media_type in INDEXES:
        return referrer
    config = parse_image(exchange.store.read_manifest(referrer.digest)).config
    return replace(referrer, artifact_type=config.media_type)


def _page(
    exchange: Exchange, entries: Sequence[str], address: str
) -> tuple[Sequence[str], dict[str, str]]:
    """The entries after ``last``, at most ``n``, and the header that leads to the next ones."""
    query = exchange.request.query
    largest = exchange.service.settings.limits.page
    text = query.get("n", str(largest))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", f"n is {text!r:.40}, not a number"
        )
    count = min(int(text), largest)
    start = bisect_right(entries, query["last"]) if "last" in query else 0
    page = entries[start : start + count]
    if not page or start + count >= len(entries):
        return page, {}
    following = urlencode({"n": count, "last": page[-1]})
    return page, {"Link": f'<{address}?{following}>; rel="next"'}
