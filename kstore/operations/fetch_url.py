"""A file from a web server, as it arrives; nothing of it is kept here.

No credentials are sent to anybody, certificates are always verified, and a server on the internet
cannot send kstore to an address of this machine.
"""

from __future__ import annotations

import datetime as dt
import email.utils
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from kstore.errors import (
    AuthError,
    IntegrityError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    RemoteError,
)
from kstore.operations.layer_input import LayerInput, now
from kstore.registry.answers import TEMPORARY
from kstore.registry.download import strong_etag
from kstore.registry.hosts import TlsFiles, tls_files
from kstore.registry.retry import PROGRESS, Backoff, retry_after
from kstore.registry.settings import RegistrySettings, not_asked
from kstore.registry.urls import Url
from kstore.streams import Cancel

if TYPE_CHECKING:
    from kstore.registry.http import Reach
    from kstore.registry.messages import Response

__all__ = ["UrlInput"]

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({404, 410})
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class UrlInput(LayerInput):
    """The body of the answer at an http or https address, at most ``limit`` bytes.

    Raises InvalidInputError for an address that is none (or has a password in it), NotFoundError,
    AuthError, RemoteError, IntegrityError beyond the limit, CancelledError.  ``settings`` give the
    timeouts and the number of attempts; ``cert_dir`` adds authorities.
    """

    def __init__(
        self,
        text: str,
        settings: RegistrySettings | None = None,
        *,
        limit: int,
        warn: Callable[[str], None],
        cancel: Cancel,
    ) -> None:
        from kstore.registry.http import Http

        try:
            url = Url.parse(text, "the URL")
        except RemoteError as exc:
            raise InvalidInputError(exc.message) from exc
        super().__init__(str(url))
        settings = replace(settings or RegistrySettings(), tls_verify=True)
        self._settings = settings
        self._limit = limit
        self._cancel = cancel
        self._count = 0
        self._url = url
        self._backoff = Backoff(settings, cancel, warn)
        self._mark = 0
        self._http = Http(settings, lambda: _authorities(url, settings))
        try:
            self._response = self._open()
        except BaseException:
            self._http.close()
            raise
        self._validator = strong_etag(self._response)
        self._created = _modified(self._response) or now()

    @property
    def created(self) -> dt.datetime:
        """When the server says it was changed last, else when it was fetched."""
        return self._created

    def readinto(self, buffer: memoryview, /) -> int:
        while True:
            try:
                count = self._response.readinto(buffer)
                break
            except RemoteError as exc:
                self._resume(self._named(exc))
        self._count += count
        if self._count > self._limit:
            raise self._too_large()
        if self._count - self._mark >= PROGRESS:
            self._mark = self._count
            self._backoff.reset()
        return count

    def close(self) -> None:
        self._response.close()
        self._http.close()

    def _resume(self, failure: RemoteError) -> None:
        """Go on where a connection was lost, if these are sure to be the same bytes."""
        if self._validator is None or not failure.retryable:
            raise failure
        self._backoff.pause(failure)
        answer = self._open({"Range": f"bytes={self._count}-", "If-Range": self._validator})
        place = (answer.header("Content-Range") or "").strip()
        if answer.status != 206 or not place.startswith(f"bytes {self._count}-"):
            answer.close()
            raise failure
        self._response = answer

    def _open(self, headers: Mapping[str, str] = _NO_HEADERS) -> Response:
        while True:
            wait = None
            try:
                response = self._follow(headers)
                if response.status in (200, 206):
                    self._check_length(response)
                    return response
                wait = retry_after(response.header("Retry-After"))
                response.close()
                raise self._refused(response)
            except RemoteError as exc:
                named = self._named(exc)
                if not named.retryable:
                    raise named from exc
                self._backoff.pause(named, wait)

    def _follow(self, headers: Mapping[str, str]) -> Response:
        url, first = self._url, self._url.origin
        for _ in range(MAX_REDIRECTS + 1):
            trusted = url.origin == first or self._http.is_private(first)
            response = self._send(url, headers, "any" if trusted else "not-local")
            location = response.header("Location")
            if response.status not in _REDIRECTS or location is None:
                return response
            response.discard()
            following = url.join(location, f"the address {url.origin.netloc} redirected to")
            if url.origin.scheme == "https" and following.origin.scheme == "http":
                raise RemoteError(f"{url.origin.netloc} redirected to {following}, without TLS")
            url = following
        raise RemoteError(f"{first.netloc} redirected more than {MAX_REDIRECTS} times")

    def _send(self, url: Url, headers: Mapping[str, str], reach: Reach) -> Response:
        if self._settings.offline:
            raise not_asked(f"fetch {self.name}")
        usual = {"User-Agent": self._settings.user_agent, "Accept-Encoding": "identity"}
        return self._http.send(
            "GET",
            url,
            {**usual, **headers},
            None,
            cancel=self._cancel,
            patience=self._settings.response_timeout,
            allowance=self._limit,
            reach=reach,
        )

    def _refused(self, response: Response) -> KstoreError:
        host, status = response.url.origin.netloc, response.status
        if status in _GONE:
            return NotFoundError(f"{host} has nothing at {self.name}")
        if status in (401, 403):
            return AuthError(
                f"{host} does not give {self.name} to everybody",
                hint="fetch it with a program that has credentials: curl ... | kstore import -",
            )
        return RemoteError(
            f"{host} answered {status} to GET {self.name}",
            status=status,
            retryable=status in TEMPORARY or status == 500,
        )

    def _check_length(self, response: Response) -> None:
        if (response.length or 0) > self._limit:
            response.close()
            raise self._too_large()

    def _too_large(self) -> IntegrityError:
        return IntegrityError(
            f"{self.name} is larger than the limit of {self._limit} bytes",
            hint="--max-size sets another limit",
        )

    def _named(self, exc: RemoteError) -> RemoteError:
        """The error with the address in it, and without advice that is for registries."""
        if self.name in exc.message:
            return exc
        message = f"cannot fetch {self.name}: {exc.message}"
        return type(exc)(message, status=exc.status, retryable=exc.retryable)


def _authorities(url: Url, settings: RegistrySettings) -> TlsFiles:
    """Authorities alone: a client's certificate is for the registry it was made for."""
    if settings.cert_dir is None:
        return TlsFiles()
    return TlsFiles(tls_files(url.origin.netloc, settings).authorities)


def _modified(response: Response) -> dt.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(response.header("Last-Modified") or "")
        return moment.astimezone(dt.UTC)
    except (ValueError, TypeError, OverflowError):
        return None
