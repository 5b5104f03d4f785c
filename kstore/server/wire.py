"""One client's socket: reads and writes that a slow or silent client cannot stretch for ever."""

from __future__ import annotations

import os
import select
import socket
import time

__all__ = ["Disconnected", "Wire"]

#: Bytes that must move before the client is granted the full patience again.
PROGRESS = 16 * 1024
#: Bytes asked for at once while reading lines.
_READ = 64 * 1024
#: Bytes handed to one sendfile call.
_SEND = 1 << 24


class Disconnected(Exception):
    """The client went away, or was too slow; nothing more can be said to it."""


class Wire:
    """A connected socket with a deadline.

    The deadline is ``patience`` seconds after :meth:`rearm`.  :meth:`readinto` and the sending
    methods move it on by themselves each time 16 KiB have gone through, so that a long transfer
    lives while it makes progress and a trickle does not.
    """

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._socket = sock
        self._patience = patience
        self._buffer = bytearray()
        self._deadline = 0.0
        self._progress = 0
        sock.setblocking(False)
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable = select.poll()
        self._writable.register(sock, select.POLLOUT)
        self.rearm()

    def rearm(self) -> None:
        """Grant the client the full patience from now."""
        self._deadline = time.monotonic() + self._patience
        self._progress = 0

    # ---- reading

    def wait(self) -> bool:
        """Whether something arrives (False: the client closed the connection in good order)."""
        return bool(self._buffer) or self._fill()

    def readline(self, limit: int) -> bytes:
        """The next line with its end; without an end if it is longer than ``limit`` bytes."""
        start = 0
        while True:
            end = self._buffer.find(b"\n", start, limit)
            if end >= 0 or len(self._buffer) >= limit:
                return self._take(end + 1 if end >= 0 else limit)
            start = len(self._buffer)
            if not self._fill():
                raise Disconnected("the client closed the connection in the middle of a line")

    def readinto(self, view: memoryview) -> int:
        """Some body bytes, at least one; ``view`` must not be empty."""
        if self._buffer:
            data = self._take(min(len(view), len(self._buffer)))
            view[: len(data)] = data
            self._moved(len(data))
            return len(data)
        while True:
            try:
                count = self._socket.recv_into(view)
            except BlockingIOError:
                self._await(self._readable, "send")
                continue
            except OSError as exc:
                raise Disconnected(f"the connection broke: {exc.strerror}") from exc
            if count == 0:
                raise Disconnected("the client closed the connection in the middle of a body")
            self._moved(count)
            return count

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _fill(self) -> bool:
        while True:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                self._await(self._readable, "send")
                continue
            except OSError as exc:
                raise Disconnected(f"the connection broke: {exc.strerror}") from exc
            self._buffer += data
            return bool(data)

    # ---- writing

    def send(self, data: bytes, *, more: bool = False) -> None:
        """Send all of ``data``; ``more`` says that other bytes follow at once."""
        view = memoryview(data)
        flags = socket.MSG_MORE if more else 0
        while view:
            try:
                count = self._socket.send(view, flags)
            except BlockingIOError:
                self._await(self._writable, "receive")
                continue
            except OSError as exc:
                raise Disconnected(f"the connection broke: {exc.strerror}") from exc
            self._moved(count)
            view = view[count:]

    def send_file(self, file: int, offset: int, count: int) -> None:
        """Send ``count`` bytes of an open file, straight from the page cache.

        Raises OSError when the file cannot be read, Disconnected when it is shorter than that.
        """
        end = offset + count
        while offset < end:
            try:
                sent = os.sendfile(self._socket.fileno(), file, offset, min(end - offset, _SEND))
            except BlockingIOError:
                self._await(self._writable, "receive")
                continue
            except ConnectionError as exc:
                raise Disconnected(f"the connection broke: {exc.strerror}") from exc
            if sent == 0:
                raise Disconnected("the file became shorter while it was sent")
            self._moved(sent)
            offset += sent

    # ---- ending

    def hang_up(self, *, unread: bool) -> None:
        """End the connection so that the client still gets the last answer.

        With ``unread`` bytes on their way a plain close would make the kernel answer them with a
        reset, which can overtake the answer; so what still comes is thrown away for a moment.
        """
        try:
            self._socket.shutdown(socket.SHUT_WR)
            if unread:
                self._deadline = min(self._deadline, time.monotonic() + 1.0)
                waste = memoryview(bytearray(_READ))
                for _ in range(64):
                    self._progress = -_READ  # no credit for bytes nobody wants
                    self.readinto(waste)
        except (OSError, Disconnected):
            pass  # that is what was asked for

    def close(self) -> None:
        self._socket.close()

    def _moved(self, count: int) -> None:
        self._progress += count
        if self._progress >= PROGRESS:
            self.rearm()

    def _await(self, poll: select.poll, what: str) -> None:
        rest = self._deadline - time.monotonic()
        if rest <= 0 or not poll.poll(rest * 1000):
            raise Disconnected(f"the client was too slow to {what}")
