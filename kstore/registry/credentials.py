"""Credentials in auth.json and docker's config.json: read, found by name, written back.

Source: containers-auth.json(5); docker's config.json as ``docker login`` writes it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kstore import strictjson
from kstore.errors import (
    InvalidInputError,
    InvalidManifestError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from kstore.reference import DEFAULT_DOMAIN

__all__ = ["AuthFiles", "CredentialLookup", "Credentials", "parse_creds"]

MAX_FILE = 1024 * 1024
_DOCKER_KEY = "https://index.docker.io/v1/"
_DOCKER_ALIASES = frozenset({DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an identity token to trade for access tokens."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)


#: Finds credentials by registry host (as in a name: ``docker.io``) and repository path, which is
#: empty when the registry as a whole is meant.
CredentialLookup = Callable[[str, str], Credentials | None]


def parse_creds(text: str) -> Credentials:
    """``USER:PASSWORD`` as given on a command line; the password may contain colons."""
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise InvalidInputError("credentials must have the form USER:PASSWORD")
    if not username.isprintable() or not password.isprintable():
        raise InvalidInputError("user name and password must not contain control characters")
    return Credentials(username, password)


@dataclass(frozen=True, slots=True)
class AuthFiles:
    """Credential files, first match wins; with ``explicit`` no other file is looked at.

    New credentials go to ``explicit`` or the first of ``paths``.
    """

    paths: tuple[Path, ...] = ()
    explicit: Path | None = None

    def lookup(self, host: str, path: str) -> Credentials | None:
        """The credentials for a repository: the most specific key of the first file with one.

        Raises UnsupportedError if the only match is a credential helper, StorageError for a file
        that cannot be read or understood.
        """
        helper: str | None = None
        for file in self._files():
            document = _read(file)
            if document is None:
                continue
            found = _find(document, host, path, file)
            if found is not None:
                return found
            helper = helper or _helper(document, host, file)
        if helper is not None:
            raise UnsupportedError(
                f"the credentials for {host} are kept by {helper}, which kstore cannot ask yet",
                hint=f"kstore login {host}",
            )
        return None

    def store(self, host: str, credentials: Credentials) -> Path:
        """Write credentials for ``host`` (or ``host/namespace``); returns the file written."""
        _check_key(host)
        file = self._target()
        document = _read(file) or {}
        auths = _auths(document, file)
        for key in [k for k in auths if _same_key(k, host)]:
            del auths[key]
        auths[_DOCKER_KEY if host in _DOCKER_ALIASES else host] = _entry(credentials)
        document["auths"] = auths
        _write(file, document)
        return file

    def erase(self, host: str) -> Path:
        """Remove the credentials for ``host`` where they are; NotFoundError if there are none."""
        _check_key(host)
        for file in self._files():
            document = _read(file)
            auths = _auths(document, file) if document is not None else {}
            keys = [key for key in auths if _same_key(key, host)]
            if document is not None and keys:
                for key in keys:
                    del auths[key]
                document["auths"] = auths
                _write(file, document)
                return file
        raise NotFoundError(f"no credentials for {host} are stored")

    def erase_all(self) -> Path:
        """Remove every credential from the file that new ones go to; other keys stay."""
        file = self._target()
        document = _read(file)
        if document is not None and document.get("auths"):
            document["auths"] = {}
            _write(file, document)
        return file

    def _files(self) -> tuple[Path, ...]:
        return (self.explicit,) if self.explicit is not None else self.paths

    def _target(self) -> Path:
        files = self._files()
        if not files:
            raise InvalidInputError("no file for credentials is configured")
        return files[0]


def _find(document: dict[str, Any], host: str, path: str, file: Path) -> Credentials | None:
    auths = _auths(document, file)
    for wanted in _keys(host, path):
        if wanted in auths:
            found = _decode(auths[wanted], wanted, file)
            if found is not None:
                return found
    for key, value in auths.items():  # keys with a scheme, a /v1/ suffix, or docker's other names
        if _normal_host(key) in _aliases(host):
            found = _decode(value, key, file)
            if found is not None:
                return found
    return None


def _keys(host: str, path: str) -> Iterator[str]:
    """The keys that may hold the credentials of a repository, most specific first."""
    parts = path.split("/") if path else []
    for count in range(len(parts), -1, -1):
        for name in (host, *sorted(_aliases(host) - {host})):
            yield "/".join((name, *parts[:count]))


def _aliases(host: str) -> frozenset[str]:
    return _DOCKER_ALIASES if host in _DOCKER_ALIASES else frozenset({host})


def _normal_host(key: str) -> str | None:
    """The host a legacy key (``https://host/v1/``) means; None for a key with a namespace."""
    bare = key.removeprefix("https://").removeprefix("http://")
    host, _, rest = bare.partition("/")
    if rest and bare == key:
        return None
    return host if not rest or rest.strip("/") in ("v1", "v2") else None


def _same_key(key: str, host: str) -> bool:
    return key == host or ("/" not in host and _normal_host(key) in _aliases(host))


def _decode(entry: Any, key: str, file: Path) -> Credentials | None:
    """One entry of ``auths``; None for an empty one, which only marks that a helper has it."""
    if not isinstance(entry, dict):
        raise StorageError(f"the entry {key!r} of {file} is not an object")
    token = entry.get("identitytoken")
    token = token if isinstance(token, str) and token else None
    auth = entry.get("auth")
    if not isinstance(auth, str) or not auth.strip():
        return Credentials(identity_token=token) if token else None
    try:
        pair = base64.b64decode("".join(auth.split()), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as exc:
        raise StorageError(f"the entry {key!r} of {file} is not base64 of user:password") from exc
    username, colon, password = pair.rstrip("\0").partition(":")
    if not colon:
        raise StorageError(f"the entry {key!r} of {file} is not base64 of user:password")
    return Credentials(username, password or None, token)


def _entry(credentials: Credentials) -> dict[str, str]:
    pair = f"{credentials.username or ''}:{credentials.password or ''}"
    entry = {"auth": base64.b64encode(pair.encode()).decode("ascii")}
    if credentials.identity_token is not None:
        entry["identitytoken"] = credentials.identity_token
    return entry


def _helper(document: dict[str, Any], host: str, file: Path) -> str | None:
    helpers = document.get("credHelpers")
    if isinstance(helpers, dict):
        for key, name in helpers.items():
            if isinstance(name, str) and name and _same_key(key, host):
                return f"the credential helper {name!r} (credHelpers of {file})"
    marked = [k for k in _auths(document, file) if _same_key(k, host)]
    store = document.get("credsStore")
    if isinstance(store, str) and store and marked:
        return f"the credential helper {store!r} (credsStore of {file})"
    return None


def _auths(document: dict[str, Any], file: Path) -> dict[str, Any]:
    auths = document.get("auths")
    if auths is None:
        return {}
    if not isinstance(auths, dict):
        raise StorageError(f"auths in {file} is not an object")
    return auths


def _check_key(host: str) -> None:
    name, _, namespace = host.partition("/")
    if not name or "@" in host or ":" in namespace or "://" in host or host.endswith("/"):
        raise InvalidInputError(f"{host!r} is not a registry host or host/namespace")


def _read(file: Path) -> dict[str, Any] | None:
    """The document in ``file``; None if there is no file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"credential file {file} cannot be read: {exc.strerror}") from exc
    if not data.strip():
        return {}
    what = f"credential file {file}"
    try:
        return strictjson.as_object(strictjson.loads(data, what, cap=MAX_FILE), what)
    except InvalidManifestError as exc:
        raise StorageError(exc.message) from exc


def _write(file: Path, document: dict[str, Any]) -> None:
    """Replace ``file`` at once; readable by its owner only, from its first byte on."""
    target = file.resolve()  # a symlink to the real file stays one
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump(document, stream, indent="\t")
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as exc:
        raise StorageError(f"credential file {file} cannot be written: {exc.strerror}") from exc
