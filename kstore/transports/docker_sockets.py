"""Connections to a Docker daemon: a Unix socket, TCP, or TLS over TCP.

The kernel's timeout is a short slice that is repeated, so that a cancel is noticed within 0.1 s.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from kstore.errors import InvalidInputError
from kstore.streams import Cancel
from kstore.transports.docker_endpoint import DockerDaemonSettings, Endpoint

__all__ = ["dial"]

_SLICE = 0.1  # seconds


def dial(endpoint: Endpoint, settings: DockerDaemonSettings, cancel: Cancel) -> socket.socket:
    """Connect.  Raises OSError (ssl.SSLError among them); InvalidInputError for certificates that
    cannot be used."""
    if endpoint.path is not None:
        sock: _PatientSocket | _PatientTls = _PatientSocket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(settings.connect_timeout)
            sock.connect(endpoint.path)
        except BaseException:
            sock.close()
            raise
    else:
        address = (endpoint.name, endpoint.port)
        with socket.create_connection(address, settings.connect_timeout) as plain:
            # Both take the descriptor over, so that there is nothing left to close.
            if endpoint.tls:
                context = _tls_context(settings)
                wrapped = context.wrap_socket(plain, server_hostname=endpoint.name)
                assert isinstance(wrapped, _PatientTls)
                sock = wrapped
            else:
                sock = _PatientSocket(fileno=plain.detach())
    sock.watch(settings, cancel)
    return sock


def _tls_context(settings: DockerDaemonSettings) -> ssl.SSLContext:
    """Certificates from ``cert_dir``; raises InvalidInputError if they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = _PatientTls
    if not settings.tls_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    directory = settings.cert_dir
    try:
        if directory is None:
            context.load_default_certs()
            return context
        if settings.tls_verify:
            context.load_verify_locations(directory / "ca.pem")
        if (directory / "cert.pem").exists():
            context.load_cert_chain(directory / "cert.pem", directory / "key.pem")
    except OSError as exc:  # SSLError is one
        raise InvalidInputError(
            f"the TLS certificates of the docker daemon in {directory} cannot be used:"
            f" {exc.strerror or exc}"
        ) from exc
    return context


class _Patient:
    """What is mixed into a socket: waiting in slices, so that a cancel is noticed."""

    _cancel: Cancel
    _idle: float

    def watch(self, settings: DockerDaemonSettings, cancel: Cancel) -> None:
        """From now on, wait as ``settings`` and ``cancel`` say."""
        self._cancel, self._idle = cancel, settings.idle_timeout
        self.settimeout(_SLICE)  # type: ignore[attr-defined]

    def _repeat(self, attempt: Callable[[], int]) -> int:
        until = time.monotonic() + self._idle
        while True:
            self._cancel.check()
            try:
                return attempt()
            except TimeoutError:
                if time.monotonic() >= until:
                    raise

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        receive = super().recv_into  # type: ignore[misc]
        return self._repeat(lambda: receive(buffer, nbytes or len(buffer), flags))

    def sendall(self, data: Any, flags: int = 0) -> None:
        send, view = super().send, memoryview(data).cast("B")  # type: ignore[misc]
        while view:
            part = view
            view = view[self._repeat(lambda: send(part, flags)) :]  # noqa: B023


class _PatientSocket(_Patient, socket.socket):
    pass


class _PatientTls(_Patient, ssl.SSLSocket):
    pass
