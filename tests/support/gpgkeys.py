"""Throw-away keys of GnuPG, in a home of their own.

::

    with GpgHome() as home:
        key = home.make("Alice <alice@example.org>")          # an Ed25519 key without a passphrase
        message = home.sign(b"payload", key)                  # one binary OpenPGP message
        public = home.export(key)                             # binary; armor=True for text

gpg is found as other peers are, so that a test without it skips.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support.programs import require_program

__all__ = ["GpgHome"]

_QUIET = ("--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback")
#: Runs beside the agent, which ends when this does.
_KEEPER = 'echo ready; cat; rm -rf "$0"'


class GpgHome:
    """A GnuPG directory with secret keys; both it and its agent end with this, and at the latest
    with the process, however that ends."""

    def __init__(self) -> None:
        self._program = require_program("gpg")
        agent = require_program("gpg-agent")
        # Not below tmp_path: the path of the agent's socket must be short.
        self.path = Path(tempfile.mkdtemp(prefix="ks-gpg-"))
        home = str(self.path)
        self._keeper = subprocess.Popen(
            [agent, "--homedir", home, "--quiet", "--daemon", "--", "sh", "-c", _KEEPER, home],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._keeper.stdout is not None
        assert self._keeper.stdout.readline() == b"ready\n"

    def run(
        self, *arguments: str | Path, data: bytes = b"", passphrase: str = "", ok: bool = True
    ) -> bytes:
        """What gpg writes to standard output; ``ok``: it must succeed."""
        command = [self._program, "--homedir", self.path, *_QUIET, "--passphrase", passphrase]
        done = subprocess.run(
            [*map(str, command), *map(str, arguments)],
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not ok, done.stderr.decode()
        return done.stdout

    def make(
        self,
        name: str,
        *,
        kind: str = "ed25519",
        usage: str = "sign",
        expires: str = "never",
        passphrase: str = "",
        at: str | None = None,
    ) -> str:
        """Make a key, at another time if one is given; its fingerprint."""
        self.run(
            *_time(at),
            "--quick-generate-key",
            name,
            kind,
            usage,
            expires,
            passphrase=passphrase,
        )
        return self._fingerprints(name)[0]

    def add_subkey(self, key: str) -> str:
        """Add an Ed25519 subkey that signs; its fingerprint."""
        self.run("--quick-add-key", key, "ed25519", "sign", "never")
        return self._fingerprints(key)[-1]

    def revoke_subkey(self, key: str, position: int = 1) -> None:
        script = f"key {position}\nrevkey\ny\n0\n\ny\nsave\n".encode()
        self.run("--command-fd", "0", "--edit-key", key, data=script)

    def revoke(self, key: str) -> None:
        """Revoke a key with the certificate that GnuPG made with it."""
        text = (self.path / "openpgp-revocs.d" / f"{key}.rev").read_text()
        self.run("--import", data=text.replace(":-----BEGIN", "-----BEGIN").encode())

    def export(self, *keys: str, armor: bool = False) -> bytes:
        """Public keys, binary or in armor."""
        return self.run(*(["--armor"] if armor else []), "--export", *keys)

    def sign(
        self, payload: bytes, key: str, *options: str, at: str | None = None, passphrase: str = ""
    ) -> bytes:
        """The payload as a signed message; ``options`` of gpg make others of it."""
        how = [] if {"--clearsign", "--detach-sign", "--store"} & set(options) else ["--sign"]
        return self.run(
            *_time(at), "--local-user", key, *options, *how, data=payload, passphrase=passphrase
        )

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["gpgconf", "--homedir", str(self.path), "--kill", "all"],
                capture_output=True,
                timeout=20,
                check=False,
            )
        self._keeper.communicate(timeout=20)
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fingerprints(self, name: str) -> Sequence[str]:
        lines = self.run("--with-colons", "--list-keys", name).decode().splitlines()
        return [line.split(":")[9] for line in lines if line.startswith("fpr:")]


def _time(at: str | None) -> list[str]:
    return ["--faked-system-time", at] if at is not None else []
