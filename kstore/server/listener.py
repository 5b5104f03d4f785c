"""The server: a listening socket, a bounded number of connection threads, and their end."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from kstore.errors import InvalidInputError, KstoreError, RemoteError
from kstore.server.connection import Connection
from kstore.server.exchange import Service
from kstore.server.htpasswd import Accounts
from kstore.server.sessions import Uploads
from kstore.server.settings import AccessLine, ServeSettings
from kstore.store import Store
from kstore.streams import Cancel

__all__ = ["RegistryServer"]

_TICK = 0.1  # seconds between looks at the cancel token
_EXPIRE = 5.0  # seconds between looks at resting uploads
_JOIN = 10.0  # seconds a connection that was broken off gets to notice
_BACKLOG = 128


class RegistryServer:
    """An OCI registry in front of a store.

    ::

        with RegistryServer(open_store, ServeSettings()) as server:
            print(server.address)
            server.serve_forever(cancel)  # or server.start(), which serves in a thread

    ``open_store`` is called once in each thread that needs the store.  ``log`` is called once for
    each request, in the thread of its connection; it must not raise.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        settings: ServeSettings,
        *,
        log: Callable[[AccessLine], None] | None = None,
    ) -> None:
        """Check the settings.

        Raises InvalidInputError for an address that would let the network in without passwords,
        and what :meth:`Accounts.load` raises for a bad password file.
        """
        self._accounts = Accounts.load(settings.htpasswd) if settings.htpasswd else None
        self._open_store = open_store
        self._settings = settings
        self._log = log
        self._listening: socket.socket | None = None
        self._connections: dict[Connection, threading.Thread] = {}
        self._mutex = threading.Lock()
        self._free = threading.Semaphore(settings.limits.connections)
        self._cancel = Cancel()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        """Bind the address; InvalidInputError, or RemoteError if it cannot be had."""
        self._listening = _listen(self._settings, with_passwords=self._accounts is not None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """``HOST:PORT`` as bound; an IPv6 host in brackets."""
        host, port = self._socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def _socket(self) -> socket.socket:
        if self._listening is None:
            raise InvalidInputError("the server is not open: use it as a context manager")
        return self._listening

    def start(self) -> None:
        """Serve in a thread of its own until :meth:`stop`.

        Returns when the store is open; raises what opening it raised.
        """
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="kstore-serve")
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure

    def stop(self) -> None:
        """Stop serving; requests under way get ``Limits.linger`` seconds to finish."""
        self._cancel.cancel()
        if self._listening is not None:
            with contextlib.suppress(OSError):  # it wakes accept(); not everywhere is that allowed
                self._listening.shutdown(socket.SHUT_RDWR)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        listening, self._listening = self._listening, None
        if listening is not None:
            listening.close()

    def serve_forever(self, cancel: Cancel) -> None:
        """Serve in this thread until ``cancel`` is set, or :meth:`stop` called from another.

        Raises what opening the store raises.
        """
        with self._service() as service:
            self._accept(service, cancel)

    def _run(self, ready: threading.Event) -> None:
        try:
            with self._service() as service:
                ready.set()
                self._accept(service, self._cancel)
        except KstoreError as exc:
            self._failure = exc
        finally:
            ready.set()

    @contextlib.contextmanager
    def _service(self) -> Iterator[Service]:
        """What connections share, for as long as there are any.

        The lease lives in this thread's own store, to the end: blobs whose manifest never came are
        garbage from then on.  Unfinished uploads stay, for the next server.
        """
        settings, limits = self._settings, self._settings.limits
        uploads = lease = None
        with self._open_store() as store, contextlib.ExitStack() as stack:
            if not settings.read_only:
                lease = stack.enter_context(store.lease("serve"))
                uploads = Uploads(limits.uploads, limits.upload_age, lease.uploads)
                stack.callback(uploads.close)
            stack.callback(self._end_connections)
            lease_id = None if lease is None else lease.id
            yield Service(settings, self._accounts, uploads, lease_id)

    def _accept(self, service: Service, cancel: Cancel) -> None:
        listening = self._socket
        listening.settimeout(_TICK)
        swept = time.monotonic()
        while not (cancel.cancelled or self._cancel.cancelled):
            if service.uploads is not None and time.monotonic() - swept > _EXPIRE:
                service.uploads.expire()
                swept = time.monotonic()
            if not self._free.acquire(timeout=_TICK):
                continue  # full: newcomers wait in the backlog
            try:
                sock, peer = listening.accept()
            except TimeoutError:
                self._free.release()
                continue
            except OSError:
                # The client left again, or descriptors ran out: neither is a reason to stop.
                self._free.release()
                if not self._cancel.cancelled:
                    time.sleep(_TICK)
                continue
            self._begin(sock, str(peer[0]), service)

    def _begin(self, sock: socket.socket, client: str, service: Service) -> None:
        connection = Connection(sock, client, service, self._open_store, self._log)
        thread = threading.Thread(
            target=self._live, args=(connection, sock), name=f"kstore-serve-{client}", daemon=True
        )
        with self._mutex:
            self._connections[connection] = thread
        try:
            thread.start()
        except RuntimeError:  # no more threads can be had
            with self._mutex:
                del self._connections[connection]
            sock.close()
            self._free.release()

    def _live(self, connection: Connection, sock: socket.socket) -> None:
        try:
            with sock:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.run()
        except OSError:
            pass  # the client left before the first byte
        finally:
            with self._mutex:
                del self._connections[connection]
            self._free.release()

    def _end_connections(self) -> None:
        """Let requests under way finish, break off what lasts too long, wait for the threads."""
        deadline = time.monotonic() + self._settings.limits.linger
        while True:
            with self._mutex:
                living = dict(self._connections)
            late = time.monotonic() >= deadline
            for connection in living:
                connection.stop = True
                if connection.idle or late:
                    connection.abort()
            if late or not living:
                break
            time.sleep(0.01)
        end = time.monotonic() + _JOIN
        for thread in living.values():
            thread.join(max(0.0, end - time.monotonic()))


def _listen(settings: ServeSettings, *, with_passwords: bool) -> socket.socket:
    what = f"{settings.host}:{settings.port}"
    if not 0 <= settings.port <= 65535:
        raise InvalidInputError(f"{settings.port} is not a port (0 to 65535)")
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        if not (with_passwords or settings.insecure_no_auth or _is_loopback(str(address[0]))):
            raise InvalidInputError(
                f"{what} can be reached from other machines, and there is no password file",
                hint="give one with --htpasswd, or allow everybody with --insecure-no-auth",
            )
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, OverflowError, UnicodeError) as exc:
        cause = str(getattr(exc, "strerror", None) or exc).partition(" (while")[0]
        raise RemoteError(f"cannot listen on {what}: {cause}") from exc


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback
