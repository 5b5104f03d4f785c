"""Asking a SOCKS proxy for a connection, which it makes, looking the name up by itself.

Source: RFC 1928 (SOCKS 5), RFC 1929 (user name and password).
"""

from __future__ import annotations

import ipaddress
import socket

from kstore.registry.hosts import is_address
from kstore.registry.proxies import Proxy
from kstore.registry.urls import Origin

__all__ = ["ask_socks"]

_VERSION, _LOGIN_VERSION = 5, 1
_OPEN, _LOGIN = 0, 2
_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_REFUSALS = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the network cannot be reached",
    4: "the host cannot be reached",
    5: "the connection was refused",
    6: "it took too long",
}


def ask_socks(sock: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Have ``proxy``, at the other end of ``sock``, connect it to ``origin``.

    Raises OSError saying why it does not.
    """
    methods = [_OPEN] if proxy.login is None else [_OPEN, _LOGIN]
    sock.sendall(bytes([_VERSION, len(methods), *methods]))
    version, method = _read(sock, 2)
    if version != _VERSION:
        raise OSError("the proxy does not speak SOCKS 5")
    if method == _LOGIN and proxy.login is not None:
        name, password = (part.encode() for part in proxy.login)
        sock.sendall(bytes([_LOGIN_VERSION, len(name)]) + name + bytes([len(password)]) + password)
        if _read(sock, 2)[1] != 0:
            raise OSError("the proxy refuses the user name or the password")
    elif method != _OPEN:
        raise OSError("the proxy wants to know who asks")
    sock.sendall(bytes([_VERSION, _CONNECT, 0]) + _address(origin.host))
    sock.sendall(origin.port.to_bytes(2, "big"))
    _, answer, _, kind = _read(sock, 4)
    if answer != 0:
        raise OSError(f"the proxy did not connect: {_REFUSALS.get(answer, f'answer {answer}')}")
    _read(sock, {_IPV4: 4, _IPV6: 16}.get(kind) or _read(sock, 1)[0])
    _read(sock, 2)


def _address(host: str) -> bytes:
    if is_address(host):
        packed = ipaddress.ip_address(host.partition("%")[0]).packed
        return bytes([_IPV4 if len(packed) == 4 else _IPV6]) + packed
    if len(host) > 255:
        raise OSError("its name is too long for a proxy")
    return bytes([_NAME, len(host)]) + host.encode("ascii")


def _read(sock: socket.socket, count: int) -> bytes:
    """So many bytes, and none of what follows them."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = sock.recv_into(view)
        if not got:
            raise OSError("the proxy hung up")
        view = view[got:]
    return bytes(data)
