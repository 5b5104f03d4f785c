"""``kstore serve`` as a process of its own, which can be killed and started again.

::

    with Served(root) as server:                       # prefix=[...]: a command that runs it
        server.ask("GET", "/v2/").status
        server.push("team/app", "v1", image)           # what answers other than 2xx fails the test
        server.kill()
        server.start()                                 # perhaps at another address
        server.peak_memory()                           # bytes
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from kstore.digest import Digest
from tests.support.cli import environment
from tests.support.images import TestImage
from tests.support.localregistry import Answer, ask

__all__ = ["NotListeningError", "Served"]

_LIMIT = 30.0  # seconds


class NotListeningError(Exception):
    """The server ended before it listened."""


class Served:
    """See the module's text; ``address_space`` limits the process's memory, in bytes."""

    def __init__(
        self, root: Path, *, prefix: Sequence[str] = (), address_space: int | None = None
    ) -> None:
        self.host = ""
        self.root = root
        self._prefix = list(prefix)
        self._address_space = address_space
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, listen: str = "127.0.0.1:0") -> None:
        """Start it, and wait until it listens; NotListeningError if it ends before."""
        words = [sys.executable, "-m", "kstore", "--root", str(self.root), "serve", "-q"]
        words += ["--listen", listen]
        process = subprocess.Popen(
            [*self._prefix, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment(),
            preexec_fn=self._limit,
            start_new_session=True,  # so that a tracer and what it traces can be killed together
        )
        self._process = process
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], _LIMIT)[0], "the server said nothing"
        line = process.stdout.readline().decode()
        if not line.startswith("listening on http://"):
            self.kill()
            raise NotListeningError(line)
        self.host = line.strip().removeprefix("listening on http://")

    def _limit(self) -> None:
        if self._address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (self._address_space, self._address_space))

    def kill(self) -> None:
        """SIGKILL, and everything it started with it."""
        with self._changing:
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.communicate()
                self._process = None

    def peak_memory(self) -> int:
        """The most memory it has had, in bytes."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def dial(self) -> socket.socket:
        """A bare connection."""
        host, port = self.host.rsplit(":", 1)
        return socket.create_connection((host, int(port)), timeout=_LIMIT)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; OSError or HTTPException where it breaks."""
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=_LIMIT)) as line:
            return ask(line, method, path, body, headers)

    def push(self, path: str, reference: str, image: TestImage) -> int:
        """Upload what the server lacks of an image, then its manifest; the bytes that went."""
        sent = 0
        for data in image.blobs.values():
            digest = Digest.of(data)
            if self.ask("HEAD", f"/v2/{path}/blobs/{digest}").status != 200:
                answer = self.ask("POST", f"/v2/{path}/blobs/uploads/?digest={digest}", data)
                assert answer.status == 201, answer
                sent += len(data)
        answer = self.ask(
            "PUT",
            f"/v2/{path}/manifests/{reference}",
            image.raw.data,
            {"Content-Type": image.raw.media_type},
        )
        assert answer.status == 201, answer
        return sent

    def pull(self, path: str, reference: str, image: TestImage) -> bool:
        """Whether the image is there; what is there of it must be all of it, and right."""
        answer = self.ask("GET", f"/v2/{path}/manifests/{reference}")
        if answer.status == 404:
            return False
        assert (answer.status, answer.body) == (200, image.raw.data)
        for digest, data in image.blobs.items():
            blob = self.ask("GET", f"/v2/{path}/blobs/{digest}")
            assert (blob.status, blob.body) == (200, data)
        return True
