"""Further sources of credentials, asked after the files: clouds, Kubernetes, and those of plugins.

A keychain is a function that takes :class:`KeychainSettings` and gives a look-up.  Packages offer
theirs under the entry point group ``kstore.keychains``; KSTORE_KEYCHAINS says which are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path

from kstore.errors import InvalidInputError
from kstore.registry.credential_programs import CredentialPrograms
from kstore.registry.credentials import CredentialLookup
from kstore.registry.settings import RegistrySettings
from kstore.streams import Cancel
from kstore.values import dataclass

__all__ = ["ENTRY_POINTS", "Keychain", "KeychainSettings", "open_keychains"]

ENTRY_POINTS = "kstore.keychains"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class KeychainSettings:
    """What a keychain may use.

    ``programs`` runs credential helpers; ``pull_secrets``: files and directories with secrets of
    Kubernetes; ``kubernetes``: ``host:port`` of the cluster this runs in, None outside of one;
    ``service_account``: where the cluster keeps this account's token; ``registry``: how to speak
    HTTP; ``warn`` shows a warning.
    """

    programs: CredentialPrograms = field(default_factory=CredentialPrograms)
    pull_secrets: tuple[Path, ...] = ()
    kubernetes: str | None = None
    service_account: Path = _SERVICE_ACCOUNT
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    cancel: Cancel = field(default_factory=Cancel)
    warn: Callable[[str], None] = lambda _: None


Keychain = Callable[[KeychainSettings], CredentialLookup]


def open_keychains(
    names: Sequence[str], settings: KeychainSettings
) -> tuple[CredentialLookup, ...]:
    """The look-ups of the keychains called ``names``, in that order.

    Raises InvalidInputError for a name nobody offers.  Nothing is asked before a look-up is used.
    """
    return tuple(_keychain(name)(settings) for name in names)


def _keychain(name: str) -> Keychain:
    if name == "cloud":
        from kstore.registry.keychains.cloud import cloud

        return cloud
    if name == "kubernetes":
        from kstore.registry.keychains.kubernetes import kubernetes

        return kubernetes
    from importlib import metadata  # takes milliseconds, which only its users pay

    for point in metadata.entry_points(group=ENTRY_POINTS, name=name):
        loaded: Keychain = point.load()
        return loaded
    known = ", ".join(("cloud", "kubernetes", *metadata.entry_points(group=ENTRY_POINTS).names))
    raise InvalidInputError(f"no keychain is called {name[:100]!r} (known: {known})")
