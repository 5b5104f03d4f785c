"""Answers: how they are made, and how they are sent.

Source: OCI distribution specification 1.1, "Error Codes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field
from email.utils import formatdate
from http import HTTPStatus
from typing import BinaryIO

from kstore.server.wire import Disconnected, Wire
from kstore.values import dataclass

__all__ = ["FilePart", "Refusal", "Response", "bad_request", "json_response", "send_response"]


class Refusal(Exception):
    """The request ends here, with an error body in the specification's JSON."""

    def __init__(
        self,
        status: HTTPStatus,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        detail: object = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.response = _error_response(status, code, message, headers or {}, detail)


@dataclass(frozen=True, slots=True)
class FilePart:
    """``size`` bytes of an open file, from ``offset``; closed when they have been sent."""

    file: BinaryIO
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; Content-Length is that of ``body`` unless ``headers`` (for HEAD) say otherwise."""

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FilePart = b""
    error: str | None = None


def bad_request(message: str) -> Refusal:
    """The refusal of a request that does not follow HTTP."""
    return Refusal(HTTPStatus.BAD_REQUEST, "UNSUPPORTED", message)


def send_response(wire: Wire, response: Response, *, head_only: bool, close: bool) -> int:
    """Send an answer and close its file; the number of body bytes sent."""
    body = response.body
    try:
        size = body.size if isinstance(body, FilePart) else len(body)
        with_body = not head_only and size > 0
        head = _head(response, size, close=close)
        if isinstance(body, FilePart):
            wire.send(head, more=with_body)
            if with_body:
                _send_file(wire, body)
        else:
            wire.send(head + body if with_body else head)
        return size if with_body else 0
    finally:
        if isinstance(body, FilePart):
            body.file.close()


def _send_file(wire: Wire, part: FilePart) -> None:
    try:
        wire.send_file(part.file.fileno(), part.offset, part.size)
    except OSError as exc:  # the head is out: breaking off is the only honest answer left
        raise Disconnected(f"the blob cannot be read: {exc.strerror}") from exc


def _head(response: Response, size: int, *, close: bool) -> bytes:
    headers = {
        "Date": formatdate(usegmt=True),
        "Docker-Distribution-Api-Version": "registry/2.0",
        "X-Content-Type-Options": "nosniff",
        **response.headers,
    }
    if response.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        headers.setdefault("Content-Length", str(size))
    if close:
        headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def json_response(value: object, media_type: str, headers: Mapping[str, str]) -> Response:
    """``value`` as a JSON body of ``media_type``."""
    return Response(
        HTTPStatus.OK, {"Content-Type": media_type, **headers}, json.dumps(value).encode()
    )


def _error_response(
    status: HTTPStatus, code: str, message: str, headers: Mapping[str, str], detail: object
) -> Response:
    error: dict[str, object] = {"code": code, "message": message}
    if detail is not None:
        error["detail"] = detail
    return Response(
        status,
        {"Content-Type": "application/json", **headers},
        json.dumps({"errors": [error]}).encode(),
        error=message,
    )
