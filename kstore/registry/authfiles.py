"""The files credentials are kept in: which are read, in which order, and how one is changed.

Source: containers-auth.json(5) and ``credential-helpers`` of containers-registries.conf(5).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import field
from pathlib import Path

from kstore.errors import InvalidInputError, NotFoundError, StorageError
from kstore.registry.authdocument import MAX_FILE, AuthDocument
from kstore.registry.credential_programs import CredentialPrograms
from kstore.registry.credentials import DOCKER_ALIASES, DOCKER_KEY, Credentials
from kstore.registry.privatefile import changing, replace_private
from kstore.values import dataclass

__all__ = ["FILES", "AuthFiles"]

#: What ``credential-helpers`` calls the files.
FILES = "containers-auth.json"
_LEGACY = ".dockercfg"


@dataclass(frozen=True, slots=True)
class AuthFiles:
    """Credential files, first match wins; with ``explicit`` no other file is looked at.

    New credentials go to ``explicit`` or the first of ``paths``.  ``order``: names of helper
    programs, asked for every registry, and :data:`FILES` for the files; ``programs`` runs them.
    ``whole_registries``: the files are docker's, too, which knows no credentials of a namespace.
    """

    paths: tuple[Path, ...] = ()
    explicit: Path | None = None
    order: tuple[str, ...] = (FILES,)
    programs: CredentialPrograms = field(default_factory=CredentialPrograms, compare=False)
    whole_registries: bool = False

    def lookup(self, host: str, path: str) -> Credentials | None:
        """The credentials for a repository: the most specific key of the first place with one.

        Raises AuthError where a helper program is needed and fails (nobody else is asked then),
        StorageError for a file that cannot be read or understood.
        """
        for place in self.order:
            found = self._in_files(host, path) if place == FILES else self._ask(place, host)
            if found is not None:
                return found
        return None

    def _in_files(self, host: str, path: str) -> Credentials | None:
        for file in self._files():
            document = _read(file)
            found = self._in_document(document, host, path) if document is not None else None
            if found is not None:
                return found
        return None

    def _in_document(self, document: AuthDocument, host: str, path: str) -> Credentials | None:
        named = document.helper(host)
        if named is not None and (found := self._ask(named[0], host, named[1])) is not None:
            return found
        found = document.entry(host, path)
        store = document.store
        if found is not None or store is None:
            return found
        # Without a mark nothing says that there are credentials: a program that is gone is no loss.
        if document.is_marked(host) or self.programs.is_installed(store):
            return self._ask(store, host)
        return None

    def _ask(self, program: str, host: str, key: str | None = None) -> Credentials | None:
        for server in dict.fromkeys((*([key] if key else []), _server(host), host)):
            found = self.programs.get(program, server)
            if found is not None:
                return found
        return None

    def store(self, host: str, credentials: Credentials) -> Path | str:
        """Keep credentials for ``host`` (or ``host/namespace``); returns the file they are in, or
        the name of the helper program that has them now."""
        _check_key(host)
        first = self.order[0] if self.order else FILES
        if first != FILES:
            self._hand_over(first, host, _server(host), credentials)
            return first
        with _changing(self._target()) as document:
            named, store = document.helper(host), document.store
            if named is not None:
                self._hand_over(named[0], host, named[1], credentials)
                return named[0]
            if store is not None:
                self._hand_over(store, host, _server(host), credentials)
                document.put(host, None)
                return store
            document.put(host, credentials)
        return self._target()

    def _hand_over(self, program: str, host: str, server: str, credentials: Credentials) -> None:
        if "/" in host:
            raise InvalidInputError(
                f"credential helper {program} keeps credentials of whole registries, not of {host}"
            )
        self.programs.store(program, server, credentials)

    def erase(self, host: str) -> Path | str:
        """Remove the credentials for ``host`` where they are; NotFoundError if there are none."""
        _check_key(host)
        for place in self.order:
            if place == FILES:
                for file in self._files():
                    changed = self._erase_in(file, host)
                    if changed is not None:
                        return changed
            elif self._forget(place, host):
                return place
        raise NotFoundError(f"no credentials for {host} are stored")

    def _erase_in(self, file: Path, host: str) -> Path | str | None:
        if _read(file) is None:
            return None
        with _changing(file) as document:
            named, store = document.helper(host), document.store
            if named is not None and self._forget(named[0], host, named[1]):
                return named[0]
            forgotten = store is not None and document.is_marked(host) and self._forget(store, host)
            if document.remove(host):
                return file
            return store if forgotten else None

    def _forget(self, program: str, host: str, key: str | None = None) -> bool:
        for server in dict.fromkeys((*([key] if key else []), _server(host), host)):
            if self.programs.get(program, server) is not None:
                self.programs.erase(program, server)
                return True
        return False

    def erase_all(self) -> Path:
        """Remove every credential from the file that new ones go to, and from the helpers that it
        and the order name; other keys stay."""
        for place in self.order:
            if place != FILES:
                for server in self.programs.servers(place):
                    self.programs.erase(place, server)
        file = self._target()
        if _read(file) is None:
            return file
        with _changing(file) as document:
            for key, name in document.helpers():
                if self.programs.get(name, key) is not None:
                    self.programs.erase(name, key)
            if document.store is not None:
                for server in self.programs.servers(document.store):
                    self.programs.erase(document.store, server)
            document.clear()
        return file

    def _files(self) -> tuple[Path, ...]:
        return (self.explicit,) if self.explicit is not None else self.paths

    def _target(self) -> Path:
        files = self._files()
        if not files:
            raise InvalidInputError("no file for credentials is configured")
        return files[0]


def _server(host: str) -> str:
    """What a helper program calls a registry."""
    return DOCKER_KEY if host in DOCKER_ALIASES else host


def _check_key(host: str) -> None:
    name, _, namespace = host.partition("/")
    if not name or "@" in host or ":" in namespace or "://" in host or host.endswith("/"):
        raise InvalidInputError(f"{host!r} is not a registry host or host/namespace")


def _read(file: Path) -> AuthDocument | None:
    """The document in ``file``; None if there is no file."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageError(f"credential file {file} cannot be read: {exc.strerror}") from exc
    return AuthDocument.parse(data, f"credential file {file}", flat=file.name == _LEGACY)


@contextlib.contextmanager
def _changing(file: Path) -> Iterator[AuthDocument]:
    """The document in ``file``, to change; written back at the end, and nobody else changes it
    meanwhile."""
    what = f"credential file {file}"
    with changing(file, what) as target:
        document = _read(file) or AuthDocument.parse(b"", what, flat=file.name == _LEGACY)
        before = _text(document)
        yield document
        if _text(document) != before:
            replace_private(target, _text(document), what)


def _text(document: AuthDocument) -> str:
    return json.dumps(document.data, indent="\t") + "\n"
