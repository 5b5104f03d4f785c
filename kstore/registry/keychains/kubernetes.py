"""The keychain ``kubernetes``: pull secrets in files, and those of this pod's service account.

Source: Kubernetes API reference (ServiceAccount, Secret); "Accessing the API from a Pod".
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kstore import strictjson
from kstore.errors import AuthError, InvalidManifestError, KstoreError, RemoteError, StorageError
from kstore.registry.authdocument import AuthDocument
from kstore.registry.credentials import CredentialLookup, Credentials
from kstore.registry.hosts import TlsFiles
from kstore.registry.keychains import KeychainSettings
from kstore.registry.keychains.pullsecrets import best_match, documents_in, documents_of
from kstore.registry.urls import Url

__all__ = ["kubernetes"]

_MAX_ANSWER = 2 * 1024 * 1024  # a secret is at most 1 MiB
_MAX_SECRETS = 64
_MAX_TOKEN = 64 * 1024
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z", re.ASCII)


def kubernetes(settings: KeychainSettings) -> CredentialLookup:
    """The keychain ``kubernetes``; secrets are read once, when first needed.

    A look-up raises StorageError, AuthError and RemoteError.
    """

    @functools.cache
    def documents() -> tuple[AuthDocument, ...]:
        found = [doc for path in settings.pull_secrets for doc in documents_in(path)]
        if settings.kubernetes is not None and not settings.pull_secrets:
            found += _of_service_account(settings, settings.kubernetes)
        return tuple(found)

    def lookup(host: str, path: str) -> Credentials | None:
        return best_match(documents(), host, path)

    return lookup


def _of_service_account(settings: KeychainSettings, server: str) -> Iterator[AuthDocument]:
    from kstore.registry.http import Http

    place = settings.service_account
    token, namespace = _read(place / "token"), _read(place / "namespace")
    account = _account(token, place)
    http = Http(settings.registry, lambda: TlsFiles((place / "ca.crt",)))
    api = Url.parse(f"https://{server}/", "the address of the Kubernetes API")

    def ask(kind: str, name: str) -> dict[str, Any]:
        what = f"{kind[:-1]} {name} of namespace {namespace}"
        if _NAME.match(name) is None or _NAME.match(namespace) is None:
            raise StorageError(f"{what[:300]!r} has a name Kubernetes does not allow")
        response = http.send(
            "GET",
            Url(api.origin, f"/api/v1/namespaces/{namespace}/{kind}/{name}"),
            {
                "Authorization": f"Bearer {token}",
                "Accept": "application/json",
                "User-Agent": settings.registry.user_agent,
            },
            None,
            cancel=settings.cancel,
            patience=settings.registry.response_timeout,
            allowance=_MAX_ANSWER,
        )
        if response.status != 200:
            response.close()
            kind_of = AuthError if response.status in (401, 403) else RemoteError
            raise kind_of(f"the Kubernetes API answered {response.status} to {what}")
        response.load(_MAX_ANSWER, what)
        try:
            loaded = strictjson.loads(response.body, what, cap=_MAX_ANSWER)
            return strictjson.as_object(loaded, what)
        except InvalidManifestError as exc:
            raise RemoteError(exc.message) from exc

    try:
        for name in _secret_names(ask("serviceaccounts", account)):
            try:
                secret = ask("secrets", name)
            except KstoreError as error:
                # As the kubelet does: one secret that is gone does not make the others useless.
                settings.warn(f"pull secret {name} is not used: {error.message}")
                continue
            yield from documents_of(secret, f"pull secret {name}")
    finally:
        http.close()


def _secret_names(account: dict[str, Any]) -> list[str]:
    listed = account.get("imagePullSecrets")
    names = [item.get("name") for item in listed or () if isinstance(item, dict)]
    return [name for name in names if isinstance(name, str)][:_MAX_SECRETS]


def _account(token: str, place: Path) -> str:
    """The account a token is for: its subject, ``system:serviceaccount:NAMESPACE:NAME``."""
    parts = token.split(".")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        subject = json.loads(payload)["sub"]
        _, kind, _, name = subject.split(":")
        if kind == "serviceaccount":
            return str(name)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    raise StorageError(f"{place / 'token'} is not the token of a service account")


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_MAX_TOKEN).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise StorageError(f"{file}, which a pod has, cannot be read") from exc
