"""Lists over HTTP: the catalog, a repository's tags, what refers to a manifest.

Source: OCI distribution specification 1.1, "Listing Tags", "Listing Referrers"; the catalog is
from Docker's Registry HTTP API V2.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlencode

from kstore.descriptor import Descriptor
from kstore.manifest import MAX_MANIFEST_SIZE, parse
from kstore.manifest.attached import artifact_type_of
from kstore.mediatypes import OCI_INDEX
from kstore.server.exchange import Exchange, digest_of, meanings_of
from kstore.server.names import paths_of
from kstore.server.responses import Refusal, Response, json_response

__all__ = ["catalog", "referrers", "tags"]

#: Bytes of the entries of one page of referrers: clients take no more than a manifest can have.
_MAX_INDEX = MAX_MANIFEST_SIZE - 4096


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
    """An index of the manifests whose subject is ``digest``; empty where there are none.

    A page of it is no larger than a manifest may be; the next one begins after the last digest.
    """
    meanings_of(path)
    subject = digest_of(digest)
    wanted = exchange.request.query.get("artifactType")
    found = [_with_type(exchange, each) for each in exchange.store.referrers(subject)]
    filtered = {}
    if wanted is not None:
        found = [each for each in found if each.artifact_type == wanted]
        filtered = {"artifactType": wanted}
    found.sort(key=lambda each: str(each.digest))
    digests = [str(each.digest) for each in found]
    page, headers = _page(
        exchange, digests, f"/v2/{path}/referrers/{subject}", filtered, _fitting(found)
    )
    if filtered:
        headers["OCI-Filters-Applied"] = "artifactType"
    entries = {str(each.digest): each.to_json() for each in found}
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [entries[digest] for digest in page],
    }
    return json_response(index, OCI_INDEX, headers)


def _fitting(found: Sequence[Descriptor]) -> Callable[[int], int]:
    """How many entries from a position on fit into one answer; at least one."""

    def count(start: int) -> int:
        total = 0
        for number, each in enumerate(found[start:]):
            total += len(json.dumps(each.to_json())) + 1
            if total > _MAX_INDEX:
                return max(number, 1)
        return len(found)

    return count


def _with_type(exchange: Exchange, referrer: Descriptor) -> Descriptor:
    """The referrer with an artifact type: that of its config where it states none."""
    if referrer.artifact_type is not None:
        return referrer
    view = parse(exchange.store.read_manifest(referrer.digest))
    return replace(referrer, artifact_type=artifact_type_of(view))


def _page(
    exchange: Exchange,
    entries: Sequence[str],
    address: str,
    parameters: Mapping[str, str] | None = None,
    fitting: Callable[[int], int] = lambda start: sys.maxsize,
) -> tuple[Sequence[str], dict[str, str]]:
    """The entries after ``last``, at most ``n``, and the header that leads to the next ones.

    ``parameters`` belong to the address; ``fitting`` says how many entries from a position on fit.
    """
    query = exchange.request.query
    largest = exchange.service.settings.limits.page
    text = query.get("n", str(largest))
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, "PAGINATION_NUMBER_INVALID", f"n is {text!r:.40}, not a number"
        )
    count = min(int(text), largest)
    start = bisect_right(entries, query["last"]) if "last" in query else 0
    page = entries[start : start + min(count, fitting(start))]
    if not page or start + len(page) >= len(entries):
        return page, {}
    following = urlencode({**(parameters or {}), "n": count, "last": page[-1]})
    return page, {"Link": f'<{address}?{following}>; rel="next"'}
