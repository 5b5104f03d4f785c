"""Where a Docker daemon listens.

Source: Docker CLI reference, "Environment variables" (``DOCKER_HOST``, ``DOCKER_TLS_VERIFY``,
``DOCKER_CERT_PATH``).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from kstore.errors import InvalidInputError, UnsupportedError
from kstore.values import dataclass

__all__ = ["DEFAULT_HOST", "DockerDaemonSettings", "Endpoint"]

DEFAULT_HOST = "unix:///var/run/docker.sock"
_PLAIN_PORT, _TLS_PORT = 2375, 2376


@dataclass(frozen=True, slots=True)
class DockerDaemonSettings:
    """How the daemon is reached.

    ``host``: ``unix://PATH`` or ``tcp://HOST[:PORT]`` (what DOCKER_HOST holds).  ``cert_dir``:
    directory of ``ca.pem``, ``cert.pem`` and ``key.pem`` (DOCKER_CERT_PATH); with it, or with
    ``tls_verify``, TCP is TLS.  ``tls_verify``: whether the daemon's certificate must be right
    (DOCKER_TLS_VERIFY).  ``idle_timeout``: seconds of silence after which the daemon is given up;
    it may say nothing for minutes while it packs an image.  ``offline``: only a socket of this
    machine is connected to.
    """

    host: str = DEFAULT_HOST
    cert_dir: Path | None = None
    tls_verify: bool = False
    connect_timeout: float = 30.0
    idle_timeout: float = 600.0
    offline: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A parsed host: a socket's ``path``, or a ``name`` and ``port``; ``tls`` only with these."""

    text: str
    path: str | None = None
    name: str = ""
    port: int = 0
    tls: bool = False

    @classmethod
    def of(cls, settings: DockerDaemonSettings) -> Endpoint:
        """Parse ``settings.host``; InvalidInputError if it is malformed, UnsupportedError for ssh
        and Windows pipes."""
        text = settings.host
        scheme, separator, rest = text.partition("://")
        if scheme in ("ssh", "npipe", "fd"):
            raise UnsupportedError(
                f"docker host {text!r:.200} cannot be reached: {scheme}:// is not supported",
                hint="ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST, then"
                " DOCKER_HOST=unix:///tmp/docker.sock"
                if scheme == "ssh"
                else None,
            )
        if scheme == "unix" and rest.startswith("/"):
            return cls(text, path=rest)
        if not separator or scheme not in ("tcp", "http", "https"):
            raise InvalidInputError(
                f"docker host {text!r:.200} is neither unix:///PATH nor tcp://HOST:PORT"
            )
        tls = scheme == "https" or settings.tls_verify or settings.cert_dir is not None
        try:
            parts = urlsplit(f"//{rest}")
            name, port = parts.hostname, parts.port
        except ValueError as exc:
            raise InvalidInputError(f"docker host {text!r:.200} is malformed: {exc}") from exc
        if not name or parts.username is not None or parts.path not in ("", "/") or parts.query:
            raise InvalidInputError(f"docker host {text!r:.200} is not tcp://HOST:PORT")
        return cls(text, name=name, port=port or (_TLS_PORT if tls else _PLAIN_PORT), tls=tls)
