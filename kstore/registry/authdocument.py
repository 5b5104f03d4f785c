"""What stands in one credential file: entries by name, and the helper programs it points to.

Source: containers-auth.json(5); docker's config.json as ``docker login`` writes it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from kstore import strictjson
from kstore.errors import InvalidManifestError, StorageError
from kstore.registry.credentials import DOCKER_ALIASES, DOCKER_KEY, Credentials

__all__ = ["MAX_FILE", "AuthDocument", "aliases"]

#: Bytes of the largest credential file that is read.
MAX_FILE = 1024 * 1024


class AuthDocument:
    """The content of a credential file; ``what`` names it in errors, all of which are StorageError.

    ``flat``: the file is a ``.dockercfg``, all of which is what ``auths`` is elsewhere.
    """

    def __init__(self, data: dict[str, Any], what: str, *, flat: bool = False) -> None:
        self.data = data
        self._what = what
        self._flat = flat

    @classmethod
    def parse(cls, content: bytes, what: str, *, flat: bool = False) -> AuthDocument:
        """The document in ``content``; of nothing but white space, an empty one."""
        if not content.strip():
            return cls({}, what, flat=flat)
        try:
            data = strictjson.as_object(strictjson.loads(content, what, cap=MAX_FILE), what)
        except InvalidManifestError as exc:
            raise StorageError(exc.message) from exc
        return cls(data, what, flat=flat)

    def entry(self, host: str, path: str) -> Credentials | None:
        """The credentials under the most specific key for a repository; None without one."""
        auths = self._auths()
        for wanted in _keys(host, "" if self._flat else path):
            if wanted in auths:
                found = self._decode(wanted, auths[wanted])
                if found is not None:
                    return found
        for key, value in auths.items():  # with a scheme, a /v1/ suffix, or docker's other names
            if _normal_host(key) in aliases(host):
                found = self._decode(key, value)
                if found is not None:
                    return found
        return None

    def entries(self) -> Iterator[tuple[str, Credentials]]:
        """Every key, as it is written, and the credentials under it."""
        for key, value in self._auths().items():
            found = self._decode(key, value)
            if found is not None:
                yield key, found

    def helper(self, host: str) -> tuple[str, str] | None:
        """The helper named for ``host`` alone (``credHelpers``), and the key it stands under."""
        for key, name in self.helpers():
            if _same_key(key, host):
                return name, key
        return None

    def helpers(self) -> Iterator[tuple[str, str]]:
        """``(key, helper)`` of every registry with a helper of its own."""
        helpers = self.data.get("credHelpers")
        if isinstance(helpers, dict) and not self._flat:
            for key, name in helpers.items():
                if isinstance(name, str) and name:
                    yield key, name

    @property
    def store(self) -> str | None:
        """The helper for every other registry (``credsStore``)."""
        store = self.data.get("credsStore")
        return store if isinstance(store, str) and store and not self._flat else None

    def is_marked(self, host: str) -> bool:
        """Whether ``host`` has an entry, be it an empty one: a helper has its credentials then."""
        return any(_same_key(key, host) for key in self._auths())

    def put(self, host: str, credentials: Credentials | None) -> None:
        """Set the entry of ``host`` (or ``host/namespace``); None leaves a mark only."""
        self.remove(host)
        auths = self._auths()
        auths[DOCKER_KEY if host in DOCKER_ALIASES else host] = (
            {} if credentials is None else _entry(credentials)
        )
        self._set(auths)

    def remove(self, host: str) -> bool:
        """Remove the entries of ``host``; whether there were any."""
        auths = self._auths()
        keys = [key for key in auths if _same_key(key, host)]
        for key in keys:
            del auths[key]
        self._set(auths)
        return bool(keys)

    def clear(self) -> bool:
        """Remove every entry; whether there were any."""
        had = bool(self._auths())
        self._set({})
        return had

    def _set(self, auths: dict[str, Any]) -> None:
        if self._flat:
            self.data = auths
        elif auths or "auths" in self.data:
            self.data["auths"] = auths

    def _auths(self) -> dict[str, Any]:
        auths = self.data if self._flat else self.data.get("auths")
        if auths is None:
            return {}
        if not isinstance(auths, dict):
            raise StorageError(f"auths in {self._what} is not an object")
        return auths

    def _decode(self, key: str, entry: Any) -> Credentials | None:
        """One entry; None for an empty one, which only marks that a helper has it."""
        if not isinstance(entry, dict):
            raise StorageError(f"the entry {key!r} of {self._what} is not an object")
        token = entry.get("identitytoken")
        token = token if isinstance(token, str) and token else None
        auth = entry.get("auth")
        if not isinstance(auth, str) or not auth.strip():
            user, password = entry.get("username"), entry.get("password")
            if isinstance(user, str) and user and isinstance(password, str) and password:
                return Credentials(user, password, token)  # as Kubernetes secrets may have it
            return Credentials(identity_token=token) if token else None
        wrong = f"the entry {key!r} of {self._what} is not base64 of user:password"
        try:
            pair = base64.b64decode("".join(auth.split()), validate=True).decode("utf-8")
        except (binascii.Error, ValueError) as exc:
            raise StorageError(wrong) from exc
        username, colon, password = pair.rstrip("\0").partition(":")
        if not colon:
            raise StorageError(wrong)
        return Credentials(username, password or None, token)


def aliases(host: str) -> frozenset[str]:
    """The names that mean the same registry as ``host``."""
    return DOCKER_ALIASES if host in DOCKER_ALIASES else frozenset({host})


def _keys(host: str, path: str) -> Iterator[str]:
    """The keys that may hold the credentials of a repository, most specific first."""
    parts = path.split("/") if path else []
    for count in range(len(parts), -1, -1):
        for name in (host, *sorted(aliases(host) - {host})):
            yield "/".join((name, *parts[:count]))


def _normal_host(key: str) -> str | None:
    """The host a legacy key (``https://host/v1/``) means, whatever its path, as for docker; None
    for a key with a namespace."""
    bare = key.removeprefix("https://").removeprefix("http://")
    host, _, rest = bare.partition("/")
    return None if rest and bare == key else host


def _same_key(key: str, host: str) -> bool:
    return key == host or ("/" not in host and _normal_host(key) in aliases(host))


def _entry(credentials: Credentials) -> dict[str, str]:
    pair = f"{credentials.username or ''}:{credentials.password or ''}"
    entry = {"auth": base64.b64encode(pair.encode()).decode("ascii")}
    if credentials.identity_token is not None:
        entry["identitytoken"] = credentials.identity_token
    return entry
