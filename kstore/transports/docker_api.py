"""The two things asked of a Docker daemon: give an image as an archive, take one.

Source: Docker Engine API 1.24 and later (``/_ping``, ``/images/{name}/get``, ``/images/load``);
podman's service speaks the same.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from kstore.errors import (
    ImageNotFoundError,
    RemoteError,
    RemoteTimeoutError,
)
from kstore.streams import Cancel, Closing
from kstore.transports.docker_endpoint import DockerDaemonSettings, Endpoint
from kstore.transports.docker_sockets import dial

__all__ = ["DockerApi", "LoadStream", "SaveStream"]

_MAX_ERROR = 64 << 10  # bytes of an error's body
_MAX_MESSAGES = 4 << 20  # bytes of all messages of a load
_SHOWN = 300
_VERSION = re.compile(r"1\.[0-9]{1,4}\Z", re.ASCII)
_MISSING = re.compile(r"no such image|not found|unable to find", re.IGNORECASE)


class DockerApi:
    """A daemon.  Every request has a connection of its own."""

    def __init__(self, settings: DockerDaemonSettings, cancel: Cancel | None = None) -> None:
        self.endpoint = Endpoint.of(settings)
        self.settings = settings
        self.cancel = cancel or Cancel()
        self._prefix: str | None = None

    @property
    def what(self) -> str:
        """How messages call the daemon."""
        return f"the docker daemon at {self.endpoint.text}"

    def negotiate(self) -> str:
        """The path under which the daemon's own API version is found, ``/v1.41``.

        Empty for a daemon that does not tell.  Raises RemoteError if there is none.
        """
        if self._prefix is None:
            with contextlib.closing(self._connect()) as connection:
                with self.translated():
                    connection.request("GET", "/_ping")
                with self._answer(connection) as answer:
                    version = answer.getheader("Api-Version") or ""
            self._prefix = f"/v{version}" if _VERSION.match(version) else ""
        return self._prefix

    def save(self, name: str) -> SaveStream:
        """The image ``name`` (or ID) as an archive.  Raises ImageNotFoundError, RemoteError."""
        path = f"{self.negotiate()}/images/{quote(name, safe='/:@')}/get"
        connection = self._connect()
        try:
            with self.translated():
                connection.request("GET", path)
            answer = self._answer(connection)
            if answer.status != http.client.OK:
                with answer:
                    raise self._refused(answer, f"image {name}", missing=True)
        except BaseException:
            connection.close()
            raise
        return SaveStream(self, connection, answer)

    def load(self) -> LoadStream:
        """A stream that gives an archive to the daemon."""
        self.negotiate()
        return LoadStream(self)

    def start_load(self) -> http.client.HTTPConnection:
        """Begin the request of a load; chunks follow."""
        connection = self._connect()
        try:
            with self.translated():
                connection.putrequest("POST", f"{self.negotiate()}/images/load?quiet=1")
                connection.putheader("Content-Type", "application/x-tar")
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders()
        except BaseException:
            connection.close()
            raise
        return connection

    def finish_load(self, connection: http.client.HTTPConnection) -> None:
        """Read what the daemon says about an archive; RemoteError with its words if it is bad."""
        with self._answer(connection) as answer:
            if answer.status != http.client.OK:
                raise self._refused(answer, "the archive")
            body = self._read(answer, _MAX_MESSAGES + 1)
        if len(body) > _MAX_MESSAGES:
            raise RemoteError(f"{self.what} sent more than {_MAX_MESSAGES} bytes of messages")
        for message in self._messages(body):
            if (error := _error_text(message)) is not None:
                raise RemoteError(f"{self.what} did not take the image: {error}")

    def _messages(self, body: bytes) -> Iterator[Any]:
        """The JSON values of a stream, one after the other."""
        text = body.decode("utf-8", "replace").strip()
        decoder = json.JSONDecoder()
        at = 0
        while at < len(text):
            try:
                value, at = decoder.raw_decode(text, at)
            except (ValueError, RecursionError) as exc:
                raise RemoteError(f"{self.what} sent messages that are not JSON") from exc
            yield value
            while at < len(text) and text[at].isspace():
                at += 1

    def _answer(self, connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        with self.translated():
            return connection.getresponse()

    def _read(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        """The body, or its first ``most`` bytes."""
        with self.translated():
            body = answer.read(most)
            _require_whole(answer, len(body) < most)
        return body

    def _refused(
        self, answer: http.client.HTTPResponse, what: str, *, missing: bool = False
    ) -> RemoteError | ImageNotFoundError:
        """What an answer other than 200 means."""
        body = self._read(answer, _MAX_ERROR)
        try:
            reason = _error_text(json.loads(body))
        except (ValueError, RecursionError):
            reason = None
        if missing and (answer.status == http.client.NOT_FOUND or _MISSING.search(reason or "")):
            return ImageNotFoundError(f"{self.what} has no {what}")
        said = reason or f"HTTP status {answer.status}"
        return RemoteError(f"{self.what} refused {what}: {said}", status=answer.status)

    def _connect(self) -> http.client.HTTPConnection:
        self.cancel.check()
        if self.settings.offline and self.endpoint.path is None:
            from kstore.registry.settings import not_asked

            raise not_asked(f"reach {self.what}")
        connection = http.client.HTTPConnection(self.endpoint.name or "localhost")
        try:
            connection.sock = dial(self.endpoint, self.settings, self.cancel)
        except ssl.SSLError as exc:
            raise RemoteError(f"no TLS with {self.what}: {exc.reason or exc}") from exc
        except TimeoutError as exc:
            raise RemoteTimeoutError(f"{self.what} does not answer", retryable=True) from exc
        except PermissionError as exc:
            raise RemoteError(
                f"{self.what} cannot be reached: permission denied",
                hint="join the group that owns the socket, or set DOCKER_HOST",
            ) from exc
        except (OSError, UnicodeError) as exc:
            reason = (getattr(exc, "strerror", None) or str(exc)).lower()
            raise RemoteError(
                f"no docker daemon at {self.endpoint.text}: {reason}",
                hint="start it, or say with DOCKER_HOST where it is",
            ) from exc
        return connection

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Translate what goes wrong with a connection into RemoteError."""
        try:
            yield
        except TimeoutError as exc:
            seconds = f"{self.settings.idle_timeout:g} s"
            raise RemoteTimeoutError(f"{self.what} said nothing for {seconds}") from exc
        except OSError as exc:
            reason = (exc.strerror or str(exc) or type(exc).__name__).lower()
            raise RemoteError(f"the connection to {self.what} broke: {reason}") from exc
        except http.client.IncompleteRead as exc:
            raise RemoteError(f"{self.what} closed the connection too early") from exc
        except http.client.HTTPException as exc:
            raise RemoteError(f"{self.what} sent an answer that is not HTTP") from exc


