"""Programs that keep credentials: ``docker-credential-NAME``.

A program is run by its absolute path, found in directories that were settled at the start, so that
nothing in the current directory or an image is ever run; what it says, and how long it takes, is
bounded.

Source: the protocol of the docker-credential-helpers project (get, store, erase, list).
"""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path
from typing import Any

from kstore import strictjson
from kstore.errors import AuthError, InvalidManifestError
from kstore.registry.answers import plain_text
from kstore.registry.credentials import Credentials
from kstore.streams import Cancel

__all__ = ["MAX_OUTPUT", "CredentialPrograms"]

#: Bytes a program may write; cloud tokens reach a few KiB.
MAX_OUTPUT = 256 * 1024
_PREFIX = "docker-credential-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z", re.ASCII)
_TOKEN_USER = "<token>"  # noqa: S105 - how a program says that the secret is an identity token
_NOT_FOUND = "credentials not found"


class CredentialPrograms:
    """The credential programs in ``directories`` (absolute paths, first match wins).

    ``limit`` is the seconds one run may take.  What a program answered is remembered for the life
    of this object.  Thread-safe.  All methods raise AuthError for a program that is missing, fails,
    hangs or answers what nobody understands.
    """

    def __init__(
        self,
        directories: tuple[Path, ...] = (),
        *,
        limit: float = 30.0,
        cancel: Cancel | None = None,
    ) -> None:
        self._directories = directories
        self._limit = limit
        self._cancel = cancel or Cancel()
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], Credentials | None] = {}

    def is_installed(self, name: str) -> bool:
        """Whether there is a program called ``docker-credential-NAME``."""
        return self._find(name) is not None

    def get(self, name: str, server: str) -> Credentials | None:
        """What program ``name`` keeps for ``server``; None if it has nothing."""
        with self._lock:  # one at a time: several would ask the user for the same passphrase
            if (name, server) not in self._known:
                self._known[name, server] = self._get(name, server)
            return self._known[name, server]

    def store(self, name: str, server: str, credentials: Credentials) -> None:
        """Give program ``name`` the credentials for ``server`` to keep."""
        token = credentials.identity_token
        user = _TOKEN_USER if token is not None else credentials.username
        secret = token if token is not None else credentials.password
        document = {"ServerURL": server, "Username": user, "Secret": secret}
        self._change(name, "store", server, json.dumps(document))

    def erase(self, name: str, server: str) -> None:
        """Let program ``name`` forget ``server``."""
        self._change(name, "erase", server, server)

    def servers(self, name: str) -> tuple[str, ...]:
        """The servers program ``name`` keeps credentials for."""
        code, out, said = self._run(name, "list", "")
        if code:
            raise self._failed(name, "list", said)
        return tuple(_parse(out, f"the list of {_PREFIX}{name}"))

    def _get(self, name: str, server: str) -> Credentials | None:
        code, out, said = self._run(name, "get", server)
        if code and _NOT_FOUND in said.lower():
            return None
        if code:
            raise self._failed(name, f"get the credentials for {server}", said)
        found = _parse(out, f"the answer of {_PREFIX}{name} for {server}")
        user, secret = found.get("Username"), found.get("Secret")
        if not isinstance(user, str) or not isinstance(secret, str):
            raise AuthError(f"the answer of {_PREFIX}{name} for {server} has no user or no secret")
        if not secret:
            return None
        if user == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(user, secret)

    def _change(self, name: str, verb: str, server: str, text: str) -> None:
        with self._lock:
            self._known.pop((name, server), None)
            code, _, said = self._run(name, verb, text)
            if code and not (verb == "erase" and _NOT_FOUND in said.lower()):
                raise self._failed(name, f"{verb} the credentials for {server}", said)

    def _failed(self, name: str, doing: str, said: str) -> AuthError:
        words = f": {said}" if said else ""
        return AuthError(f"credential helper {_PREFIX}{name} failed to {doing}{words}")

    def _find(self, name: str) -> Path | None:
        if _NAME.match(name) is None:
            raise AuthError(f"{name[:100]!r} is not the name of a credential helper")
        for directory in self._directories:
            path = directory / f"{_PREFIX}{name}"
            if directory.is_absolute() and path.is_file() and os.access(path, os.X_OK):
                return path
        return None

    def _run(self, name: str, verb: str, text: str) -> tuple[int, bytes, str]:
        """Exit code, output, and, only if that is not 0, the program's words about it."""
        from kstore.registry.child import run_bounded

        path = self._find(name)
        if path is None:
            raise AuthError(
                f"credential helper {_PREFIX}{name} is not installed",
                hint=f"install {_PREFIX}{name} in a directory of PATH, or remove its name from the"
                " credential file",
            )
        done = run_bounded(
            (str(path), verb),
            text.encode(),
            limit=self._limit,
            cap=MAX_OUTPUT,
            cancel=self._cancel,
        )
        # What a program that succeeds writes may be a secret, and is never shown.
        said = done.out + b" " + done.err if done.code else b""
        return done.code, done.out, plain_text(said.decode(errors="replace"))


def _parse(out: bytes, what: str) -> dict[str, Any]:
    try:
        return strictjson.as_object(strictjson.loads(out, what, cap=MAX_OUTPUT), what)
    except InvalidManifestError as exc:
        raise AuthError(f"{what} is not understood") from exc
