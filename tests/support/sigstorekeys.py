"""Throw-away sigstore keys, made once in a test run.

::

    private, public = key_pair("ec")        # PEM; plain PKCS #8 and SubjectPublicKeyInfo
    signature = signed(b"any payload", "ec")
"""

from __future__ import annotations

import base64
import functools

from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from kstore.signature import SigstoreSignature
from kstore.signing.sigstore import ANNOTATION

#: Names of :func:`key_pair` that are accepted.
KINDS = ("ec", "ec384", "ec521", "rsa", "ed25519")
#: Names of those that are not.
REFUSED = ("rsa1024", "ec224", "secp256k1", "ed448", "dsa")

_MAKERS = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "other": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ec384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ec521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa1024": lambda: rsa.generate_private_key(65537, 1024),
    "ec224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "ed448": ed448.Ed448PrivateKey.generate,
    "dsa": lambda: dsa.generate_private_key(1024),
}


@functools.cache
def key_pair(kind: str) -> tuple[bytes, bytes]:
    """A private and a public key of this kind, the same ones each time."""
    key = _MAKERS[kind]()
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(
        form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def signed(payload: bytes, kind: str = "ec") -> SigstoreSignature:
    """A good signature of any payload whatever, by a key on P-256."""
    key = form.load_pem_private_key(key_pair(kind)[0], None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = key.sign(payload, ec.ECDSA(SHA256()))
    return SigstoreSignature(payload, {ANNOTATION: base64.b64encode(made).decode()})
