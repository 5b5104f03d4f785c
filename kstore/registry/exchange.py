"""Requests to one registry: its address, authentication, redirects and retries.

Whatever goes wrong on the way is decided here once, so that manifests, blobs and tags need not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import field, replace
from typing import TYPE_CHECKING

from kstore.errors import KstoreError, RemoteError
from kstore.registry.answers import TEMPORARY, Refusal
from kstore.registry.auth import MAX_TOKEN_BODY, Authenticator, TokenRequest
from kstore.registry.credentials import CredentialLookup
from kstore.registry.hosts import registry_origin, tls_files
from kstore.registry.retry import Backoff
from kstore.registry.settings import RegistrySettings, not_asked
from kstore.registry.urls import Origin, Url
from kstore.streams import Cancel
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry.http import Http, Reach
    from kstore.registry.messages import Payload, Response

__all__ = ["SMALL_BODY", "Exchange", "Load"]

MAX_REDIRECTS = 5
#: Allowance, in bytes, for answers whose body does not matter.
SMALL_BODY = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_FAREWELL_PATIENCE = 3.0
_TLS_GREETING = 5.0  # seconds a server has to answer it where plain HTTP would do as well
_SIGNATURES = "X-Registry-Supports-Signatures"


@dataclass(frozen=True, slots=True)
class Load:
    """A body to read whole: at most ``cap`` bytes; ``what`` names it in errors."""

    cap: int
    what: str


@dataclass(frozen=True, slots=True)
class _Hop:
    """What stays the same while a request is repeated and redirected."""

    method: str
    headers: dict[str, str]
    authorization: str | None = field(repr=False)
    payload: Payload | None
    patience: float
    allowance: int
    reach: Reach
    load: Load | None = None
    connect: float | None = None


class Exchange:
    """A registry, as seen by the requests to it.  Thread-safe.

    ``origin`` is where it is, if that is not to be found out.  ``keeps_signatures``: an answer said
    that it has the API for signatures.
    """

    def __init__(
        self,
        host: str,
        settings: RegistrySettings,
        credentials: CredentialLookup | None,
        cancel: Cancel,
        warn: Callable[[str], None],
        *,
        origin: Origin | None = None,
    ) -> None:
        self.host = host
        self.settings = settings
        self.cancel = cancel
        self.warn = warn
        self._lock = threading.RLock()
        self._http: Http | None = None
        self._origin = origin
        self.keeps_signatures = False
        self._auth = Authenticator(
            host, credentials, self._fetch_token, allow_http=not settings.tls_verify, cancel=cancel
        )

    def backoff(self) -> Backoff:
        """A fresh count of attempts."""
        return Backoff(self.settings, self.cancel, self.warn)

    def origin(self) -> Origin:
        """Where the registry is; finds out first whether it speaks TLS, if it need not."""
        with self._lock:
            if self._origin is None:
                self._origin = self._find_origin()
            return self._origin

    def url(self, target: str) -> Url:
        """The address of ``target`` (a path, perhaps with a query) at the registry."""
        return Url(self.origin(), target)

    def request(
        self,
        method: str,
        url: str | Url,
        *,
        path: str = "",
        scopes: tuple[str, ...] = (),
        headers: dict[str, str] | None = None,
        payload: Payload | None = None,
        retry: bool = True,
        patience: float | None = None,
        allowance: int = SMALL_BODY,
        load: Load | None = None,
    ) -> Response:
        """Send a request and return the answer, whatever its status, after what can be done.

        ``path`` is the repository (it selects the credentials), ``scopes`` what a token must
        allow.  ``allowance`` is how many bytes the body may have; with ``load`` it is read at
        once, within the retries, if the status is 200.  A 401 is answered once; temporary failures
        are retried where ``retry`` is set.  Redirects are followed for requests without a body.
        Raises RemoteError, AuthError, IntegrityError (beyond ``load``), CancelledError.
        """
        if self.settings.offline:
            raise self._offline(path, load)
        target = self.url(url) if isinstance(url, str) else url
        repeatable = payload is None or payload.repeatable
        backoff = self.backoff() if retry and repeatable else None
        wait = patience or self.settings.response_timeout
        answered = False
        while True:
            sent = self._authorization(target, path, scopes)
            hop = _Hop(
                method, headers or {}, sent, payload, wait, allowance, self._reach(target), load
            )
            response = self._patiently(hop, target, backoff)
            if response.header(_SIGNATURES) == "1" and self.is_own(response):
                self.keeps_signatures = True
            if response.status != 401 or answered or not self.is_own(response):
                return response
            useful = self._auth.learn(response.headers("WWW-Authenticate"), scopes, sent)
            if not (useful and repeatable):
                return response
            answered = True
            response.discard()

    def _offline(self, path: str, load: Load | None) -> RemoteError:
        place = f"{self.host}/{path}" if path else self.host
        return not_asked(f"reach {place}" if load is None else f"get {load.what}")

    def refusal(self, response: Response) -> Refusal:
        """What an unwelcome answer says; closes it."""
        return Refusal.read(response, own=self.is_own(response))

    def error(self, refusal: Refusal, doing: str, path: str = "") -> KstoreError:
        """The error for ``refusal`` of a request for ``doing``."""
        had = self._auth.credentials(path) is not None
        if refusal.own and refusal.status in (401, 403) and path and path not in doing:
            doing = f"{path} ({doing})"
        return refusal.error(doing, had_credentials=had, registry=self.host)

    def is_own(self, response: Response) -> bool:
        """Whether the registry itself answered, not a host it redirected to."""
        return response.url.origin == self.origin()

    def farewell(self, url: Url, path: str, scopes: tuple[str, ...]) -> None:
        """DELETE an upload that was given up: one attempt, even after a cancel, result ignored."""
        hop = _Hop("DELETE", {}, None, None, _FAREWELL_PATIENCE, SMALL_BODY, "not-local")
        try:
            self._send(hop, url, self._authorization(url, path, scopes), Cancel()).close()
        except KstoreError:
            return  # the registry forgets abandoned uploads by itself

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            if self._http is not None:
                self._http.close()

    def _authorization(self, url: Url, path: str, scopes: tuple[str, ...]) -> str | None:
        if url.origin != self.origin():
            return None
        return self._auth.header(path, scopes, url.origin)

    def _patiently(self, hop: _Hop, url: Url, backoff: Backoff | None) -> Response:
        """Send, follow, and while the trouble is temporary, wait and send again."""
        while True:
            try:
                response = self._follow(hop, url)
                if hop.load is not None and response.status == 200:
                    response.load(hop.load.cap, hop.load.what)
            except RemoteError as failure:
                if backoff is None or not failure.retryable:
                    raise
                backoff.pause(failure)
                continue
            unlucky = response.status == 500 and hop.method in ("GET", "HEAD")
            if backoff is None or not (response.status in TEMPORARY or unlucky):
                return response
            refusal = Refusal.read(response, own=False)
            trouble = refusal.error(f"{hop.method} {url}", had_credentials=False, registry="")
            assert isinstance(trouble, RemoteError)
            backoff.pause(trouble, refusal.wait)

    def _follow(self, hop: _Hop, url: Url) -> Response:
        """Send; follow redirects of requests without a body, without credentials elsewhere."""
        first = url.origin
        for _ in range(MAX_REDIRECTS + 1):
            own = hop.authorization if url.origin == first else None
            response = self._send(hop, url, own, self.cancel)
            location = response.header("Location")
            moved = response.status in _REDIRECTS and location is not None
            if not moved or hop.payload is not None or location is None:
                return response
            response.discard()
            url = self.next_url(url, location)
        raise RemoteError(f"{first.netloc} redirected more than {MAX_REDIRECTS} times")

    def _send(self, hop: _Hop, url: Url, authorization: str | None, cancel: Cancel) -> Response:
        headers = {
            "User-Agent": self.settings.user_agent,
            "Accept-Encoding": "identity",  # bytes must arrive as they are stored
            **hop.headers,
        }
        if authorization is not None:
            headers["Authorization"] = authorization
        return self._connections().send(
            hop.method,
            url,
            headers,
            hop.payload,
            cancel=cancel,
            patience=hop.patience,
            allowance=hop.load.cap if hop.load is not None else hop.allowance,
            reach=hop.reach if url.origin != self._origin else "any",
            connect=hop.connect,
        )

    def _reach(self, url: Url, elsewhere: Reach = "not-local") -> Reach:
        """Where a public registry may send us; one that is inside may send us anywhere."""
        own = self.origin()
        return "any" if self._connections().is_private(own) else elsewhere

    def next_url(self, url: Url, location: str) -> Url:
        """The address a Location or Link from ``url`` means; RemoteError if it gives up TLS."""
        following = url.join(location, f"the address {url.origin.netloc} pointed to")
        insecure = url.origin.scheme == "https" and following.origin.scheme == "http"
        if insecure and self.settings.tls_verify:
            raise RemoteError(
                f"{url.origin.netloc} pointed to {following}, which is not protected by TLS"
            )
        return following

    def _connections(self) -> Http:
        with self._lock:
            if self._http is None:
                from kstore.registry.http import Http

                self._http = Http(self.settings, lambda: tls_files(self.host, self.settings))
            return self._http

    def _find_origin(self) -> Origin:
        """https; where that need not be, whichever of https and http answers."""
        secure = registry_origin(self.host, "https")
        if self.settings.tls_verify or self.settings.offline:
            return secure
        hop = _Hop("GET", {}, None, None, self.settings.response_timeout, SMALL_BODY, "any")
        try:
            # Some servers of plain HTTP are silent when they are greeted with TLS.
            brief = replace(hop, connect=min(self.settings.connect_timeout, _TLS_GREETING))
            self._send(brief, Url(secure, "/v2/"), None, self.cancel).discard()
            return secure
        except RemoteError as failure:
            plain = registry_origin(self.host, "http")
            try:
                response = self._send(hop, Url(plain, "/v2/"), None, self.cancel)
            except RemoteError:
                raise failure from None
            response.discard()
            if response.status == 400:  # what a slow server of TLS says to plain HTTP
                raise failure
            return plain

    def _fetch_token(self, request: TokenRequest) -> Response:
        from kstore.registry.messages import Payload

        reach: Reach = "any" if request.trusted else self._reach(request.url, "public")
        wait = self.settings.response_timeout
        load = Load(MAX_TOKEN_BODY, f"the answer of the token server {request.url.origin.netloc}")
        method, headers, payload = "GET", dict[str, str](), None
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            method, payload = "POST", Payload.of(request.form)
        hop = _Hop(method, headers, request.authorization, payload, wait, SMALL_BODY, reach, load)
        return self._patiently(hop, request.url, self.backoff())
