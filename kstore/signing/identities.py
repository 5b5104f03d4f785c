"""Whether the name inside a signature is the name of the image that was asked for.

``wanted`` is the image's docker name (None where its transport has none), ``signed`` the text that
the signer vouched for.  A text that is no name matches nothing.

Source: containers-policy.json(5), "Simple Signing", signedIdentity.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from kstore.errors import InvalidReferenceError
from kstore.reference import Named
from kstore.values import dataclass

__all__ = [
    "ExactReference",
    "ExactRepository",
    "Identity",
    "MatchExact",
    "MatchRepoDigestOrExact",
    "MatchRepository",
    "RemapIdentity",
]


class Identity(Protocol):
    """A kind of ``signedIdentity``; ``str()`` of it is for people."""

    def matches(self, wanted: Named | None, signed: str) -> bool: ...


def _parsed(text: str) -> Named | None:
    try:
        return Named.parse(text)
    except InvalidReferenceError:
        return None


def _is_exact(wanted: Named, signed: Named) -> bool:
    """Whether a whole name was signed, and is the wanted one.

    A digest beside a tag says no more than the signed manifest digest does, so the tag decides.
    """
    tagged = replace(wanted, digest=None) if wanted.tag else wanted
    return not signed.is_bare and signed in (wanted, tagged)


def _is_digest_or_exact(wanted: Named, signed: Named) -> bool:
    if signed.is_bare:
        return False
    if wanted.tag is None and wanted.digest is not None:
        return signed.repository == wanted.repository
    return _is_exact(wanted, signed)


@dataclass(frozen=True, slots=True)
class MatchExact(Identity):
    """The signed name, with its tag or digest, is the wanted one."""

    def matches(self, wanted: Named | None, signed: str) -> bool:
        name = _parsed(signed)
        return wanted is not None and name is not None and _is_exact(wanted, name)

    def __str__(self) -> str:
        return "for exactly the name"


@dataclass(frozen=True, slots=True)
class MatchRepoDigestOrExact(Identity):
    """As :class:`MatchExact`; an image wanted by digest may be signed under any tag."""

    def matches(self, wanted: Named | None, signed: str) -> bool:
        name = _parsed(signed)
        return wanted is not None and name is not None and _is_digest_or_exact(wanted, name)

    def __str__(self) -> str:
        return "for the name, or by digest for its repository"


@dataclass(frozen=True, slots=True)
class MatchRepository(Identity):
    """The signed name is in the wanted repository, under whatever tag or none."""

    def matches(self, wanted: Named | None, signed: str) -> bool:
        name = _parsed(signed)
        return wanted is not None and name is not None and name.repository == wanted.repository

    def __str__(self) -> str:
        return "for the repository"


@dataclass(frozen=True, slots=True)
class ExactReference(Identity):
    """The signed name is ``reference`` (which has a tag or a digest), whatever is wanted."""

    reference: Named

    def matches(self, wanted: Named | None, signed: str) -> bool:
        return _parsed(signed) == self.reference

    def __str__(self) -> str:
        return f"for {self.reference}"


@dataclass(frozen=True, slots=True)
class ExactRepository(Identity):
    """The signed name is in ``repository``, whatever is wanted."""

    repository: Named

    def matches(self, wanted: Named | None, signed: str) -> bool:
        name = _parsed(signed)
        return name is not None and name.repository == self.repository.repository

    def __str__(self) -> str:
        return f"for repository {self.repository}"


@dataclass(frozen=True, slots=True)
class RemapIdentity(Identity):
    """As :class:`MatchRepoDigestOrExact`, with ``prefix`` of the wanted name replaced first.

    Both are ``host[:port]`` or ``host[:port]/path`` and end at a ``/`` of the name.
    """

    prefix: str
    signed_prefix: str

    def matches(self, wanted: Named | None, signed: str) -> bool:
        name, origin = _parsed(signed), None if wanted is None else self._remapped(wanted)
        return origin is not None and name is not None and _is_digest_or_exact(origin, name)

    def _remapped(self, wanted: Named) -> Named | None:
        rest = wanted.repository.removeprefix(self.prefix)
        if rest == wanted.repository or (rest and not rest.startswith("/")):
            return wanted
        domain, _, path = (self.signed_prefix + rest).partition("/")
        try:
            return Named(domain, path, wanted.tag, wanted.digest)
        except InvalidReferenceError:
            return None

    def __str__(self) -> str:
        return f"for the name with {self.prefix} read as {self.signed_prefix}"
