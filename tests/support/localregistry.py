"""A running ``kstore.server`` in front of a store in a directory, and a plain client for it.

::

    with serve(tmp_path / "root") as registry:
        registry.push("team/app", "v1", random_image(1))
        answer = registry.ask("GET", "/v2/team/app/manifests/v1")
        answer.status, answer.headers["docker-content-digest"], answer.body
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kstore.digest import Digest
from kstore.manifest import RawManifest
from kstore.server import AccessLine, RegistryServer, ServeSettings
from kstore.store import Store
from tests.support.images import TestImage


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete response; header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of the specification's error body."""
        return str(self.json["errors"][0]["code"])


@dataclass(slots=True)
class LocalRegistry:
    """Where the server is, the root of its store, and the lines of its access log."""

    host: str
    root: Path
    log: list[AccessLine] = field(default_factory=list)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; an iterable body is sent in chunks.

        Returns when it is in the access log too, so that requests are logged in their order.
        """
        logged = len(self.log)
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=20)) as connection:
            answer = ask(connection, method, path, body, headers)
        self.lines(logged + 1)
        return answer

    def dial(self) -> socket.socket:
        """A bare connection, for what no HTTP client would send."""
        host, port = self.host.rsplit(":", 1)
        return socket.create_connection((host.strip("[]"), int(port)), timeout=20)

    def lines(self, count: int) -> list[AccessLine]:
        """The access log when it has ``count`` lines: a line follows its answer a little later."""
        deadline = time.monotonic() + 10
        while len(self.log) < count:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.005)
        return list(self.log)

    def open_store(self) -> Store:
        return Store.open(self.root)

    def push_blob(self, path: str, data: bytes) -> Digest:
        """Upload one blob at once."""
        digest = Digest.of(data)
        answer = self.ask("POST", f"/v2/{path}/blobs/uploads/?digest={digest}", data)
        assert answer.status == 201, answer
        return digest

    def push_manifest(self, path: str, reference: str, raw: RawManifest) -> Answer:
        headers = {"Content-Type": raw.media_type}
        return self.ask("PUT", f"/v2/{path}/manifests/{reference}", raw.data, headers)

    def push(self, path: str, reference: str, image: TestImage) -> None:
        """Upload an image: its blobs, then its manifest under a tag or its digest."""
        for data in image.blobs.values():
            self.push_blob(path, data)
        answer = self.push_manifest(path, reference, image.raw)
        assert answer.status == 201, answer


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request on an open connection; an answer that comes before the body ends counts."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request(method, path, body, dict(headers or {}))
    if connection.sock is None:
        raise ConnectionResetError("the server hung up before it was asked anything")
    response = connection.getresponse()
    data = response.read()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, data)


@contextlib.contextmanager
def serve(root: Path, settings: ServeSettings | None = None) -> Iterator[LocalRegistry]:
    """A server for the store at ``root`` (made if absent), stopped on leaving."""
    log: list[AccessLine] = []
    settings = settings or ServeSettings()
    open_store = partial(Store.open, root, command="serve", read_only=settings.read_only)
    with RegistryServer(open_store, settings, log=log.append) as server:
        server.start()
        yield LocalRegistry(server.address, root, log)
