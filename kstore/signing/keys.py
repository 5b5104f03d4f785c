"""Keys that sign and verify: ECDSA (P-256, P-384, P-521), RSA (2048 bits or more) and Ed25519.

ECDSA and RSA (PKCS #1 v1.5) sign SHA-256 of the data, Ed25519 the data itself.

Sources: RFC 5958 (PKCS #8), RFC 5280 (SubjectPublicKeyInfo); the kinds are those of sigstore's
signers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from kstore.errors import InvalidInputError, UnsupportedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

    PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey
    PublicKey: TypeAlias = EllipticCurvePublicKey | RSAPublicKey | Ed25519PublicKey

__all__ = ["fits", "make_signature", "new_key", "read_private_key", "read_public_key"]

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384


def new_key() -> tuple[bytes, bytes]:
    """A new ECDSA P-256 key: PKCS #8 and SubjectPublicKeyInfo, in DER."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(form.Encoding.DER, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = key.public_key().public_bytes(
        form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def read_private_key(data: bytes, what: str) -> PrivateKey:
    """The key in PKCS #8 (DER); ``what`` names it in errors.

    Raises InvalidInputError, UnsupportedError for a key of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    try:
        key = load_der_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise InvalidInputError(f"{what} does not hold a private key that can be read") from exc
    if isinstance(key, rsa.RSAPrivateKey):
        _check_rsa(key.key_size, what)
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        _check_curve(key.curve, what)
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise _other_kind(what)


def read_public_key(data: bytes, what: str) -> PublicKey:
    """The key in SubjectPublicKeyInfo (DER); ``what`` names it in errors.

    Raises InvalidInputError, UnsupportedError for a key of another kind.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        key = load_der_public_key(data)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise InvalidInputError(f"{what} does not hold a public key that can be read") from exc
    if isinstance(key, rsa.RSAPublicKey):
        _check_rsa(key.key_size, what)
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        _check_curve(key.curve, what)
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise _other_kind(what)


def make_signature(key: PrivateKey, data: bytes) -> bytes:
    """Sign ``data``."""
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, padding.PKCS1v15(), SHA256())
    return key.sign(data)


def fits(key: PublicKey, data: bytes, signature: bytes) -> bool:
    """Whether ``signature`` of ``data`` was made with the private key of ``key``."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), SHA256())
        else:
            key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _check_rsa(bits: int, what: str) -> None:
    if not MIN_RSA_BITS <= bits <= MAX_RSA_BITS:
        raise UnsupportedError(
            f"{what} holds an RSA key of {bits} bits, where {MIN_RSA_BITS} to {MAX_RSA_BITS} are"
            " accepted"
        )


def _check_curve(curve: Any, what: str) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    if not isinstance(curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1):
        raise _other_kind(what)


def _other_kind(what: str) -> UnsupportedError:
    return UnsupportedError(f"{what} holds a key that is none of ECDSA, RSA and Ed25519")
