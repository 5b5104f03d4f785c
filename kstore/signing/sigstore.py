"""Sigstore signatures as cosign makes them with a key pair: made and verified here.

The signature stands in an annotation, beside the payload that says what is signed.  Certificates
and transparency logs are not looked at.

Source: cosign, specs/SIGNATURE_SPEC.md; the strictness is that of skopeo.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from kstore import strictjson
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError, PolicyRejectedError
from kstore.signature import MAX_SIGNATURE_SIZE, SigstoreSignature
from kstore.signing.claim import BadSignatureError, Claim
from kstore.signing.keyfile import generate_key, load_private_key, load_public_key
from kstore.signing.keys import fits, make_signature
from kstore.signing.signer import Signer

__all__ = ["ANNOTATION", "SigstoreSigner", "generate_key", "sign", "verify"]

#: The annotation that holds the signature, in base64.
ANNOTATION = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE = "cosign container image signature"

_MAX_TIMESTAMP = 2**63


def verify(signature: SigstoreSignature, public_keys: Sequence[bytes]) -> Claim:
    """What a signature claims, if it was made with one of ``public_keys`` (PEM files).

    The payload is not looked at before the signature of it is known to be good.  Raises
    BadSignatureError; PolicyRejectedError for no keys, InvalidInputError and UnsupportedError for a
    key that cannot be used.
    """
    if not public_keys:
        raise PolicyRejectedError("there is no public key to verify sigstore signatures with")
    keys = [load_public_key(data, "a sigstore public key") for data in public_keys]
    made = _made(signature)
    if not any(fits(key, signature.payload, made) for key in keys):
        which = "the accepted key" if len(keys) == 1 else "any of the accepted keys"
        raise BadSignatureError(f"was not made with {which}")
    try:
        return _claim(signature.payload)
    except (InvalidManifestError, InvalidDigestError) as exc:
        raise BadSignatureError(f"is good, but of something else than an image: {exc}") from exc


def sign(
    private_key: bytes, passphrase: bytes | None, manifest_digest: Digest, docker_reference: str
) -> SigstoreSignature:
    """Sign with the key file ``private_key``; see :class:`SigstoreSigner`."""
    return SigstoreSigner(private_key, passphrase).sign(manifest_digest, docker_reference)


class SigstoreSigner(Signer):
    """A private key that signs.

    ``private_key`` is the content of its file, called ``what`` in errors: those of
    :func:`kstore.signing.keyfile.load_private_key`.
    """

    kind = SigstoreSignature.kind

    def __init__(
        self, private_key: bytes, passphrase: bytes | None, what: str = "the sigstore private key"
    ) -> None:
        self._key = load_private_key(private_key, passphrase, what)

    def sign(self, manifest_digest: Digest, docker_reference: str) -> SigstoreSignature:
        payload = _payload(manifest_digest, docker_reference)
        made = base64.b64encode(make_signature(self._key, payload)).decode()
        return SigstoreSignature(payload, {ANNOTATION: made})


def _made(signature: SigstoreSignature) -> bytes:
    try:
        return base64.b64decode(signature.annotations.get(ANNOTATION, ""), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadSignatureError("has no proper signature among its annotations") from exc


def _payload(manifest_digest: Digest, docker_reference: str) -> bytes:
    from kstore import __version__

    document = {
        "critical": {
            "identity": {"docker-reference": docker_reference},
            "image": {"docker-manifest-digest": str(manifest_digest)},
            "type": PAYLOAD_TYPE,
        },
        "optional": {"creator": f"kstore {__version__}", "timestamp": int(time.time())},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _claim(payload: bytes) -> Claim:
    """What a payload says.  Raises InvalidManifestError, InvalidDigestError."""
    what = "the payload"
    value = strictjson.loads(payload, what, cap=MAX_SIGNATURE_SIZE)
    document = _exactly(value, {"critical", "optional"}, what)
    critical = _exactly(document["critical"], {"type", "image", "identity"}, "critical")
    image = _exactly(critical["image"], {"docker-manifest-digest"}, "image")
    identity = _exactly(critical["identity"], {"docker-reference"}, "identity")
    if document["optional"] is not None:  # which is what cosign writes without annotations
        _check_optional(strictjson.as_object(document["optional"], "optional"))
    if critical["type"] != PAYLOAD_TYPE:
        raise InvalidManifestError(f"its type is {critical['type']!r:.80}")
    reference = identity["docker-reference"]
    if not isinstance(reference, str):
        raise InvalidManifestError("its docker-reference is not text")
    return Claim(reference, Digest.parse(image["docker-manifest-digest"]))


def _exactly(value: Any, keys: set[str], what: str) -> Mapping[str, Any]:
    found = strictjson.as_object(value, what)
    if found.keys() != keys:
        raise InvalidManifestError(f"{what} has other fields than {', '.join(sorted(keys))}")
    return found


def _check_optional(optional: Mapping[str, Any]) -> None:
    creator, timestamp = optional.get("creator", ""), optional.get("timestamp", 0)
    if not isinstance(creator, str):
        raise InvalidManifestError("its creator is not text")
    whole = isinstance(timestamp, int | float) and not isinstance(timestamp, bool)
    if not whole or timestamp != int(timestamp) or abs(timestamp) >= _MAX_TIMESTAMP:
        raise InvalidManifestError("its timestamp is not a whole number of seconds")
