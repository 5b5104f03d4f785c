"""The bytes of a manifest, and what type they are."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import DigestMismatchError, InvalidManifestError
from kstore.manifest.jws import signed_payload
from kstore.values import dataclass

__all__ = ["MAX_CONFIG_SIZE", "MAX_MANIFEST_SIZE", "RawManifest"]

#: Largest manifest or index accepted, in bytes (registries commonly enforce the same).
MAX_MANIFEST_SIZE = 4 * 1024 * 1024
#: Largest image config accepted, in bytes.
MAX_CONFIG_SIZE = 4 * 1024 * 1024

#: Keys by which readers decide what a document is.
_FIELDS = {
    name.casefold(): name
    for name in (
        *("schemaVersion", "mediaType", "config", "layers", "manifests", "subject"),
        *("artifactType", "annotations", "fsLayers", "history", "signatures"),
    )
}
_KNOWN = mt.MANIFESTS | mt.INDEXES | mt.SCHEMA1
#: Content types that say nothing: servers and proxies use them for anything.
_VAGUE = frozenset({"", "application/json", "text/plain", mt.OCTET_STREAM})


@dataclass(frozen=True, slots=True)
class RawManifest:
    """Manifest bytes exactly as received, their media type and their digest.

    The digest is that of the bytes, for a signed Docker schema 1 manifest of what was signed.
    """

    data: bytes = field(repr=False)
    media_type: str
    digest: Digest

    @classmethod
    def receive(
        cls, data: bytes, declared: str | None = None, expected: Digest | None = None
    ) -> RawManifest:
        """Take manifest bytes from outside.

        ``declared`` is the type the sender gave (an HTTP Content-Type, a descriptor's
        mediaType), ``expected`` the digest they were asked for by.

        Raises InvalidManifestError when the bytes are too large, unreadable, of unknown type, or
        of another type than declared; DigestMismatchError when they are not the expected ones.
        """
        algorithm = expected.algorithm if expected else "sha256"
        if len(data) > MAX_MANIFEST_SIZE:
            what = f"manifest {expected}" if expected else "a manifest"
            raise InvalidManifestError(
                f"{what} is larger than the limit of {MAX_MANIFEST_SIZE} bytes"
            )
        digest = Digest.of(data, algorithm)
        if expected in (None, digest) or _may_be_signed(data):
            media_type = _settle_type(data, declared, digest)
            if media_type in mt.SCHEMA1:
                digest = Digest.of(_signed_part(data), algorithm)
        if expected is not None and digest != expected:
            raise DigestMismatchError(f"manifest sent as {expected} hashes to {digest}")
        return cls(data, media_type, digest)

    @property
    def content(self) -> bytes:
        """The bytes the digest is of, and the only ones to be believed."""
        return _signed_part(self.data) if self.media_type in mt.SCHEMA1 else self.data

    def is_named(self, digest: Digest) -> bool:
        """Whether ``digest``, of any algorithm, is this manifest's; computed anew."""
        return Digest.of(self.content, digest.algorithm) == digest

    @property
    def is_index(self) -> bool:
        """Whether this lists manifests instead of layers."""
        return self.media_type in mt.INDEXES

    @property
    def descriptor(self) -> Descriptor:
        """Type, digest and size."""
        return Descriptor(self.media_type, self.digest, len(self.data))


def _may_be_signed(data: bytes) -> bool:
    return b'"signatures"' in data and b'"fsLayers"' in data


def _signed_part(data: bytes) -> bytes:
    """What of a schema 1 manifest was signed; all of it if it is not (well) signed."""
    document = strictjson.as_object(
        strictjson.loads(data, "a schema 1 manifest", cap=MAX_MANIFEST_SIZE), "a schema 1 manifest"
    )
    return signed_payload(document, data) or data


def _settle_type(data: bytes, declared: str | None, digest: Digest) -> str:
    """The document's type, on which the sender and the document must agree."""
    what = f"manifest {digest}"
    document = strictjson.as_object(strictjson.loads(data, what, cap=MAX_MANIFEST_SIZE), what)
    strictjson.check_spelling(document, _FIELDS, what)
    sniffed = _sniff(document)
    said = (declared or "").partition(";")[0].strip().lower()
    if said in _VAGUE:
        said = ""
    stated = document.get("mediaType")
    if stated is not None and stated != sniffed:
        raise InvalidManifestError(f"{what} states the unsupported media type {stated!r:.120}")
    if sniffed is None:
        raise InvalidManifestError(f"{what} is of no known manifest type")
    version = document.get("schemaVersion")
    if version is not None and version != (1 if sniffed in mt.SCHEMA1 else 2):
        raise InvalidManifestError(
            f"{what} is ambiguous: {sniffed} with schemaVersion {version!r:.40}"
        )
    if said and said != sniffed and not _compatible(said, sniffed, stated):
        raise InvalidManifestError(f"{what} was sent as {said!r:.120} but is {sniffed!r}")
    return said or sniffed


def _compatible(said: str, sniffed: str, stated: object) -> bool:
    """Whether a sender's type can be right although the guess differs.

    A document that states its type must be sent as that.  One that does not may be sent as any type
    of the same shape (an OCI index without mediaType looks like a Docker list).
    """
    if said in mt.SCHEMA1 and sniffed in mt.SCHEMA1:
        return True
    if stated is not None:
        return False
    shapes = (mt.MANIFESTS, mt.INDEXES)
    return any(said in shape and sniffed in shape for shape in shapes)


def _sniff(document: dict[str, Any]) -> str | None:
    """The type by the document itself; None if it is of none that is known."""
    stated = document.get("mediaType")
    if stated is not None:
        return stated if isinstance(stated, str) and stated in _KNOWN else None
    version = document.get("schemaVersion")
    if version == 1:
        return mt.DOCKER_SCHEMA1_SIGNED if "signatures" in document else mt.DOCKER_SCHEMA1
    if version != 2:
        return None
    config = document.get("config")
    if isinstance(config, dict):
        if config.get("mediaType") == mt.DOCKER_CONFIG:
            return mt.DOCKER_MANIFEST
        return mt.OCI_MANIFEST
    return mt.OCI_INDEX if isinstance(document.get("manifests"), list) else None
