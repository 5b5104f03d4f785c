"""Who somebody is to a registry, and the way to ask for it.

Where credentials are kept: ``authfiles`` (files), ``credential_programs`` (helper programs),
``keychains`` (clouds, Kubernetes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from kstore.errors import InvalidInputError
from kstore.reference import DEFAULT_DOMAIN
from kstore.values import dataclass

__all__ = [
    "DOCKER_ALIASES",
    "DOCKER_KEY",
    "CredentialLookup",
    "Credentials",
    "first_of",
    "parse_creds",
    "parse_token",
]

#: What docker calls Docker Hub wherever it keeps credentials.
DOCKER_KEY = "https://index.docker.io/v1/"
DOCKER_ALIASES = frozenset({DEFAULT_DOMAIN, "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name with a password, or an identity token to trade for access tokens; or an access
    token itself (``bearer_token``)."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)
    bearer_token: str | None = field(default=None, repr=False)


#: Finds credentials by registry host (as in a name: ``docker.io``) and repository path, which is
#: empty when the registry as a whole is meant.
CredentialLookup = Callable[[str, str], Credentials | None]


def first_of(*lookups: CredentialLookup) -> CredentialLookup:
    """A lookup that gives what the first of ``lookups`` that knows anything gives."""

    def lookup(host: str, path: str) -> Credentials | None:
        for one in lookups:
            found = one(host, path)
            if found is not None:
                return found
        return None

    return lookup


def parse_creds(text: str) -> Credentials:
    """``USER:PASSWORD`` as given on a command line; the password may contain colons."""
    username, colon, password = text.partition(":")
    if not colon or not username:
        raise InvalidInputError("credentials must have the form USER:PASSWORD")
    if not username.isprintable() or not password.isprintable():
        raise InvalidInputError("user name and password must not contain control characters")
    return Credentials(username, password)


def parse_token(text: str) -> Credentials:
    """An access token as given on a command line."""
    if not text or not all("!" <= char <= "~" for char in text):
        raise InvalidInputError("a token must be printable ASCII without spaces")
    return Credentials(bearer_token=text)
