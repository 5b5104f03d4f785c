"""Addresses, checked before anything is sent to them."""

from __future__ import annotations

import re
from urllib.parse import quote, urlencode, urljoin, urlsplit

from kstore.errors import RemoteError
from kstore.values import dataclass

__all__ = ["Origin", "Url"]

_PORTS = {"http": 80, "https": 443}
_MAX_LENGTH = 16 * 1024  # signed storage addresses reach 4 KiB
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[A-Za-z0-9._:-]+\Z", re.ASCII)
# What may stand in a request target as it is, "%" included: it is not ours to encode twice.
_KEEP = "/?&=%:@!$'()*+,;~-._[]|"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection leads: credentials given to one origin are never shown to another."""

    scheme: str
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """``host[:port]``, the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address; its text form omits the query, which may hold secrets."""

    origin: Origin
    target: str

    @classmethod
    def parse(cls, text: str, source: str) -> Url:
        """Parse an absolute address that came from ``source`` (used in errors).

        Raises RemoteError unless it is http or https, with a host, without user and password.
        """
        if len(text) > _MAX_LENGTH:
            raise RemoteError(f"{source} is {len(text)} characters long")
        if _UNSAFE.search(text):
            raise RemoteError(f"{source} contains characters no address may have")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as exc:
            raise RemoteError(f"{source} is not an address") from exc
        if parts.scheme not in _PORTS:
            raise RemoteError(f"{source} has the scheme {parts.scheme[:20]!r}, not http or https")
        if not host or _HOST.match(host) is None:
            raise RemoteError(f"{source} names no usable host")
        if parts.username is not None or parts.password is not None:
            raise RemoteError(f"{source} has a user name inside, which is refused")
        target = quote(parts.path or "/", safe=_KEEP)
        if parts.query:
            target += "?" + quote(parts.query, safe=_KEEP)
        return cls(Origin(parts.scheme, host, port or _PORTS[parts.scheme]), target)

    def join(self, location: str, source: str) -> Url:
        """The address ``location`` means here; it may be relative.  Raises RemoteError."""
        if len(location) > _MAX_LENGTH or _UNSAFE.search(location):
            raise RemoteError(f"{source} is too long or contains characters no address may have")
        try:
            absolute = urljoin(f"{self.origin}{self.target}", location)
        except ValueError as exc:
            raise RemoteError(f"{source} is not an address") from exc
        return Url.parse(absolute, source)

    def with_query(self, pairs: list[tuple[str, str]]) -> Url:
        """This address with ``pairs`` added to its query."""
        if not pairs:
            return self
        mark = "&" if "?" in self.target else "?"
        return Url(self.origin, f"{self.target}{mark}{urlencode(pairs)}")

    def __str__(self) -> str:
        return f"{self.origin}{self.target.partition('?')[0]}"
