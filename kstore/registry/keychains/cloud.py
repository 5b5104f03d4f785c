"""Registries of the clouds: asked for through the clouds' own credential helpers, if installed.

Source: the documentation of amazon-ecr-credential-helper, docker-credential-gcr, gcloud, and
docker-credential-acr-env.
"""

from __future__ import annotations

import re

from kstore.errors import AuthError
from kstore.registry.credentials import CredentialLookup, Credentials
from kstore.registry.keychains import KeychainSettings

__all__ = ["cloud", "helpers_for"]

_HELPERS = (
    (
        re.compile(
            r"\d{12}\.dkr[.-]ecr(?:-fips)?\.[a-z0-9-]+\.(?:amazonaws\.com(?:\.cn)?|on\.aws)\Z"
        ),
        ("ecr-login",),
    ),
    (re.compile(r"(?:public\.ecr\.aws|ecr-public\.aws\.com)\Z"), ("ecr-login",)),
    (re.compile(r"(?:[a-z0-9-]+\.)?gcr\.io\Z|[a-z0-9-]+-docker\.pkg\.dev\Z"), ("gcr", "gcloud")),
    (re.compile(r"[a-z0-9-]+\.azurecr\.(?:io|cn|de|us)\Z"), ("acr-env", "acr-login")),
)


def helpers_for(host: str) -> tuple[str, ...]:
    """The helpers that know the registry ``host``, the usual one first; empty for other hosts."""
    for pattern, names in _HELPERS:
        if pattern.match(host):
            return names
    return ()


def cloud(settings: KeychainSettings) -> CredentialLookup:
    """The keychain ``cloud``."""

    def lookup(host: str, path: str) -> Credentials | None:
        for name in helpers_for(host):
            if not settings.programs.is_installed(name):
                continue
            try:
                return settings.programs.get(name, host)
            except AuthError as error:
                # Nobody asked for this helper by name, and public images need no credentials.
                settings.warn(f"{host} is asked without credentials: {error.message}")
                return None
        return None

    return lookup
