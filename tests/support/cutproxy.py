"""A TCP proxy on loopback that cuts a connection in the middle of what a client sends.

::

    with CutProxy(registry.host) as proxy:
        proxy.cut_after(1_000_000, registry.restart)
        ... a push to proxy.host ...
        assert proxy.cuts == 1

The connection that is the first to carry so many bytes to the server is closed on both sides once
exactly these were passed on; before the client notices, the given function is called.
``proxy.target`` is where new connections lead; tests may change it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self

__all__ = ["CutProxy"]

_PIECE = 64 * 1024


class CutProxy:
    """See the module's text."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.cuts = 0
        self._plan: list[tuple[int, Callable[[], object]]] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, count: int, act: Callable[[], object] = lambda: None) -> None:
        """Cut the next connection that carries ``count`` bytes to the server; ``act`` follows."""
        with self._lock:
            self._plan.append((count, act))

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                _hang_up(sock)
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        host, _, port = self.target.rpartition(":")
        with (
            client,
            contextlib.suppress(OSError),
            socket.create_connection((host, int(port))) as up,
        ):
            with self._lock:
                self._open |= {client, up}
            back = threading.Thread(target=_pass_on, args=(up, client), daemon=True)
            back.start()
            try:
                self._pass_up(client, up)
            finally:
                _hang_up(up)
                _hang_up(client)
                back.join()
                with self._lock:
                    self._open -= {client, up}

    def _pass_up(self, client: socket.socket, up: socket.socket) -> None:
        passed = 0
        while data := client.recv(_PIECE):
            act = None
            with self._lock:
                if self._plan and passed + len(data) >= self._plan[0][0]:
                    limit, act = self._plan.pop(0)
                    data = data[: limit - passed]
                    self.cuts += 1
            up.sendall(data)
            passed += len(data)
            if act is not None:
                _hang_up(up)
                act()
                return


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            sink.sendall(data)
    _hang_up(sink)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
