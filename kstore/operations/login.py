"""Keep and forget credentials for registries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from kstore.errors import AuthError, InvalidInputError, NotFoundError, StorageError
from kstore.reference import has_domain
from kstore.registry import AuthFiles, Credentials, RegistryClient, RegistrySettings
from kstore.registry.targets import is_path
from kstore.values import dataclass

__all__ = ["LoginResult", "default_registry", "log_in", "log_out", "logged_in_as", "registry_key"]


@dataclass(frozen=True, slots=True)
class LoginResult:
    """The registry, and where its credentials are now: a file, or a helper program's name."""

    registry: str
    place: Path | str


def default_registry(search: Sequence[str]) -> str:
    """The registry that is meant where none is named: the first of those to ``search`` in for
    short names.

    Raises InvalidInputError if there is none: nobody's password goes to a registry by default.
    """
    if not search:
        raise InvalidInputError(
            "no registry was named, and registries.conf has no unqualified-search-registries",
            hint="name one, for example docker.io",
        )
    return search[0]


def log_in(
    registry: str,
    credentials: Credentials,
    files: AuthFiles,
    settings: RegistrySettings,
    *,
    warn: Callable[[str], None] | None = None,
) -> LoginResult:
    """Try ``credentials`` on ``registry``, and keep them if it takes them.

    ``registry`` is ``host[:port]``, with ``/namespace`` if the credentials are for that part of it
    alone.  Raises InvalidInputError for a name that is no registry (or for a namespace, if
    ``files`` knows only whole ones), AuthError if they are refused
    (nothing is written then), RemoteError if the registry cannot be asked, StorageError.
    """
    key = registry_key(registry)
    host, _, namespace = key.partition("/")
    if namespace and files.whole_registries:
        raise InvalidInputError(
            f"docker keeps credentials of whole registries, not of {key}",
            hint=f"kstore login --authfile FILE {key}",
        )
    with RegistryClient(host, settings, lambda *_: credentials, warn=warn) as client:
        try:
            client.ping()
        except AuthError as exc:
            raise AuthError(exc.message) from exc  # its hint would be: kstore login
    try:
        return LoginResult(key, files.store(key, credentials))
    except StorageError as exc:
        raise type(exc)(exc.message, hint=exc.hint or "kstore login --authfile FILE ...") from exc


def logged_in_as(registry: str, files: AuthFiles) -> str:
    """The user name kept for ``registry``; AuthError if there is none."""
    key = registry_key(registry)
    host, _, path = key.partition("/")
    found = files.lookup(host, path)
    if found is None or not found.username:
        raise AuthError(f"not logged in to {key}", hint=f"kstore login {key}")
    return found.username


def log_out(registry: str | None, files: AuthFiles, *, everywhere: bool = False) -> Path | str:
    """Forget the credentials of ``registry``, or all of them; returns the file or helper program
    that was changed.

    Raises NotFoundError if there are none for ``registry``.
    """
    if everywhere:
        if registry is not None:
            raise InvalidInputError("--all takes no registry name")
        return files.erase_all()
    if registry is None:
        raise InvalidInputError("say which registry to log out from, or all of them")
    key = registry_key(registry)
    try:
        return files.erase(key)
    except NotFoundError as exc:
        raise NotFoundError(f"not logged in to {key}") from exc


def registry_key(registry: str) -> str:
    """``host[:port][/namespace]`` out of what people write, scheme and slash included.

    Raises InvalidInputError.
    """
    key = registry.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, path = key.partition("/")
    wrong = not host or "@" in host or any(char.isspace() for char in host)
    if wrong or (slash and not (has_domain(key) and is_path(path))):
        raise InvalidInputError(f"{registry[:200]!r} is not a registry (HOST[:PORT][/NAMESPACE])")
    return key
