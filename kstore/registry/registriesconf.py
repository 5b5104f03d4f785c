"""What registries.conf says about names: mirrors, other addresses, blocks, and short names.

Values and look-ups only; ``registriesfiles`` reads them.

Source: containers-registries.conf(5), version 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from kstore.errors import InvalidInputError, InvalidReferenceError, PolicyRejectedError
from kstore.reference import Named, has_domain
from kstore.values import dataclass

__all__ = ["Mirror", "Peer", "Place", "PullFrom", "RegistriesConf", "Registry", "ShortNameMode"]

PullFrom = Literal["all", "digest-only", "tag-only"]
ShortNameMode = Literal["enforcing", "permissive", "disabled"]

WILDCARD = "*."


@dataclass(frozen=True, slots=True)
class Mirror:
    """Another address of a registry; ``pull`` says for which references it is asked."""

    location: str
    insecure: bool = False
    pull: PullFrom = "all"

    def serves(self, named: Named) -> bool:
        """Whether ``named`` may be pulled from here."""
        if self.pull == "all":
            return True
        return (named.digest is not None) == (self.pull == "digest-only")


@dataclass(frozen=True, slots=True)
class Registry:
    """What one ``[[registry]]`` table of ``file`` says.

    ``location`` takes the place of ``prefix`` in a name; it is empty for a ``*.`` prefix that
    rewrites nothing.
    """

    prefix: str
    location: str
    file: Path
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[Mirror, ...] = ()


@dataclass(frozen=True, slots=True)
class Peer:
    """A server, and how it is met.

    ``insecure``: by plain HTTP or with any certificate, if the user does not insist otherwise;
    ``mirror``: as one that there is another for; ``foreign``: under a name the user did not write,
    so that credentials given for that name are none of its business.
    """

    host: str
    insecure: bool = False
    mirror: bool = False
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """A server's copy of an image: who has it, and the name it has there.

    ``besides``: why others that may have it are not asked.
    """

    named: Named
    peer: Peer
    besides: str | None = None

    def __str__(self) -> str:
        return self.named.repository


@dataclass(frozen=True, slots=True)
class RegistriesConf:
    """The sum of all configuration files.

    ``registries`` by prefix; ``aliases``: short name to repository, empty for one that was taken
    back; ``search``: registries a short name may mean; ``helpers``: where credentials are looked
    for, in order, None if nothing says so; ``warnings`` tell what was not understood.
    """

    registries: Mapping[str, Registry] = field(default_factory=lambda: MappingProxyType({}))
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    search: tuple[str, ...] = ()
    mode: ShortNameMode = "permissive"
    helpers: tuple[str, ...] | None = None
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    def find(self, name: str) -> Registry | None:
        """The table with the longest prefix of ``name``, a ``host[:port][/path]``."""
        if not self.registries:
            return None
        for prefix in _prefixes(name):
            found = self.registries.get(prefix)
            if found is not None:
                return found
        return None

    def check_allowed(self, name: str) -> Registry | None:
        """As :meth:`find`; PolicyRejectedError for a name that is blocked."""
        found = self.find(name)
        if found is not None and found.blocked:
            raise PolicyRejectedError(_blocks(found, name))
        return found

    def places(self, named: Named) -> tuple[Place, ...]:
        """Where ``named`` is pulled from: mirrors in order, then the registry itself.

        Mirrors of a blocked registry serve, as for podman, and the last stands for it; a server is
        blocked by the table for the name that it is asked by, too.  Raises PolicyRejectedError if
        nobody is left, InvalidInputError where a location makes no name of it.
        """
        found = self.find(named.repository)
        if found is None:
            return (Place(named, Peer(named.domain)),)
        places = [
            _place(named, found, mirror.location, mirror.insecure, mirror=True)
            for mirror in found.mirrors
            if mirror.serves(named)
        ]
        blocked = []
        if found.blocked:
            blocked = [_blocks(found, named.repository)]
        else:
            places.append(_place(named, found, found.location, found.insecure, mirror=False))
        return self._allowed(places, blocked)

    def _allowed(self, places: Sequence[Place], blocked: Sequence[str]) -> tuple[Place, ...]:
        """Those of ``places`` that are not blocked; ``blocked`` says why others are."""
        names = [place.named.repository for place in places]
        tables = [self.find(name) for name in names]
        why = [
            _blocks(table, name) if table is not None and table.blocked else None
            for table, name in zip(tables, names, strict=True)
        ]
        reasons = [*blocked, *filter(None, why)]
        left = [place for place, reason in zip(places, why, strict=True) if reason is None]
        if not reasons:
            return tuple(left)
        if not left:
            raise PolicyRejectedError(reasons[-1])
        *mirrors, last = left
        peer = replace(last.peer, mirror=False)
        return (*mirrors, replace(last, peer=peer, besides="; ".join(reasons)))


def _blocks(table: Registry, name: str) -> str:
    return f"{name} is blocked: {table.file} blocks the registry {table.prefix}"


def _prefixes(name: str) -> Iterator[str]:
    """Every prefix a table for ``name`` may have, longest text first."""
    host_end = next((at for at, char in enumerate(name) if char in ":/@"), len(name))
    cuts = [len(name), *(at for at in range(len(name) - 1, 0, -1) if name[at] in ":/@")]
    exact = [name[:cut] for cut in cuts]
    labels = name[:host_end].split(".")
    wild = [WILDCARD + ".".join(labels[count:]) for count in range(1, len(labels))]
    # Equal lengths cannot be equal prefixes: one begins with a star.
    return iter(sorted(exact + wild, key=len, reverse=True))


def _place(
    named: Named, registry: Registry, location: str, insecure: bool, *, mirror: bool
) -> Place:
    if not location:
        return Place(named, Peer(named.domain, insecure, mirror))
    repository = named.repository
    if registry.prefix.startswith(WILDCARD):
        end = next((at for at, char in enumerate(repository) if char in ":/@"), len(repository))
    else:
        end = len(registry.prefix)
    text = location + repository[end:]
    try:
        if not has_domain(text):
            raise InvalidReferenceError(f"{text!r} names no registry")
        there = Named.parse(text)
        there = replace(there, tag=named.tag, digest=named.digest)
    except InvalidReferenceError as exc:
        raise InvalidInputError(
            f"{registry.file} makes {text!r:.300} of {named}, which is no image name: {exc.message}"
        ) from exc
    peer = Peer(there.domain, insecure, mirror, foreign=there.domain != named.domain)
    return Place(there, peer)
