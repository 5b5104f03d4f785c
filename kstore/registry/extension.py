"""Signatures that a registry keeps itself and offers by an extension of its API (OpenShift's).

A registry says that it can with ``X-Registry-Supports-Signatures: 1`` in its answers.

Source: containers/image, docs/signature-protocols.md, "X-Registry-Supports-Signatures".
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from collections.abc import Sequence

from kstore import strictjson
from kstore.digest import Digest
from kstore.errors import IntegrityError, InvalidManifestError
from kstore.registry.auth import repository_scope
from kstore.registry.exchange import Exchange, Load
from kstore.registry.lookaside import MAX_SIGNATURES
from kstore.registry.targets import signatures_target

__all__ = ["SignatureExtension"]

MAX_LIST = 4 << 20


class SignatureExtension:
    """The signature methods of RegistryClient, which has their contract."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def add(self, path: str, digest: Digest, signatures: Sequence[bytes]) -> None:
        from kstore.registry.messages import Payload

        there = self.read(path, digest)
        for content in dict.fromkeys(signatures):
            if content in there:
                continue
            document = {
                "schemaVersion": 2,
                "name": f"{digest}@{secrets.token_hex(16)}",
                "type": "atomic",
                "content": base64.b64encode(content).decode(),
            }
            response = self._exchange.request(
                "PUT",
                signatures_target(path, digest),
                path=path,
                scopes=(repository_scope(path, "pull", "push"),),
                headers={"Content-Type": "application/json"},
                payload=Payload.of(json.dumps(document).encode()),
            )
            if response.status != 201:
                refusal = self._exchange.refusal(response)
                raise self._exchange.error(refusal, f"a signature of manifest {digest}", path)
            response.discard()

    def read(self, path: str, digest: Digest) -> Sequence[bytes]:
        what = f"the signatures of manifest {digest} at {self._exchange.host}"
        response = self._exchange.request(
            "GET",
            signatures_target(path, digest),
            path=path,
            scopes=(repository_scope(path, "pull"),),
            load=Load(MAX_LIST, what),
        )
        if response.status != 200:
            raise self._exchange.error(self._exchange.refusal(response), what, path)
        document = strictjson.as_object(
            strictjson.loads(response.body, what, cap=MAX_LIST, exact_keys=True), what
        )
        items = document.get("signatures") or []
        if not isinstance(items, list):
            raise InvalidManifestError(f"{what} are not a list")
        if len(items) > MAX_SIGNATURES:
            raise IntegrityError(f"there are more than {MAX_SIGNATURES} of {what}")
        found = [_simple(strictjson.as_object(item, what), what) for item in items]
        return [entry for entry in found if entry is not None]


def _simple(item: dict[str, object], what: str) -> bytes | None:
    """The content of one that is a simple signature, None for other kinds."""
    if item.get("schemaVersion") != 2 or item.get("type") != "atomic":
        return None
    try:
        return base64.b64decode(str(item.get("content")), validate=True)
    except binascii.Error as exc:
        raise InvalidManifestError(f"one of {what} is not base64") from exc
