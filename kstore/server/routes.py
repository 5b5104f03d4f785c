"""From a path and a method to the function that answers.

Repository names contain slashes, so paths are matched from their end.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus

from kstore.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    StorageFullError,
    UnsupportedError,
)
from kstore.server import blobs, listings, manifests, uploads
from kstore.server.exchange import Exchange
from kstore.server.responses import Refusal, Response

__all__ = ["answer"]

_Handler = Callable[..., Response]


def _version(exchange: Exchange) -> Response:
    return Response(HTTPStatus.OK, {"Content-Type": "application/json"}, b"{}")


_ROUTES: tuple[tuple[re.Pattern[str], dict[str, _Handler]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), handlers)
    for pattern, handlers in (
        (r"/v2/?", {"GET": _version, "HEAD": _version}),
        (r"/v2/_catalog", {"GET": listings.catalog, "HEAD": listings.catalog}),
        (r"/v2/(?P<path>.+)/tags/list", {"GET": listings.tags, "HEAD": listings.tags}),
        (
            r"/v2/(?P<path>.+)/manifests/(?P<reference>[^/]+)",
            {
                "GET": manifests.get_manifest,
                "HEAD": manifests.head_manifest,
                "PUT": manifests.put_manifest,
                "DELETE": manifests.delete_manifest,
            },
        ),
        (r"/v2/(?P<path>.+)/blobs/uploads/?", {"POST": uploads.start_upload}),
        (
            r"/v2/(?P<path>.+)/blobs/uploads/(?P<upload_id>[^/]+)",
            {
                "GET": uploads.upload_status,
                "HEAD": uploads.upload_status,
                "PATCH": uploads.append_upload,
                "PUT": uploads.finish_upload,
                "DELETE": uploads.cancel_upload,
            },
        ),
        (
            r"/v2/(?P<path>.+)/blobs/(?P<digest>[^/]+)",
            {"GET": blobs.get_blob, "HEAD": blobs.head_blob, "DELETE": blobs.delete_blob},
        ),
        (
            r"/v2/(?P<path>.+)/referrers/(?P<digest>[^/]+)",
            {"GET": listings.referrers, "HEAD": listings.referrers},
        ),
    )
)
_READS = frozenset({"GET", "HEAD"})
_ERRORS: tuple[tuple[type[KstoreError], HTTPStatus, str], ...] = (
    (NotFoundError, HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN"),
    (ConflictError, HTTPStatus.CONFLICT, "DENIED"),
    (IntegrityError, HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID"),
    (InvalidInputError, HTTPStatus.BAD_REQUEST, "NAME_INVALID"),
    (UnsupportedError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED"),
)


def answer(exchange: Exchange) -> Response:
    """Handle one request; everything that can be said to the client becomes a Response.

    Raises wire.Disconnected when there is nobody to say it to.
    """
    try:
        handler, parts = _find(exchange)
        return handler(exchange, **parts)
    except Refusal as refusal:
        return refusal.response
    except KstoreError as exc:
        return _response_of(exc)


def _find(exchange: Exchange) -> tuple[_Handler, dict[str, str]]:
    request = exchange.request
    for pattern, handlers in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match is None:
            continue
        handler = handlers.get(request.method)
        if handler is None:
            allowed = ", ".join(handlers)
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                f"the method {request.method!r:.20} is not allowed here",
                headers={"Allow": allowed},
            )
        if exchange.service.settings.read_only and request.method not in _READS:
            raise Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "UNSUPPORTED",
                "this registry is read-only",
                headers={"Allow": ", ".join(sorted(_READS & handlers.keys()))},
            )
        return handler, match.groupdict()
    raise Refusal(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "there is nothing here; try /v2/")


def _response_of(exc: KstoreError) -> Response:
    """What a client is told of an error no handler had its own words for."""
    for kind, status, code in _ERRORS:
        if isinstance(exc, kind):
            return Refusal(status, code, exc.message).response
    # Troubles of the store name files of this machine: they are for the log, not for clients.
    full = isinstance(exc, StorageFullError)
    status = HTTPStatus.INSUFFICIENT_STORAGE if full else HTTPStatus.INTERNAL_SERVER_ERROR
    message = "the disk is full" if full else "the store cannot answer; the server's log says why"
    return replace(Refusal(status, "UNKNOWN", message).response, error=exc.message)
