"""What proxies on loopback share that lead everything to one server, whatever was asked for."""

from __future__ import annotations

import select
import socket
import threading
from abc import ABC, abstractmethod
from typing import Self

__all__ = ["LeadingProxy"]


class LeadingProxy(ABC):
    """Listens on ``port`` while it is entered, with a thread for each connection."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    @abstractmethod
    def _serve(self, peer: socket.socket) -> None:
        """Speak with a client, and close the connection."""

    def _pass_on(self, peer: socket.socket, first: bytes = b"") -> None:
        """Lead the client to the server, which gets ``first`` before what the client says."""
        with socket.create_connection(self._target) as far:
            far.sendall(first)
            while True:
                for end in select.select([peer, far], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    (far if end is peer else peer).sendall(data)
