"""A signature of a manifest as it is kept and carried: bytes that say which kind they are.

A *simple* signature is one OpenPGP message, kept as it is.  A *sigstore* signature is a payload
with annotations (the signature proper is one of them), kept as ``\\x00sigstore-json\\n`` and a JSON
object.  Both are what other tools keep in the ``signature-N`` files of a ``dir:`` image.

Source: containers/image, docs/signature-protocols.md and the blob format of its signatures.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import ClassVar, Literal

from kstore import strictjson
from kstore.errors import InvalidManifestError, UnsupportedError
from kstore.values import dataclass

__all__ = [
    "MAX_SIGNATURE_SIZE",
    "SIGNATURE_KINDS",
    "Signature",
    "SignatureKind",
    "SigstoreSignature",
    "SimpleSignature",
    "parse_signature",
]

#: Largest signature that is looked at, in bytes, in the form in which it is kept.
MAX_SIGNATURE_SIZE = 1 << 20

#: How a signature is made, which also says where it can be kept.
SignatureKind = Literal["simple", "sigstore"]
SIGNATURE_KINDS: frozenset[SignatureKind] = frozenset(("simple", "sigstore"))

_SIGSTORE = b"\x00sigstore-json\n"
_SIMPLE = b"\x00simple-signing\n"
_FIELDS = {"mimeType": str, "payload": str, "annotations": dict}
# First bytes of a binary OpenPGP message that is signed: one-pass signature (tag 4), signature
# (tag 2) and compressed data (tag 8), in the old and the new form (RFC 4880 section 4.2).
_OPENPGP = frozenset(
    {*(0x80 | tag << 2 | length for tag in (2, 4, 8) for length in range(4)), 0xC2, 0xC4, 0xC8}
)


@dataclass(frozen=True, slots=True)
class SimpleSignature:
    """An OpenPGP message whose content says what is signed."""

    kind: ClassVar[SignatureKind] = "simple"

    message: bytes

    def to_bytes(self) -> bytes:
        return self.message


@dataclass(frozen=True, slots=True)
class SigstoreSignature:
    """A payload, and annotations that hold the signature of it, as a cosign-style layer does."""

    kind: ClassVar[SignatureKind] = "sigstore"

    payload: bytes
    annotations: Mapping[str, str]
    media_type: str = "application/vnd.dev.cosign.simplesigning.v1+json"

    def to_bytes(self) -> bytes:
        document = {
            "mimeType": self.media_type,
            "payload": base64.b64encode(self.payload).decode(),
            "annotations": dict(self.annotations),
        }
        return _SIGSTORE + json.dumps(document, separators=(",", ":")).encode()


Signature = SimpleSignature | SigstoreSignature


def parse_signature(data: bytes, what: str) -> Signature:
    """The signature kept as ``data``; ``what`` names it in errors.

    Raises InvalidManifestError for damaged ones, UnsupportedError for those of another kind.
    """
    if len(data) > MAX_SIGNATURE_SIZE:
        raise InvalidManifestError(
            f"{what} is {len(data)} bytes, more than the limit of {MAX_SIGNATURE_SIZE}"
        )
    if data.startswith(_SIGSTORE):
        return _parse_sigstore(data.removeprefix(_SIGSTORE), what)
    message = data.removeprefix(_SIMPLE)
    if message and message[0] in _OPENPGP:
        return SimpleSignature(message)
    raise UnsupportedError(f"{what} is neither an OpenPGP message nor a sigstore signature")


def _parse_sigstore(data: bytes, what: str) -> SigstoreSignature:
    value = strictjson.as_object(strictjson.loads(data, what, cap=MAX_SIGNATURE_SIZE), what)
    for name, kind in _FIELDS.items():
        if not isinstance(value.get(name), kind):
            raise InvalidManifestError(f"{what} has no proper {name!r}")
    if not all(isinstance(text, str) for text in value["annotations"].values()):
        raise InvalidManifestError(f"{what} has annotations that are not text")
    try:
        payload = base64.b64decode(value["payload"], validate=True)
    except binascii.Error as exc:
        raise InvalidManifestError(f"{what} has a payload that is not base64") from exc
    return SigstoreSignature(payload, value["annotations"], value["mimeType"])
