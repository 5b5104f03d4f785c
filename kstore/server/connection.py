"""One client connection: request after request, until somebody has had enough."""

from __future__ import annotations

import ipaddress
import logging
import socket
import time
from collections.abc import Callable
from http import HTTPStatus

from kstore.errors import KstoreError
from kstore.server.exchange import Exchange, Service
from kstore.server.http import Request, read_request
from kstore.server.responses import Refusal, Response, send_response
from kstore.server.routes import answer
from kstore.server.settings import AccessLine
from kstore.server.wire import Disconnected, Wire
from kstore.store import Store

__all__ = ["Connection"]

_log = logging.getLogger("kstore.server")


class Connection:
    """Serves one client; :meth:`run` is the life of its thread.

    ``idle`` is true while no request is under way; ``stop`` asks for an end after the one that is.
    """

    def __init__(
        self,
        sock: socket.socket,
        client: str,
        service: Service,
        open_store: Callable[[], Store],
        log: Callable[[AccessLine], None] | None,
    ) -> None:
        self.idle = True
        self.stop = False
        self._socket = sock
        self._client = client
        self._service = service
        self._open = open_store
        self._log = log
        self._store: Store | None = None

    def run(self) -> None:
        """Answer requests until the client leaves, is too slow, or :attr:`stop` is set."""
        wire = Wire(self._socket, self._service.settings.limits.patience)
        try:
            while self._serve_one(wire):
                self.idle = True
                wire.rearm()
        except Disconnected:
            pass  # between two requests: nothing is lost
        finally:
            wire.close()
            self._close_store()

    def abort(self) -> None:
        """Break the connection off, from another thread."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already

    def _serve_one(self, wire: Wire) -> bool:
        """Answer one request; whether another may follow."""
        if self.stop or not wire.wait():
            return False
        self.idle = False
        wire.rearm()
        started = time.monotonic()
        try:
            request = read_request(wire)
        except Refusal as refusal:
            sent = send_response(wire, refusal.response, head_only=False, close=True)
            self._note(None, None, refusal.response, sent, started)
            wire.hang_up(unread=True)
            return False
        wire.rearm()
        return self._respond(wire, request, started)

    def _respond(self, wire: Wire, request: Request, started: float) -> bool:
        user: str | None = None
        try:
            user, refused = self._admit(request)
            response = refused or self._answer(request)
            # A body nobody read ends the connection: what follows cannot be told from it.
            unread = request.body.unread and (refused is not None or not request.body.drain())
            keep = request.keep_alive and not unread and not self.stop
            wire.rearm()
            sent = send_response(wire, response, head_only=request.method == "HEAD", close=not keep)
        except Disconnected as exc:
            self._note(request, user, None, 0, started, str(exc))
            return False
        self._note(request, user, response, sent, started)
        if not keep:
            wire.hang_up(unread=unread)
        return keep

    def _admit(self, request: Request) -> tuple[str | None, Response | None]:
        """The user of the request, and why it is refused if it is."""
        accounts = self._service.accounts
        if accounts is None:
            meant = self._service.settings.insecure_no_auth
            return None, None if meant else _check_host(request.headers.get("host"))
        user = accounts.user_of(request.headers.get("authorization", ""))
        if user is not None:
            return user, None
        refusal = Refusal(
            HTTPStatus.UNAUTHORIZED,
            "UNAUTHORIZED",
            "a user name and password are needed",
            headers={"WWW-Authenticate": 'Basic realm="kstore", charset="UTF-8"'},
        )
        return None, refusal.response

    def _answer(self, request: Request) -> Response:
        try:
            return answer(Exchange(request, self._service, self._own_store))
        except Disconnected:
            raise
        except Exception as exc:  # noqa: BLE001 - a defect must not end the server, nor stay unlogged
            _log.debug("request failed", exc_info=exc)
            failure = Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", "internal error")
            return Response(
                failure.response.status,
                failure.response.headers,
                failure.response.body,
                error=f"internal error: {type(exc).__name__}: {exc}",
            )

    def _own_store(self) -> Store:
        if self._store is None:
            self._store = self._open()
        return self._store

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        try:
            store.close()
        except KstoreError as exc:  # nobody is left to tell: everything was answered before
            _log.warning("%s", exc.message)

    def _note(
        self,
        request: Request | None,
        user: str | None,
        response: Response | None,
        sent: int,
        started: float,
        error: str | None = None,
    ) -> None:
        if self._log is None:
            return
        self._log(
            AccessLine(
                client=self._client,
                user=user,
                method=request.method if request else "-",
                path=request.path if request else "-",
                status=response.status.value if response else None,
                received=request.body.received if request else 0,
                sent=sent,
                seconds=time.monotonic() - started,
                error=response.error if response else error,
            )
        )


def _check_host(host: str | None) -> Response | None:
    """Without passwords, refuse requests for host names that are not this machine's own.

    A web page can make a browser send requests here under a name of its own that resolves to a
    loopback address (DNS rebinding); it cannot do so under an address or ``localhost``.
    """
    if host is None:
        return None
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return Refusal(
            HTTPStatus.MISDIRECTED_REQUEST,
            "DENIED",
            f"{host!r:.100} is not served here: use localhost or an address",
        ).response
    return None
