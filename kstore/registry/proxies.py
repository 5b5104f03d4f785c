"""Ways out of a network: which requests go through which proxy.

Source: what curl, Go and Python make of ``http_proxy``, ``https_proxy`` and ``no_proxy``; RFC 9110
sections 9.3.6 (CONNECT) and 11.7 (Proxy-Authorization); for SOCKS, see ``socks``.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import field
from typing import Literal, Self
from urllib.parse import unquote, urlsplit

from kstore.errors import InvalidInputError
from kstore.registry.hosts import is_address, is_local
from kstore.registry.urls import Origin
from kstore.values import dataclass

__all__ = ["Proxies", "Proxy"]

#: Either is asked for hosts by their names, as curl and Go ask the second.
_SOCKS = ("socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is spoken to by plain HTTP, or by SOCKS 5.

    Who asks: to the first, ``authorization`` tells it; to the second, the user name and password of
    ``login``.
    """

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    kind: Literal["http", "socks"] = "http"
    login: tuple[str, str] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"proxy {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy for each scheme, and the hosts that are reached without one."""

    http: Proxy | None = None
    https: Proxy | None = None
    without: tuple[str, ...] = ()

    @classmethod
    def parse(cls, variables: Mapping[str, str]) -> Self:
        """From the variables of the environment, by their lower-case names.

        Raises InvalidInputError for an address that is none; it may hold a password, and is not
        shown.
        """
        without = (part.strip().lower() for part in variables.get("no_proxy", "").split(","))
        return cls(
            _parse(variables, "http_proxy"),
            _parse(variables, "https_proxy"),
            tuple(part for part in without if part),
        )

    def for_origin(self, origin: Origin) -> Proxy | None:
        """The proxy on the way to ``origin``; None where it is reached directly.

        This machine is always reached directly.
        """
        proxy = self.https if origin.scheme == "https" else self.http
        host = origin.host.lower()
        if proxy is None or host == "localhost" or (is_address(host) and is_local(host)):
            return None
        return None if any(_matches(rule, host, origin.port) for rule in self.without) else proxy


def _matches(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        try:
            network = ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
        return is_address(host) and ipaddress.ip_address(host.partition("%")[0]) in network
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdigit() and (":" not in name or name.endswith("]")):
        if int(wanted[:6]) != port:
            return False
        rule = name
    rule = rule.strip("[]").removeprefix("*").removeprefix(".")
    return host == rule or (not is_address(host) and host.endswith(f".{rule}"))


def _parse(variables: Mapping[str, str], name: str) -> Proxy | None:
    text = variables.get(name)
    if not text:
        return None
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit("http:"), None, None
    if parts.scheme not in ("http", *_SOCKS):
        raise InvalidInputError(
            f"{name} names a proxy of the kind {parts.scheme[:20]!r}; kstore speaks http or socks5"
            " to proxies"
        )
    if not host:
        raise InvalidInputError(f"{name} holds no address of a proxy (http://HOST:PORT)")
    login = None
    if parts.username is not None:
        login = unquote(parts.username), unquote(parts.password or "")
    if parts.scheme in _SOCKS:
        if login is not None and max(len(part.encode()) for part in login) > 255:
            raise InvalidInputError(f"{name} holds a user name or password that is too long")
        return Proxy(host, port or 1080, kind="socks", login=login)
    authorization = None
    if login is not None:
        pair = ":".join(login).encode()
        authorization = "Basic " + base64.b64encode(pair).decode("ascii")
    return Proxy(host, port or 80, authorization)
