"""One HTTP exchange: connect, send, read the head, stream the body.  Nothing is repeated here.

The only place that knows urllib3, and the only one where network exceptions become ours.  Loaded
with the first request, because it is the expensive part of this package.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from urllib3.connection import HTTPConnection, HTTPSConnection

from kstore.errors import RemoteError, RemoteTimeoutError
from kstore.registry.hosts import TlsFiles, is_address, is_local, is_private
from kstore.registry.messages import EagerResponse, Payload, Response
from kstore.registry.proxies import Proxy
from kstore.registry.settings import RegistrySettings, not_asked
from kstore.registry.sockets import FloodError, Watch, WatchedSocket, dial
from kstore.registry.tls import WatchedContext, tls_context
from kstore.registry.urls import Origin, Url
from kstore.streams import Cancel

__all__ = ["Http", "Reach"]

#: Which addresses a host name may lead to: any, none of this machine or link, public ones only.
Reach = Literal["any", "not-local", "public"]

_INSECURE_HINT = "for a registry without a trusted certificate use --tls-verify=false"
_IDLE_CONNECTIONS = 8
#: Room for a response head and framing, on top of what a body may hold.
_HEAD_ROOM = 8 * 1024 * 1024


class _PlainConnection(HTTPConnection):
    response_class = EagerResponse
    reach: Callable[[], WatchedSocket]
    #: Headers for a proxy that is asked for whole addresses; None where there is none.
    through: dict[str, str] | None = None

    def _new_conn(self) -> socket.socket:
        return self.reach()


class _TlsConnection(HTTPSConnection):
    response_class = EagerResponse
    reach: Callable[[], WatchedSocket]
    #: Headers for a proxy that is asked for whole addresses; None where there is none.
    through: dict[str, str] | None = None

    def _new_conn(self) -> socket.socket:
        return self.reach()


_Connection = _PlainConnection | _TlsConnection


class Http:
    """Connections to a registry and the hosts it sends us to.  One TLS policy; thread-safe."""

    def __init__(self, settings: RegistrySettings, tls: Callable[[], TlsFiles]) -> None:
        self._settings = settings
        self._tls = tls
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[_Connection]] = {}
        self._private: dict[Origin, bool] = {}
        self._context: WatchedContext | None = None
        self._closed = False

    def send(
        self,
        method: str,
        url: Url,
        headers: dict[str, str],
        payload: Payload | None,
        *,
        cancel: Cancel,
        patience: float,
        allowance: int,
        reach: Reach = "any",
        connect: float | None = None,
    ) -> Response:
        """Send one request and return as soon as the response's head is complete.

        ``patience`` limits the wait for that head (seconds), ``allowance`` the bytes of the body,
        ``connect`` the time of connecting where it is not the settings' own.
        Raises RemoteError, RemoteTimeoutError; ``retryable`` is set where trying again may help.
        """
        watch = Watch(self._settings, cancel, allowance + _HEAD_ROOM)
        connection = self._take(url.origin)
        if connection is not None:
            try:
                return self._exchange(connection, method, url, headers, payload, watch, patience)
            except RemoteError as exc:
                # The server may have closed an idle connection just as we used it.
                if isinstance(exc, RemoteTimeoutError) or payload is not None:
                    raise
        watch = Watch(self._settings, cancel, allowance + _HEAD_ROOM)
        connection = self._connect(url.origin, watch, reach, connect)
        return self._exchange(connection, method, url, headers, payload, watch, patience)

    def is_private(self, origin: Origin) -> bool:
        """Whether the last connection to ``origin`` led to an address inside private networks."""
        return self._private.get(origin, False)

    def _give_back(self, connection: _Connection, origin: Origin, *, reusable: bool) -> None:
        """Keep a connection for the next request, or close it."""
        with self._lock:
            idle = self._idle.setdefault(origin, [])
            if reusable and not self._closed and len(idle) < _IDLE_CONNECTIONS:
                idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close every idle connection; those in use close when their response does."""
        with self._lock:
            self._closed = True
            idle = [connection for group in self._idle.values() for connection in group]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _take(self, origin: Origin) -> _Connection | None:
        while True:
            with self._lock:
                group = self._idle.get(origin)
                if not group:
                    return None
                connection = group.pop()
            if connection.is_connected:
                return connection
            connection.close()

    def _exchange(
        self,
        connection: _Connection,
        method: str,
        url: Url,
        headers: dict[str, str],
        payload: Payload | None,
        watch: Watch,
        patience: float,
    ) -> Response:
        try:
            sock: Any = connection.sock
            sock.watch = watch
            broken = _send(connection, method, url, headers, payload)
            watch.deadline = time.monotonic() + patience
            try:
                # The base class gives the plain response: urllib3's would copy every byte.
                raw = http.client.HTTPConnection.getresponse(connection)
            except (OSError, http.client.HTTPException):
                if broken is not None:
                    raise broken from None
                raise
            watch.deadline = None
            if broken is not None:
                raw.will_close = True
            return Response(
                url,
                raw,
                lambda reusable: self._give_back(connection, url.origin, reusable=reusable),
                lambda exc: self._failure(exc, url.origin),
            )
        except (OSError, http.client.HTTPException, ValueError) as exc:
            connection.close()
            raise self._failure(exc, url.origin) from exc
        except BaseException:
            connection.close()
            raise

    def _connect(
        self, origin: Origin, watch: Watch, reach: Reach, limit: float | None
    ) -> _Connection:
        if self._settings.offline:
            raise not_asked(f"reach {origin.netloc}")
        connection: _Connection
        timeout = self._settings.connect_timeout if limit is None else limit
        proxies = self._settings.proxies
        proxy = proxies.for_origin(origin) if proxies is not None else None
        if origin.scheme == "https":
            connection = _TlsConnection(
                origin.host, origin.port, ssl_context=self._tls_context(), blocksize=1 << 20
            )
        else:
            connection = _PlainConnection(origin.host, origin.port, blocksize=1 << 20)

        def dialled() -> WatchedSocket:
            sock = dial(self._resolve(origin, reach, proxy), watch, timeout)
            self._private[origin] = proxy is None and is_private(sock.peer)
            if proxy is not None and proxy.kind == "socks":
                _ask_socks(sock, proxy, origin)
            return sock

        if proxy is not None and proxy.kind == "http":
            _prepare(connection, origin, proxy)

        connection.reach = dialled
        watch.deadline = time.monotonic() + timeout
        try:
            connection.connect()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            connection.close()
            raise self._failure(exc, origin, connecting=True, proxy=proxy) from exc
        except BaseException:
            connection.close()
            raise
        watch.deadline = None
        return connection

    def _resolve(self, origin: Origin, reach: Reach, proxy: Proxy | None) -> list[tuple[Any, ...]]:
        refuse = {"any": lambda _: False, "not-local": is_local, "public": is_private}[reach]
        if proxy is not None:  # which looks names up by itself: only addresses can be judged here
            rows = socket.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
            allowed = [] if is_address(origin.host) and refuse(origin.host) else rows
        else:
            rows = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            allowed = [row for row in rows if not refuse(str(row[4][0]))]
        if not allowed:
            raise RemoteError(
                f"kstore was sent to {origin.netloc}, an address inside a private network, which a"
                " public server may not do"
            )
        return allowed

    def _tls_context(self) -> WatchedContext:
        with self._lock:
            if self._context is None:
                self._context = tls_context(self._tls(), verify=self._settings.tls_verify)
            return self._context

    def _failure(
        self,
        exc: BaseException,
        origin: Origin,
        *,
        connecting: bool = False,
        proxy: Proxy | None = None,
    ) -> RemoteError:
        """The error for a network exception.  Only a host that was reached before is retried."""
        where, known, host = origin.netloc, origin in self._private, f"host {origin.host}"
        if proxy is not None:
            where, host = f"{where} (by way of {proxy})", f"proxy {proxy.host}"
        if isinstance(exc, RemoteError):
            return exc
        if isinstance(exc, ssl.SSLCertVerificationError):
            return RemoteError(
                f"the certificate of {where} is not trusted: {exc.verify_message}",
                hint=_INSECURE_HINT,
            )
        if isinstance(exc, ssl.SSLError) and connecting:
            reason = (exc.reason or "the handshake broke off").replace("_", " ").lower()
            return RemoteError(f"{where} does not speak TLS: {reason}", hint=_INSECURE_HINT)
        if isinstance(exc, socket.gaierror):
            again = known or exc.errno == socket.EAI_AGAIN
            return RemoteError(f"{host} is unknown: {exc.strerror}", retryable=again)
        if isinstance(exc, TimeoutError):
            reason = exc.args[0] if exc.args and isinstance(exc.args[0], str) else "no answer"
            return RemoteTimeoutError(f"{where} was given up: {reason}", retryable=True)
        if isinstance(exc, FloodError):
            return RemoteError(f"{where} was given up: {exc}")
        if isinstance(exc, (http.client.IncompleteRead, http.client.RemoteDisconnected)):
            return RemoteError(f"{where} closed the connection too early", retryable=True)
        if isinstance(exc, (http.client.HTTPException, ValueError)):
            return RemoteError(f"{where} sent an answer that is not HTTP", hint=_INSECURE_HINT)
        assert isinstance(exc, OSError)
        reason = (exc.strerror or str(exc) or type(exc).__name__).lower()
        if connecting:
            return RemoteError(f"{where} cannot be reached: {reason}", retryable=known)
        return RemoteError(f"the connection to {where} broke: {reason}", retryable=True)


