"""Blobs over HTTP: whole, in part, or only whether they are there.

Any blob of the store is served under any repository path: the registry is made for one user, and
whoever may use it may read all of the store.

Source: OCI distribution specification 1.1, "Pulling Blobs"; RFC 9110 section 14 for ranges.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from http import HTTPStatus

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, StoreDamagedError
from kstore.mediatypes import OCTET_STREAM
from kstore.server.exchange import Exchange, digest_of, meanings_of
from kstore.server.responses import FilePart, Refusal, Response

__all__ = ["delete_blob", "get_blob", "head_blob"]

_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18}))", re.ASCII)


def get_blob(exchange: Exchange, path: str, digest: str) -> Response:
    """The blob, or the one range of it that was asked for."""
    meanings_of(path)
    wanted = digest_of(digest)
    headers = exchange.request.headers
    if headers.get("if-none-match") == _etag(wanted):
        return Response(HTTPStatus.NOT_MODIFIED, {"ETag": _etag(wanted)})
    known = exchange.store.blob(wanted)
    if known is None:
        raise _blob_unknown(wanted)
    try:
        file = exchange.store.open_blob(wanted)
    except BlobNotFoundError as exc:
        raise _blob_unknown(wanted) from exc
    try:
        size = os.fstat(file.fileno()).st_size
        if size != known:
            raise StoreDamagedError(f"the file of blob {wanted} has {size} bytes, not {known}")
        first, last = _range(headers, wanted, size)
    except BaseException:
        file.close()
        raise
    partial = (first, last) != (0, size)
    facts = _blob_headers(wanted)
    if partial:
        facts["Content-Range"] = f"bytes {first}-{last - 1}/{size}"
    status = HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK
    return Response(status, facts, FilePart(file, first, last - first))


def head_blob(exchange: Exchange, path: str, digest: str) -> Response:
    """Whether the blob is there.

    A client that gets "yes" will not upload it, so from now on the server's lease holds it; and a
    blob whose file is damaged or gone counts as absent, so that the upload heals it.
    """
    meanings_of(path)
    wanted = digest_of(digest)
    size = exchange.store.blob(wanted)
    if size is not None and exchange.service.lease_id is not None:
        with exchange.lease() as lease:
            if wanted not in lease.adopt([(wanted, size)]):
                size = None
    if size is None:
        raise _blob_unknown(wanted)
    return Response(HTTPStatus.OK, {**_blob_headers(wanted), "Content-Length": str(size)})


def delete_blob(exchange: Exchange, path: str, digest: str) -> Response:
    """Not offered: blobs go when no manifest needs them any more."""
    raise Refusal(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "UNSUPPORTED",
        "blobs are not deleted one by one: delete their manifests, then run kstore prune",
        headers={"Allow": "GET, HEAD"},
    )


def _range(headers: Mapping[str, str], digest: Digest, size: int) -> tuple[int, int]:
    """First byte, and the one after the last; everything where no single range is asked for."""
    match = _RANGE.fullmatch(headers.get("range", "").replace(" ", ""))
    if match is None or headers.get("if-range", _etag(digest)) != _etag(digest):
        return 0, size
    start, end, tail = match.groups()
    first = max(size - int(tail), 0) if tail is not None else int(start)
    last = min(int(end) + 1, size) if end is not None else size
    if end is not None and int(end) < first:
        return 0, size  # RFC 9110 14.1.2: an invalid range is ignored
    if first >= size:
        raise Refusal(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            "SIZE_INVALID",
            f"blob {digest} has only {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


def _blob_headers(digest: Digest) -> dict[str, str]:
    return {
        "Content-Type": OCTET_STREAM,
        "Docker-Content-Digest": str(digest),
        "ETag": _etag(digest),
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=31536000, immutable",
    }


def _etag(digest: Digest) -> str:
    return f'"{digest}"'


def _blob_unknown(digest: Digest) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"there is no blob {digest}")
