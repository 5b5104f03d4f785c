"""Who we are to a registry: challenges, Basic credentials, and bearer tokens.

Credentials answer a challenge and nothing else; they go to the registry itself or to the token
server its challenge names, within :func:`token_server`'s rules.

Source: the distribution project's "Token Authentication Specification" and "OAuth2 Token
Authentication"; RFC 7617 (Basic).
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from kstore import strictjson
from kstore.errors import AuthError, InvalidManifestError, RemoteError
from kstore.registry.challenge import Challenge, parse_challenges
from kstore.registry.credentials import CredentialLookup, Credentials
from kstore.registry.urls import Origin, Url
from kstore.streams import Cancel
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry.messages import Response

__all__ = ["MAX_TOKEN_BODY", "Authenticator", "TokenRequest", "repository_scope", "token_server"]

MAX_TOKEN_BODY = 1024 * 1024
_CLIENT_ID = "kstore"
_MINIMUM_LIFE = 60.0  # the specification's default, and a floor for servers that say less
_MAXIMUM_LIFE = 24 * 3600.0
_TOKEN = re.compile(r"[\x21-\x7e]+\Z")
_SCOPE = re.compile(r"[a-zA-Z0-9_.:/,*()-]{1,1024}\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A request to a token server: a GET, or a POST of ``form``."""

    url: Url
    authorization: str | None = field(default=None, repr=False)
    form: bytes | None = field(default=None, repr=False)
    trusted: bool = False


class Fetch(Protocol):
    """Sends a token request, with retries, and returns whatever the server answered."""

    def __call__(self, request: TokenRequest) -> Response: ...


