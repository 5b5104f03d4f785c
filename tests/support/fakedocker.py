"""A Docker daemon that says what a test wants, on a Unix socket.

::

    with FakeDocker() as docker:
        docker.answers["/images/app:1/get"] = ok(tar_bytes)
        DockerDaemonSettings(host=docker.host)
    docker.requests                       # ["GET /_ping", "GET /v1.41/images/app:1/get"]
    docker.loaded                         # bodies of complete loads

Answers are found by the end of the path; one may be a function of the request's body.  A load is
answered when its last chunk has come, or at once with ``docker.refuse_early``.
"""

from __future__ import annotations

import shutil
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"


def ok(body: bytes, *, status: str = "200 OK") -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """An answer in chunks, perhaps without its end."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n" * end


class FakeDocker:
    """Listens until it is left.  With ``context``, speaks TLS on TCP instead."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.answers: dict[str, bytes | Callable[[bytes], bytes]] = {"/_ping": PING}
        self.requests: list[str] = []
        self.loaded: list[bytes] = []
        self.cut_off = threading.Event()  # a load ended before its last chunk
        self.refuse_early = False
        self.hold = threading.Event()  # answers wait for it
        self.hold.set()
        self._context = context
        self._place = Path(tempfile.mkdtemp(prefix="ks-"))  # names of sockets are short
        if context is None:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self._place / "docker.sock"))
            self.host = f"unix://{self._place}/docker.sock"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as file:
                self._answer(connection, file)
        except OSError:
            connection.close()  # the client has left, which is its right

    def _answer(self, connection: socket.socket, file: BinaryIO) -> None:
        line = file.readline().decode()
        while file.readline() not in (b"\r\n", b""):
            pass
        if not line:
            return
        method, path, _ = line.split()
        self.requests.append(f"{method} {path}")
        path = path.partition("?")[0]
        answer = next((a for end, a in self.answers.items() if path.endswith(end)), None)
        body: bytes | None = b""
        if method == "POST" and not self.refuse_early:
            body = _chunks(file)
            if body is None:
                self.cut_off.set()
                return
            self.loaded.append(body)
        if callable(answer):
            answer = answer(body)
        self.hold.wait(timeout=300)
        connection.sendall(answer or ok(b'{"message":"page not found"}', status="404 Not Found"))

    def __enter__(self) -> FakeDocker:
        self._threads[0].start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hold.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=20)
        shutil.rmtree(self._place)


def _chunks(file: BinaryIO) -> bytes | None:
    """A chunked body, None if it is not complete."""
    body = b""
    while True:
        line = file.readline()
        if not line.endswith(b"\r\n"):
            return None
        size = int(line, 16)
        piece = file.read(size + 2)
        if len(piece) < size + 2:
            return None
        if size == 0:
            return body
        body += piece[:-2]
