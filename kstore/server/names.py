"""Repository paths in URLs, and the names of the store they mean.

Names in the store say which registry they belong to; paths of this registry do not.  A path ``P``
means, for reading, the first of these repositories that has the wanted tag:

1. ``P`` itself, if its first component is a registry host (``quay.io/team/app``); a port, which a
   path cannot spell, is written with ``_`` (``registry.example_5000/app``);
2. ``localhost/P``, where images are that were made here;
3. ``docker.io/P``, or ``docker.io/library/P`` for a single component;
4. ``host:port/...`` for a host without dots (``registry_5000/app``).

What is pushed to ``P`` gets the first name of that list: itself with a host, else ``localhost/P``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kstore.errors import InvalidReferenceError
from kstore.reference import DEFAULT_DOMAIN, LOCAL_DOMAIN, Named, has_domain

__all__ = ["path_of", "paths_of", "repositories_for"]

_HOST_AND_PORT = re.compile(r"(.+)_([0-9]{1,5})", re.ASCII)


def repositories_for(path: str) -> tuple[Named, ...]:
    """The repositories ``path`` may mean, most wanted first; a push goes to the first.

    Raises InvalidReferenceError if it follows no repository grammar.
    """
    first, slash, rest = path.partition("/")
    match = _HOST_AND_PORT.fullmatch(first)
    host = f"{match[1]}:{match[2]}" if match else first
    explicit = bool(slash) and has_domain(f"{match[1] if match else first}/{rest}")

    found: list[Named] = []
    if explicit:
        found += _valid(host, rest)
    found += _valid(LOCAL_DOMAIN, path)
    found += _valid(DEFAULT_DOMAIN, path)
    if match and slash and not explicit:
        found += _valid(host, rest)
    if not found:
        Named(LOCAL_DOMAIN, path)  # raises, and says what is wrong
        raise InvalidReferenceError(f"{path[:120]!r} is not a repository path")
    return tuple(dict.fromkeys(found))


def path_of(repository: Named, stored: frozenset[str]) -> str:
    """A path that leads to ``repository``; the short one if nothing in ``stored`` hides it."""
    if repository.domain == LOCAL_DOMAIN:
        meant = [each for each in repositories_for(repository.path) if each.repository in stored]
        if meant[:1] == [repository]:
            return repository.path
    return f"{repository.domain.replace(':', '_')}/{repository.path}"


def paths_of(repositories: Iterable[str]) -> list[str]:
    """The catalog: for each stored repository a path it can be pulled by, sorted."""
    stored = frozenset(repositories)
    return sorted({path_of(_repository(text), stored) for text in stored})


def _repository(text: str) -> Named:
    domain, _, path = text.partition("/")
    return Named(domain, path)


def _valid(domain: str, path: str) -> list[Named]:
    try:
        Named(LOCAL_DOMAIN, path)  # first: "path" must not smuggle in a tag or digest
        return [Named.parse(f"{domain}/{path}")]
    except InvalidReferenceError:
        return []
