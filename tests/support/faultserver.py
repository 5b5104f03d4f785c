"""A registry on loopback that misbehaves on request, and remembers what it was asked.

::

    with FaultServer() as server:
        blob = server.add_blob(b"...", path="team/app")            # -> Descriptor
        raw = server.add_manifest(b"{...}", MEDIA_TYPE, path="team/app", tag="v1")
        name = server.offer(random_image(1))                        # all of an image
        server.fault(Fault(reset_after=1000), "GET", "/blobs/")     # the next one only
        server.fault(Fault(status=503), "GET", "/manifests/", times=2)
        server.auth = Bearer(user=("ann", "secret"), uses=3)
        ... RegistryClient(server.host, RegistrySettings(tls_verify=False)) ...
        assert server.seen("GET", "/blobs/")[1].headers["range"] == "bytes=1000-"

A fault fits a request whose method equals and whose target contains the given texts; of several
the first that fits and has ``times`` left is used up.  With ``tls=make_certificate(tmp_path)`` the
server speaks TLS; with ``started=False`` it refuses connections until ``start()``.
``server.blobs``, ``server.manifests`` and ``server.uploads`` are plain dictionaries.  With
``server.rate`` blobs leave at so many bytes a second each; ``server.sent`` counts their bytes.
With ``server.single`` only one connection is served at a time: others are closed at once
("close"), or not looked at until it has ended ("wait").
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.support.images import TestImage
from tests.support.memoryregistry import Answer, Basic, Bearer, MemoryRegistry, Recorded

__all__ = [
    "Basic",
    "Bearer",
    "Fault",
    "FaultServer",
    "Recorded",
    "make_authority",
    "make_certificate",
]

_PIECE = 64 * 1024
_PIECES_A_SECOND = 128


@dataclass
class Fault:
    """What goes wrong with one answer.  Byte counts are of the answer's body unless said otherwise.

    ``status``, ``headers`` (None removes one), ``body`` replace parts of the answer; ``delay``
    waits before it (seconds).  ``stall_after``, ``reset_after``, ``truncate_after`` send so many
    bytes and then fall silent, reset the connection, or close it politely; for PATCH and PUT
    ``swallow`` resets after so many bytes of the request's body, which are kept.  ``trickle``
    sends one byte each so many seconds; ``extra`` adds bytes at the end; ``corrupt`` flips the
    first byte; ``endless`` never ends; ``ignore_range`` answers 200 with everything; ``act`` is
    called when the answer is settled, before it is sent.
    """

    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    delay: float = 0.0
    stall_after: int | None = None
    reset_after: int | None = None
    truncate_after: int | None = None
    swallow: int | None = None
    trickle: float | None = None
    extra: bytes = b""
    corrupt: bool = False
    endless: bool = False
    chunked: bool = False
    ignore_range: bool = False
    act: Callable[[], object] | None = None


def make_certificate(directory: Path, name: str = "server") -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    options = (
        "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -addext subjectAltName=IP:127.0.0.1,DNS:localhost"
    )
    command = ["openssl", "req", "-x509", *shlex.split(options), "-subj", f"/CN={name}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return certificate, key


def make_authority(directory: Path) -> tuple[Path, tuple[Path, Path]]:
    """The certificate of a private authority, and a certificate of its for 127.0.0.1, with key."""
    authority, authority_key = make_certificate(directory, "authority")
    certificate, key = directory / "signed.pem", directory / "signed-key.pem"
    options = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=signed"
    command = ["openssl", "req", "-x509", *shlex.split(options), "-CA", str(authority)]
    command += ["-CAkey", str(authority_key), "-keyout", str(key), "-out", str(certificate)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return authority, (certificate, key)


class FaultServer(MemoryRegistry):
    """See the module's text."""

    def __init__(
        self,
        *,
        tls: tuple[Path, Path] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        started: bool = True,
    ) -> None:
        super().__init__()
        self.connections = 0
        self.rate: int | None = None
        self.sent = 0
        self.single: Literal["close", "wait"] | None = None
        self.stopping = threading.Event()
        self._faults: list[tuple[Fault, str, str, list[int]]] = []
        self.tls_context: ssl.SSLContext | None = None
        self._started = started
        self._server = _Server(self, (address, port))
        if tls is not None:
            self.tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls_context.load_cert_chain(*tls)
        self.host = f"{address}:{self._server.server_address[1]}"
        self.url = f"{'http' if tls is None else 'https'}://{self.host}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        if self._started:
            self.start()
        return self

    def start(self) -> None:
        """Begin to listen; for servers made with ``started=False``."""
        self._server.server_activate()
        self._thread.start()

    def hang_up(self) -> None:
        """Close every connection there is."""
        self._server.hang_up()

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join(10)

    def offer(self, image: TestImage, path: str = "team/app", tag: str = "v1") -> str:
        """Have an image; the name to pull it by."""
        for data in image.blobs.values():
            self.add_blob(data, path)
        self.add_manifest(image.raw.data, image.raw.media_type, path, tag)
        return f"{self.host}/{path}:{tag}"

    def fault(self, fault: Fault, method: str, target: str = "", times: int = 1) -> None:
        """Let the next ``times`` fitting requests suffer ``fault``."""
        with self.lock:
            self._faults.append((fault, method, target, [times]))

    def forgive(self) -> None:
        """Forget the faults that are still to come."""
        with self.lock:
            self._faults.clear()

    def take_fault(self, method: str, target: str) -> Fault:
        with self.lock:
            for fault, wanted, text, left in self._faults:
                if left[0] > 0 and wanted == method and text in target:
                    left[0] -= 1
                    return fault
        return Fault()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 64

    def __init__(self, owner: FaultServer, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler, bind_and_activate=False)
        self.owner = owner
        self._open: set[socket.socket] = set()
        self.server_bind()

    def process_request(self, request: Any, client_address: Any) -> None:
        while self.owner.single is not None and self._open and not self.owner.stopping.is_set():
            if self.owner.single == "close":
                request.close()
                return
            self.owner.stopping.wait(0.005)
        with self.owner.lock:
            self._open.add(request)
            self.owner.connections += 1
        super().process_request(request, client_address)

    def finish_request(self, request: Any, client_address: Any) -> None:
        first = request.recv(1, socket.MSG_PEEK)
        if (first == b"\x16") != (self.owner.tls_context is not None):
            return
        if self.owner.tls_context is None:
            super().finish_request(request, client_address)
            return
        with (
            contextlib.suppress(OSError),
            self.owner.tls_context.wrap_socket(request.dup(), server_side=True) as wrapped,
        ):
            super().finish_request(wrapped, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.owner.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        return  # broken connections are this server's business

    def hang_up(self) -> None:
        with self.owner.lock:
            for request in self._open:
                with contextlib.suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    wbufsize = 0
    disable_nagle_algorithm = True

    def log_message(self, *args: object) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        owner = self.server.owner
        record = Recorded(
            self.command, self.path, {name.lower(): text for name, text in self.headers.items()}
        )
        with owner.lock:
            owner.requests.append(record)
        self._fault = owner.take_fault(self.command, self.path)
        self._record = record
        if self._fault.swallow is not None:
            self._swallow(self._fault.swallow)
            return
        self._read_body(int(self.headers.get("Content-Length") or 0))
        if self._fault.delay:
            owner.stopping.wait(self._fault.delay)
        answer: Answer = (self._fault.status or 0, {}, b"")
        if self._fault.status is None:
            answer = owner.answer(record)
        if self._fault.act is not None:
            self._fault.act()
        self._answer(*answer)

    def _read_body(self, size: int) -> None:
        while size > 0 and (data := self.rfile.read1(min(size, 65536))):
            self._record.body.extend(data)
            size -= len(data)

    def _swallow(self, size: int) -> None:
        self._read_body(size)
        if self._fault.act is not None:
            self._fault.act()
        upload = self.server.owner.uploads.get(urlsplit(self.path).path.rpartition("/")[2])
        if upload is not None:
            upload += self._record.body
        self._reset()

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        raw = socket.socket(fileno=self.connection.detach())
        self.rfile.detach()
        raw.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        fault = self._fault
        if fault.body is not None:
            body = fault.body
        if status == 200 and "/blobs/" in self.path and not fault.ignore_range:
            status, headers, body = _slice(status, headers, body, self.headers)
        if fault.corrupt:
            body = bytes([body[0] ^ 255]) + body[1:]
        body += fault.extra
        sent: dict[str, str | None] = {"Content-Length": str(len(body)), **headers}
        if fault.endless or fault.chunked:
            sent |= {"Content-Length": None, "Transfer-Encoding": "chunked"}
        sent |= fault.headers
        self.send_response_only(fault.status or status)
        for name, text in sent.items():
            if text is not None:
                self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(fault, body)

    def _send_body(self, fault: Fault, body: bytes) -> None:
        stopping = self.server.owner.stopping
        if fault.endless:
            piece = b"10000\r\n" + b" " * 65536 + b"\r\n"
            while not stopping.is_set():
                self.wfile.write(piece)
        if fault.trickle is not None:
            for byte in body:
                self.wfile.write(bytes([byte]))
                if stopping.wait(fault.trickle):
                    return
            return
        if fault.chunked:
            for start in range(0, len(body), 1000):
                piece = body[start : start + 1000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        cuts = (fault.stall_after, fault.reset_after, fault.truncate_after)
        cut = next((cut for cut in cuts if cut is not None), None)
        self._write(body if cut is None else body[:cut])
        if fault.stall_after is not None:
            stopping.wait(60)
        if fault.reset_after is not None:
            time.sleep(0.05)  # a reset may overtake bytes that are on their way
            self._reset()
        self.close_connection = self.close_connection or cut is not None

    def _write(self, data: bytes) -> None:
        owner = self.server.owner
        if "/blobs/" not in self.path:
            self.wfile.write(data)
            return
        rest = memoryview(data)
        while rest:
            rate = owner.rate  # which may change meanwhile
            piece = rest[: _PIECE if rate is None else min(_PIECE, rate // _PIECES_A_SECOND)]
            if rate is not None and owner.stopping.wait(len(piece) / rate):
                self.close_connection = True
                return
            self.wfile.write(piece)
            rest = rest[len(piece) :]
            with owner.lock:
                owner.sent += len(piece)


def _slice(status: int, headers: dict[str, str], body: bytes, asked: Any) -> Answer:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("Range") or "")
    condition = asked.get("If-Range")
    if match is None or (condition is not None and condition != headers.get("ETag")):
        return status, headers, body
    start = int(match[1])
    if start >= len(body):
        return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
    end = min(int(match[2]) + 1, len(body)) if match[2] else len(body)
    place = f"bytes {start}-{end - 1}/{len(body)}"
    return 206, {**headers, "Content-Range": place}, body[start:end]
