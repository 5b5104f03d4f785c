"""The client side of registries: manifests, blobs, tags, and the credentials they ask for.

Importing this package loads no HTTP machinery; that happens with a client's first request.

Source: OCI distribution specification 1.1; the token authentication pages of the distribution
project.
"""

from __future__ import annotations

from kstore.registry.authfiles import AuthFiles
from kstore.registry.client import RegistryClient
from kstore.registry.credentials import CredentialLookup, Credentials, parse_creds
from kstore.registry.download import BlobDownload
from kstore.registry.settings import RegistrySettings

__all__ = [
    "AuthFiles",
    "BlobDownload",
    "CredentialLookup",
    "Credentials",
    "RegistryClient",
    "RegistrySettings",
    "parse_creds",
]
