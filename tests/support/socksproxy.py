"""A SOCKS 5 proxy on loopback, which leads everything to one server, whatever was asked for.

::

    with SocksProxy(server.host, login=("ann", "secret")) as proxy:
        ... https_proxy=socks5://ann:secret@127.0.0.1:{proxy.port} ...
        assert proxy.asked == ["registry.test:443"]

``answer`` is the code a request for a connection is answered with, ``greeting`` what is said before
anything else instead of what the protocol wants.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from tests.support.leadingproxy import LeadingProxy

__all__ = ["SocksProxy"]


class SocksProxy(LeadingProxy):
    """See the module's text."""

    def __init__(
        self,
        target: str,
        *,
        login: tuple[str, str] | None = None,
        answer: int = 0,
        greeting: bytes | None = None,
    ) -> None:
        super().__init__(target)
        self._login = login
        self._answer = answer
        self._greeting = greeting
        self.asked: list[str] = []

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as said, contextlib.suppress(OSError, IndexError):
            methods = said.read(said.read(2)[1])
            if self._greeting is not None:
                peer.sendall(self._greeting)
                return
            method = 0 if self._login is None else 2
            peer.sendall(bytes([5, method if method in methods else 255]))
            if method == 2:
                told = tuple(said.read(said.read(count)[-1]).decode() for count in (2, 1))
                peer.sendall(bytes([1, told != self._login]))
                if told != self._login:
                    return
            kind = said.read(4)[3]
            size = {1: 4, 4: 16}.get(kind) or said.read(1)[0]
            address, port = said.read(size), int.from_bytes(said.read(2), "big")
            host = address.decode() if kind == 3 else str(ipaddress.ip_address(address))
            self.asked.append(f"{host}:{port}")
            # The address of the proxy's own end, of whichever kind.
            peer.sendall(bytes([5, self._answer, 0, 3, 5]) + b"proxy" + bytes(2))
            if self._answer == 0:
                self._pass_on(peer)