@dataclass(slots=True)
class _Slot:
    """One token, and the lock that lets one thread at a time fetch it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    token: str | None = None
    until: float = 0.0


def repository_scope(path: str, *actions: str) -> str:
    """The scope that allows ``actions`` in a repository."""
    return f"repository:{path}:{','.join(actions)}"


def token_server(realm: str | None, registry: Origin, *, allow_http: bool) -> tuple[Url, bool]:
    """The token server of a challenge, and whether it is the registry's own host.

    An https registry may only name an https realm, and plain http needs ``allow_http``: whoever
    can read the request has the password.  Raises AuthError.
    """
    try:
        url = Url.parse(realm or "", f"the token server named by {registry.netloc}")
    except RemoteError as exc:
        raise AuthError(exc.message) from exc
    downgrade = url.origin.scheme == "http" and (registry.scheme == "https" or not allow_http)
    if downgrade and url.origin != registry:
        raise AuthError(
            f"{registry.netloc} names a token server at {url} that is not protected by TLS",
            hint="with --tls-verify=false only a registry that itself speaks http may do so",
        )
    same_host = (url.origin.host, url.origin.port) == (registry.host, registry.port)
    return url, same_host


class Authenticator:
    """Answers one registry's challenges.  Thread-safe."""

    def __init__(
        self,
        host: str,
        lookup: CredentialLookup | None,
        fetch: Fetch,
        *,
        allow_http: bool,
        cancel: Cancel,
    ) -> None:
        self._host = host
        self._lookup = lookup
        self._fetch = fetch
        self._allow_http = allow_http
        self._cancel = cancel
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._slots: dict[tuple[str, str, tuple[str, ...]], _Slot] = {}

    def credentials(self, path: str) -> Credentials | None:
        """The stored credentials for a repository; None without any."""
        return self._lookup(self._host, path) if self._lookup is not None else None

    def header(self, path: str, scopes: tuple[str, ...], registry: Origin) -> str | None:
        """The Authorization header to send, from what is known so far; None before a challenge.

        May fetch a token: AuthError when the token server refuses, RemoteError when it fails.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "basic":
            found = self.credentials(path)
            return _basic(found) if found is not None and found.password is not None else None
        slot = self._slot(challenge, scopes)
        self._acquire(slot.lock)
        try:
            if slot.token is None or time.monotonic() >= slot.until:
                slot.token, slot.until = self._obtain(challenge, path, scopes, registry)
            return f"Bearer {slot.token}"
        finally:
            slot.lock.release()

    def learn(self, headers: Iterable[str], scopes: tuple[str, ...], rejected: str | None) -> bool:
        """Take in the challenges of a 401; whether another attempt makes sense.

        ``rejected`` is the header the 401 answered: a cached token that equals it is dropped (a
        newer one, which another thread fetched meanwhile, stays).
        """
        for challenge in parse_challenges(headers):
            usable = challenge.scheme == "bearer" and challenge.parameters.get("realm")
            if usable or challenge.scheme == "basic":
                break
        else:
            return False
        with self._lock:
            self._challenge = challenge
        if challenge.scheme == "basic":
            return rejected is None or not rejected.startswith("Basic ")
        slot = self._slot(challenge, scopes)
        self._acquire(slot.lock)
        try:
            if rejected is not None and rejected == f"Bearer {slot.token}":
                slot.token = None
        finally:
            slot.lock.release()
        return True

    def _slot(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Slot:
        parameters = challenge.parameters
        key = (parameters.get("realm", ""), parameters.get("service", ""), scopes)
        with self._lock:
            return self._slots.setdefault(key, _Slot())

    def _acquire(self, lock: threading.Lock) -> None:
        while not lock.acquire(timeout=0.1):
            self._cancel.check()

    def _obtain(
        self, challenge: Challenge, path: str, scopes: tuple[str, ...], registry: Origin
    ) -> tuple[str, float]:
        found = self.credentials(path)
        if found is not None and found.bearer_token is not None:
            return found.bearer_token, time.monotonic() + _MAXIMUM_LIFE
        parameters = challenge.parameters
        url, trusted = token_server(parameters.get("realm"), registry, allow_http=self._allow_http)
        wanted = list(scopes)
        asked = parameters.get("scope", "")
        wanted += [s for s in asked.split() if s not in scopes and _SCOPE.match(s)][:4]
        request = _token_request(url, parameters.get("service"), wanted, found, trusted=trusted)
        started = time.monotonic()
        response = self._fetch(request)
        where = response.url.origin.netloc
        if response.status in (400, 401, 403):
            response.close()
            which = "the given credentials" if found else "anonymous access"
            raise AuthError(
                f"the token server {where} refuses {which} to {self._host}",
                hint=f"kstore login {self._host}",
            )
        what = f"the answer of the token server {where}"
        if response.status != 200:
            status = response.status
            response.close()
            raise RemoteError(f"{what} has the status {status}", status=status)
        token, life = _read_token(response.body, what)
        return token, started + life


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def _token_request(
    url: Url,
    service: str | None,
    scopes: list[str],
    credentials: Credentials | None,
    *,
    trusted: bool,
) -> TokenRequest:
    common = [("service", service)] if service else []
    if credentials is not None and credentials.identity_token is not None:
        form = [
            ("grant_type", "refresh_token"),
            *common,
            ("client_id", _CLIENT_ID),
            ("scope", " ".join(scopes)),
            ("refresh_token", credentials.identity_token),
        ]
        return TokenRequest(url, form=urlencode(form).encode("ascii"), trusted=trusted)
    query = [*common, *(("scope", scope) for scope in scopes)]
    authorization = None
    if credentials is not None and credentials.password is not None:
        query.insert(0, ("account", credentials.username or ""))
        authorization = _basic(credentials)
    return TokenRequest(url.with_query(query), authorization, trusted=trusted)


def _read_token(body: bytes, what: str) -> tuple[str, float]:
    try:
        document = strictjson.as_object(strictjson.loads(body, what, cap=MAX_TOKEN_BODY), what)
    except InvalidManifestError as exc:
        raise RemoteError(exc.message) from exc
    token: Any = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or _TOKEN.match(token) is None:
        raise RemoteError(f"{what} holds no usable token")
    life = document.get("expires_in")
    if not isinstance(life, (int, float)) or isinstance(life, bool):
        life = _MINIMUM_LIFE
    return token, min(max(float(life), _MINIMUM_LIFE), _MAXIMUM_LIFE)
