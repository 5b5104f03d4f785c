"""The distribution project's registry, run on loopback from its Debian package."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.support.programs import require_program

__all__ = ["DockerRegistry"]

_CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: {delete}}}
http: {{addr: "{host}"{tls}}}
"""
_TLS = ", tls: {{certificate: {}, key: {}}}"
_HTPASSWD = 'auth: {{htpasswd: {{realm: "kstore tests", path: {file}}}}}\n'


class DockerRegistry:
    """``with DockerRegistry(tmp_path) as registry: registry.host``.

    The test skips without the program.  ``auth`` is the text of an htpasswd file with bcrypt
    hashes; ``delete`` allows deleting; ``tls`` is a certificate and its key.
    """

    def __init__(
        self,
        directory: Path,
        auth: str | None = None,
        delete: bool = True,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._program = require_program("docker-registry")
        self._directory = directory / "docker-registry"
        self._directory.mkdir()
        self._auth = auth
        self._delete = delete
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.host = f"127.0.0.1:{free.getsockname()[1]}"

    @property
    def blobs(self) -> Path:
        """The directory in which the registry keeps its blobs."""
        return self._directory / "data/docker/registry/v2/blobs"

    def __enter__(self) -> Self:
        config = _CONFIG.format(
            root=self._directory / "data",
            delete=str(self._delete).lower(),
            host=self.host,
            tls="" if self._tls is None else _TLS.format(*self._tls),
        )
        if self._auth is not None:
            passwords = self._directory / "htpasswd"
            passwords.write_text(self._auth)
            config += _HTPASSWD.format(file=passwords)
        file = self._directory / "config.yml"
        file.write_text(config)
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._program, "serve", str(file)], stdout=log, stderr=log
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            try:
                # Over TLS the answer to plain HTTP, a refusal, is a sign of life as good.
                with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=2):
                    return
            except urllib.error.HTTPError as answer:
                answer.close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError((self._directory / "log").read_text(errors="replace"))

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
