"""Manifests at a registry.

Source: OCI distribution specification 1.1, "Pulling manifests", "Pushing manifests", "Deleting".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    DigestMismatchError,
    InvalidDigestError,
    KstoreError,
    ManifestNotFoundError,
    ManifestRejectedError,
    UnsupportedError,
)
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.registry.answers import Refusal, encoded_error, plain_text
from kstore.registry.auth import repository_scope
from kstore.registry.exchange import Exchange, Load
from kstore.registry.targets import manifest_target

if TYPE_CHECKING:
    from kstore.registry.messages import Response

__all__ = ["Manifests"]

_KNOWN = mt.MANIFESTS | mt.INDEXES | mt.SCHEMA1
_ACCEPT = {"Accept": ", ".join(mt.MANIFEST_ACCEPT)}
_TYPE_CODES = frozenset({"MANIFEST_INVALID", "UNSUPPORTED"})
#: What registries that delete by digest only answer to a tag.
_NO_TAGS = frozenset({400, 404, 405})


class Manifests:
    """The manifest methods of RegistryClient, which has their contract."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._host = exchange.host

    def get(self, path: str, reference: str | Digest) -> RawManifest:
        response = self._fetch("GET", path, reference)
        if response is None:
            raise ManifestNotFoundError(self._no_manifest(path, reference))
        try:
            return self._received(response, path, reference)
        except KstoreError as error:
            if response.encoding is None:
                raise
            raise encoded_error(self._host, response.encoding) from error

    def _received(self, response: Response, path: str, reference: str | Digest) -> RawManifest:
        claimed = self._claimed_digest(response)
        declared = response.header("Content-Type")
        data = response.body
        expected = reference if isinstance(reference, Digest) else None
        raw = RawManifest.receive(data, declared, expected)
        if expected is None and claimed is not None and raw.media_type not in mt.SCHEMA1:
            found = Digest.of(data, claimed.algorithm)
            if found != claimed:
                raise DigestMismatchError(
                    f"manifest {path}:{reference} hashes to {found}, but {self._host} calls it"
                    f" {claimed}"
                )
        return raw

    def head(self, path: str, reference: str | Digest) -> Descriptor | None:
        response = self._fetch("HEAD", path, reference, tolerant=True)
        if response is None:
            return None
        size, digest = response.length, self._claimed_digest(response)
        kind = (response.header("Content-Type") or "").partition(";")[0].strip()
        status = response.status
        response.close()
        if isinstance(reference, Digest):
            if digest is not None and _differ(digest, reference):
                raise DigestMismatchError(f"{self._host} calls manifest {reference} {digest}")
            digest = reference
        if status == 200 and kind in _KNOWN and size is not None and digest is not None:
            return Descriptor(kind, digest, size)
        try:
            return self.get(path, reference).descriptor
        except ManifestNotFoundError:
            return None

    def put(self, path: str, reference: str | Digest, raw: RawManifest) -> bool:
        """Whether the registry says that it lists the manifest as a referrer of its subject."""
        from kstore.registry.messages import Payload

        if isinstance(reference, Digest) and reference != raw.digest:
            raise DigestMismatchError(f"manifest {raw.digest} cannot be stored as {reference}")
        response = self._exchange.request(
            "PUT",
            manifest_target(path, reference),
            path=path,
            scopes=(repository_scope(path, "pull", "push"),),
            headers={"Content-Type": raw.media_type},
            payload=Payload.of(raw.data),
        )
        if not 200 <= response.status < 300:
            raise self._put_refused(response, path, reference, raw)
        claimed = self._claimed_digest(response)
        listed = response.header("OCI-Subject") is not None
        response.discard()
        if claimed is not None and _differ(claimed, raw.digest):
            raise DigestMismatchError(
                f"{self._host} stored manifest {raw.digest} of {path} as {claimed}"
            )
        return listed

    def delete(self, path: str, digest: Digest) -> None:
        refusal = self._delete(path, digest)
        if refusal is None:
            return
        if refusal.status == 404:
            raise ManifestNotFoundError(self._no_manifest(path, digest))
        if refusal.status == 405 or "UNSUPPORTED" in refusal.codes:
            raise UnsupportedError(f"{self._host} does not allow manifests to be deleted")
        raise self._exchange.error(refusal, f"deleting manifest {digest}", path)

    def delete_tag(self, path: str, tag: str) -> bool:
        refusal = self._delete(path, tag)
        if refusal is None:
            return True
        if refusal.own and (refusal.status in _NO_TAGS or "UNSUPPORTED" in refusal.codes):
            return False
        raise self._exchange.error(refusal, f"deleting tag {tag}", path)

    def _delete(self, path: str, reference: str | Digest) -> Refusal | None:
        """Why a manifest was not deleted; None if it was."""
        response = self._exchange.request(
            "DELETE",
            manifest_target(path, reference),
            path=path,
            scopes=(repository_scope(path, "pull", "push", "delete"),),
        )
        if 200 <= response.status < 300:
            response.discard()
            return None
        return self._exchange.refusal(response)

    def _fetch(
        self, method: str, path: str, reference: str | Digest, *, tolerant: bool = False
    ) -> Response | None:
        """The response to a manifest request; None for a 404.  ``tolerant``: whatever it says."""
        response = self._exchange.request(
            method,
            manifest_target(path, reference),
            path=path,
            scopes=(repository_scope(path, "pull"),),
            headers=_ACCEPT,
            load=Load(MAX_MANIFEST_SIZE, f"manifest {reference} of {self._host}/{path}")
            if method == "GET"
            else None,
        )
        if response.status == 404:
            response.discard()
            return None
        if response.status == 200 or (tolerant and response.status not in (401, 403)):
            return response
        refusal = self._exchange.refusal(response)
        raise self._exchange.error(refusal, f"manifest {path}:{reference}", path)

    def _put_refused(
        self, response: Response, path: str, reference: str | Digest, raw: RawManifest
    ) -> Exception:
        refusal = self._exchange.refusal(response)
        # A blob that is missing makes any type invalid; another type would not help.
        blames_blob = any("BLOB" in code or "UNKNOWN" in code for code in refusal.codes)
        blames_type = bool(refusal.codes & _TYPE_CODES) and not blames_blob
        if refusal.status == 415 or (400 <= refusal.status < 500 and blames_type):
            said = f": {refusal.words}" if refusal.words else ""
            return ManifestRejectedError(
                f"{self._host} does not accept a manifest of type {raw.media_type}{said}"
            )
        return self._exchange.error(refusal, f"storing manifest {path}:{reference}", path)

    def _claimed_digest(self, response: Response) -> Digest | None:
        text = response.header("Docker-Content-Digest")
        try:
            return Digest.parse(text.strip()) if text else None
        except InvalidDigestError:
            self._exchange.warn(f"{self._host} sent the digest {plain_text(text or '')!r}, ignored")
            return None

    def _no_manifest(self, path: str, reference: str | Digest) -> str:
        mark = "@" if isinstance(reference, Digest) else ":"
        return f"{self._host} has no manifest {path}{mark}{reference}"


def _differ(one: Digest, other: Digest) -> bool:
    """Whether two digests cannot be of the same bytes (unknown across algorithms)."""
    return one.algorithm == other.algorithm and one != other
