"""HTTP/1.1 as a registry needs it: request heads, read within limits.

Parsing is strict where leniency lets two parties disagree on where a request ends.

Sources: RFC 9110 and RFC 9112.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_to_bytes

from kstore.server.body import Body
from kstore.server.responses import Refusal, bad_request
from kstore.server.wire import Wire
from kstore.values import dataclass

__all__ = ["Request", "read_request"]

MAX_REQUEST_LINE = 8 * 1024
MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024
MAX_QUERY_FIELDS = 20

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_ONCE = frozenset({"host", "content-length", "content-range", "range", "authorization"})


@dataclass(frozen=True, slots=True)
class Request:
    """One parsed request; header names are lower case, the path is decoded."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    keep_alive: bool


def read_request(wire: Wire) -> Request:
    """Read the head of the next request.

    Raises Refusal for anything malformed or too large: after it the connection must be closed.
    """
    line = wire.readline(MAX_REQUEST_LINE)
    if line in (b"\r\n", b"\n"):  # RFC 9112 2.2: one empty line before a request is tolerated
        line = wire.readline(MAX_REQUEST_LINE)
    if not line.endswith(b"\n"):
        raise _refuse(HTTPStatus.REQUEST_URI_TOO_LONG, "the request line is too long")
    parts = line.decode("latin-1").rstrip("\r\n").split(" ")
    if len(parts) != 3 or _TOKEN.fullmatch(parts[0]) is None or not parts[1].startswith("/"):
        raise bad_request("the request line is not METHOD /path HTTP/1.1")
    method, target, version = parts
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        raise _refuse(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "only HTTP/1.1 is spoken here")
    headers = _read_headers(wire)
    modern = version == "HTTP/1.1"
    if modern and "host" not in headers:
        raise bad_request("the request has no Host header")
    path, _, query = target.partition("?")
    options = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    return Request(
        method=method,
        path=_decode(path),
        query=_parse_query(query),
        headers=headers,
        body=_body(wire, headers, modern=modern),
        keep_alive="close" not in options and (modern or "keep-alive" in options),
    )


def _read_headers(wire: Wire) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    left = MAX_HEADER_BYTES
    for _ in range(MAX_HEADERS + 1):
        line = wire.readline(left)
        left -= len(line)
        if not line.endswith(b"\n") or left <= 0:
            break
        text = line.decode("latin-1").rstrip("\r\n")
        if not text:
            return headers
        name, colon, value = text.partition(":")
        if not colon or _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise bad_request("a header line is not 'Name: value'")
        name, value = name.lower(), value.strip(" \t")
        if name in headers and name in _ONCE:
            raise bad_request(f"the header {name} is there twice")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    raise _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request's headers are too large")


def _body(wire: Wire, headers: Mapping[str, str], *, modern: bool) -> Body:
    expects = modern and headers.get("expect", "").lower() == "100-continue"
    length = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if length is not None and coding is not None:
        raise bad_request("the request has both Content-Length and Transfer-Encoding")
    if coding is not None:
        if coding.lower() != "chunked" or not modern:
            raise _refuse(HTTPStatus.NOT_IMPLEMENTED, f"transfer coding {coding!r:.40} is unknown")
        return Body(wire, None, chunked=True, expects=expects)
    if length is not None and _NUMBER.fullmatch(length) is None:
        raise bad_request("Content-Length is not a number")
    return Body(wire, int(length or 0), chunked=False, expects=expects)


def _decode(path: str) -> str:
    try:
        text = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise bad_request("the path is not UTF-8") from exc
    if not text.isprintable():
        raise bad_request("the path contains control characters")
    return text


def _parse_query(text: str) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(
            text, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS, errors="strict"
        )
    except ValueError as exc:
        raise bad_request("the query is malformed") from exc
    if len(dict(pairs)) != len(pairs):
        raise bad_request("the query has a parameter twice")
    return dict(pairs)


def _refuse(status: HTTPStatus, message: str) -> Refusal:
    return Refusal(status, "UNSUPPORTED", message)