class SaveStream(io.RawIOBase):
    """The archive a daemon sends."""

    def __init__(
        self,
        api: DockerApi,
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
    ) -> None:
        self._api = api
        self._connection = connection
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        with self._api.translated():
            count = self._answer.readinto(buffer)
            _require_whole(self._answer, count == 0)
            return count

    def close(self) -> None:
        self._answer.close()
        self._connection.close()
        super().close()


class LoadStream(Closing):
    """An archive on its way to a daemon; leaving without :meth:`commit` cuts it off, so that the
    daemon takes nothing of it."""

    def __init__(self, api: DockerApi) -> None:
        self._api = api
        self._connection: http.client.HTTPConnection | None = None

    def write(self, data: bytes | memoryview, /) -> None:
        """Send all of ``data``.  Raises RemoteError, with the daemon's words if it has any."""
        if not data:
            return  # an empty chunk would be the end
        if self._connection is None:
            self._connection = self._api.start_load()
        self._send(b"%x\r\n" % len(data), data, b"\r\n")

    def _send(self, *parts: bytes | memoryview) -> None:
        assert self._connection is not None, "the request was begun"
        try:
            with self._api.translated():
                for part in parts:
                    self._connection.sock.sendall(part)
        except RemoteTimeoutError:
            raise
        except RemoteError:
            # A daemon may refuse before it has everything: its answer says more than the pipe.
            with contextlib.suppress(RemoteTimeoutError):
                self._api.finish_load(self._connection)
            raise

    def cut(self, position: int, /) -> bool:
        """What was sent cannot be taken back."""
        return False

    def commit(self) -> None:
        """End the archive, and wait until the daemon has taken it."""
        assert self._connection is not None, "an archive is not empty"
        self._send(b"0\r\n\r\n")
        self._api.finish_load(self._connection)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _require_whole(answer: http.client.HTTPResponse, ended: bool) -> None:
    """Raise IncompleteRead for a body that ``ended`` before its announced length, which the
    standard library lets pass."""
    if ended and answer.length:
        raise http.client.IncompleteRead(b"", answer.length)


def _error_text(message: Any) -> str | None:
    """The words of an error, bounded; None if the message is none."""
    if not isinstance(message, dict):
        return None
    detail = message.get("errorDetail")
    for value in (
        detail.get("message") if isinstance(detail, dict) else None,
        message.get("error"),
        message.get("message"),
    ):
        if isinstance(value, str) and value:
            return " ".join(value.split())[:_SHOWN]
    return None
