"""Sockets that never wait longer than they should, and stop at once when asked to.

The kernel's timeout of every socket is a short slice; :class:`Watch` repeats the call until bytes
move, somebody cancels, or a limit is reached.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from kstore.registry.settings import RegistrySettings
from kstore.streams import Cancel

__all__ = ["SLICE", "FloodError", "Watch", "WatchedSocket", "dial"]

#: The kernel's timeout, in seconds: how late a cancel may be noticed.
SLICE = 0.1
_HAPPENING = (errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK)


class FloodError(OSError):
    """The other side sends more than was allowed for; trying again is pointless."""


class Watch:
    """The limits of one request.  Times are seconds; breaking one raises TimeoutError.

    ``idle`` limits one silence, ``deadline`` (monotonic clock) everything while it is set,
    ``allowance`` the bytes received in total, whatever the other side calls them.
    """

    def __init__(self, settings: RegistrySettings, cancel: Cancel, allowance: int) -> None:
        self.cancel = cancel
        self.idle = settings.idle_timeout
        self.deadline: float | None = None
        self.allowance = allowance
        self._minimum = settings.minimum_speed * settings.minimum_speed_window
        self._window = settings.minimum_speed_window
        self._waited = 0.0
        self._moved = 0

    def repeat(self, attempt: Callable[[], int | None]) -> int:
        """Call ``attempt``, which gives up after a slice of time, until it succeeds."""
        started = time.monotonic()
        while True:
            self.cancel.check()
            try:
                count = attempt() or 0
            except TimeoutError:
                self._check_patience(time.monotonic(), started)
                continue
            now = time.monotonic()
            self._account(count, now, started)
            return count

    def received(self, count: int) -> None:
        """Book received bytes."""
        self.allowance -= count
        if self.allowance < 0:
            raise FloodError("it sent more than any honest answer holds")

    def _check_patience(self, now: float, started: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            raise TimeoutError("it did not answer in time")
        if self.deadline is None and now - started >= self.idle:
            raise TimeoutError(f"it was silent for {self.idle:g} s")

    def _account(self, count: int, now: float, started: float) -> None:
        if self.deadline is not None:
            if now >= self.deadline:
                raise TimeoutError("it did not answer in time")
            return
        # Only time spent waiting counts: a slow reader is no slow server.
        self._waited += now - started
        self._moved += count
        if self._waited >= self._window:
            if self._moved < self._minimum:
                raise TimeoutError(f"it moved {self._moved} bytes in {self._waited:.0f} s")
            self._waited, self._moved = 0.0, 0


class WatchedSocket(socket.socket):
    """A TCP socket under a watch, which changes with every request; ``peer`` is an IP address."""

    watch: Watch
    peer: str

    def settimeout(self, value: float | None, /) -> None:
        super().settimeout(SLICE)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        receive = super().recv_into
        count = self.watch.repeat(lambda: receive(buffer, nbytes, flags))
        self.watch.received(count)
        return count

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        send, view = super().send, memoryview(data).cast("B")
        while view:
            part = view
            view = view[self.watch.repeat(lambda: send(part, flags)) :]  # noqa: B023


def dial(addresses: Sequence[tuple[Any, ...]], watch: Watch, timeout: float) -> WatchedSocket:
    """Connect to the first of ``addresses`` (rows of getaddrinfo) that answers.

    Raises OSError (the last one) or TimeoutError.
    """
    until = time.monotonic() + timeout
    last: OSError = TimeoutError("it did not answer in time")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        now = time.monotonic()
        share = (until - now) / (len(addresses) - position)
        sock = WatchedSocket(family, kind, protocol)
        sock.watch, sock.peer = watch, str(address[0])
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _connect(sock, address, now + share)
        except OSError as exc:
            sock.close()
            last = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise last


def _connect(sock: WatchedSocket, address: Any, until: float) -> None:
    sock.setblocking(False)
    code = sock.connect_ex(address)
    if code in _HAPPENING:
        poller = select.poll()
        poller.register(sock, select.POLLOUT)
        while not poller.poll(SLICE * 1000):
            sock.watch.cancel.check()
            if time.monotonic() >= until:
                raise TimeoutError("it did not answer in time")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    sock.settimeout(SLICE)