def _ask_socks(sock: WatchedSocket, proxy: Proxy, origin: Origin) -> None:
    from kstore.registry.socks import ask_socks

    try:
        ask_socks(sock, proxy, origin)
    except BaseException:
        sock.close()
        raise


def _prepare(connection: _Connection, origin: Origin, proxy: Proxy) -> None:
    """Let ``connection`` go through ``proxy``: in a tunnel, or for plain http by asking it."""
    said = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
    if origin.scheme == "https":
        connection.set_tunnel(origin.host, origin.port, said, scheme="http")
    else:
        connection.through = said


def _send(
    connection: _Connection,
    method: str,
    url: Url,
    headers: dict[str, str],
    payload: Payload | None,
) -> OSError | None:
    """Write the request.  A server may refuse before it has the whole body: then its answer is
    worth more than the broken pipe, which is returned instead of raised."""
    asked = url.target if connection.through is None else f"{url.origin}{url.target}"
    connection.putrequest(method, asked, skip_accept_encoding=True)
    for name, value in {**headers, **(connection.through or {})}.items():
        connection.putheader(name, value)
    if payload is not None:
        connection.putheader("Content-Length", str(payload.size))
    connection.endheaders()
    if payload is None:
        return None
    chunks = payload.chunks()
    try:
        for chunk in chunks:
            connection.sock.sendall(chunk)
    except (BrokenPipeError, ConnectionResetError) as exc:
        return exc
    return None
