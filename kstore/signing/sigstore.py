"""Sigstore signatures as cosign makes them with a key pair: made and verified here.

The signature stands in an annotation, beside the payload that says what is signed.  Certificates
and transparency logs are not looked at.

Source: cosign, specs/SIGNATURE_SPEC.md; the strictness is that of skopeo.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Sequence

from kstore.digest import Digest
from kstore.errors import PolicyRejectedError
from kstore.signature import SigstoreSignature
from kstore.signing.claim import BadSignatureError, Claim
from kstore.signing.keyfile import generate_key, load_private_key, load_public_key
from kstore.signing.keys import fits, make_signature
from kstore.signing.signer import Signer
from kstore.signing.simple import make_payload, parse_payload

__all__ = ["ANNOTATION", "SigstoreSigner", "generate_key", "sign", "verify"]

#: The annotation that holds the signature, in base64.
ANNOTATION = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE = "cosign container image signature"


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
        # cosign writes null where there is nothing optional
        return parse_payload(signature.payload, PAYLOAD_TYPE, bare=True)
    except BadSignatureError as exc:
        raise BadSignatureError(f"is good, but of something else than an image: it {exc}") from exc


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
        from kstore import __version__

        payload = make_payload(
            manifest_digest,
            docker_reference,
            creator=f"kstore {__version__}",
            timestamp=int(time.time()),
            kind=PAYLOAD_TYPE,
        )
        made = base64.b64encode(make_signature(self._key, payload)).decode()
        return SigstoreSignature(payload, {ANNOTATION: made})


def _made(signature: SigstoreSignature) -> bytes:
    try:
        return base64.b64decode(signature.annotations.get(ANNOTATION, ""), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise BadSignatureError("has no proper signature among its annotations") from exc
