"""TLS under a watch: sockets, and the context that makes them."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from kstore.errors import InvalidInputError
from kstore.registry.hosts import TlsFiles
from kstore.registry.sockets import SLICE, Watch, WatchedSocket

__all__ = ["WatchedContext", "WatchedTlsSocket", "tls_context"]

# One TLS write either goes out whole or is repeated whole: small enough to see progress.
_WRITE = 64 * 1024


class WatchedTlsSocket(ssl.SSLSocket):
    """A TLS socket under a watch."""

    watch: Watch

    def settimeout(self, value: float | None, /) -> None:
        super().settimeout(SLICE)

    def do_handshake(self, block: bool = False) -> None:
        shake = super().do_handshake
        self.watch.repeat(lambda: shake(block))

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        receive = super().recv_into
        count = self.watch.repeat(lambda: receive(buffer, nbytes, flags))
        self.watch.received(count)
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        send, view = super().send, memoryview(data).cast("B")
        while view:
            part = view[:_WRITE]
            view = view[self.watch.repeat(lambda: send(part, flags)) :]  # noqa: B023


class WatchedContext(ssl.SSLContext):
    """A TLS context whose sockets inherit the watch of the socket they wrap."""

    sslsocket_class = WatchedTlsSocket

    def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        assert isinstance(sock, WatchedSocket)
        watch = sock.watch
        kwargs["do_handshake_on_connect"] = False
        wrapped = super().wrap_socket(sock, *args, **kwargs)
        assert isinstance(wrapped, WatchedTlsSocket)
        wrapped.watch = watch
        try:
            wrapped.do_handshake()
        except BaseException:
            wrapped.close()
            raise
        return wrapped


def tls_context(files: TlsFiles, *, verify: bool) -> WatchedContext:
    """A client context with the system's authorities and those of ``files``.

    Without ``verify`` any certificate is taken.  Raises InvalidInputError for unusable files.
    """
    context = WatchedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # What a user put beside a registry is trusted as it is, a server's own certificate, too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if verify:
        context.load_default_certs()
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    path = None
    try:
        for path in files.authorities:
            context.load_verify_locations(cafile=path)
        for path, key in files.identities:
            context.load_cert_chain(path, key, password=_refuse_password)
    except (OSError, ValueError) as exc:
        raise InvalidInputError(f"certificate {path} is unusable: {exc}") from exc
    return context


def _refuse_password() -> str:
    """A key with a passphrase would stop and ask on the terminal."""
    raise ValueError("its key is protected by a passphrase")
