"""Files that hold sigstore keys.

A private key is PKCS #8 in PEM; usually encrypted in cosign's way, a JSON document of scrypt
parameters and a NaCl secretbox inside the PEM block.  A public key is a SubjectPublicKeyInfo in
PEM.

Sources: RFC 7468, RFC 7914; the format of cosign's key files (go-securesystemslib, ``encrypted``),
as skopeo reads it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from kstore import strictjson
from kstore.errors import AuthError, IntegrityError, InvalidInputError, UnsupportedError
from kstore.signing.keys import new_key, read_private_key, read_public_key
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.signing.keys import PrivateKey, PublicKey

__all__ = [
    "MAX_KEY_FILE",
    "generate_key",
    "is_encrypted",
    "is_public_key",
    "load_private_key",
    "load_public_key",
]

#: Largest key file that is looked at, in bytes.
MAX_KEY_FILE = 64 * 1024

#: Names of PEM blocks.  The first of each is written: of the two for an encrypted key it is the
#: older one, which every reader of such files knows.
_ENCRYPTED_TYPES = ("ENCRYPTED COSIGN PRIVATE KEY", "ENCRYPTED SIGSTORE PRIVATE KEY")
_PLAIN_TYPE = "PRIVATE KEY"
_PUBLIC_TYPES = ("PUBLIC KEY", "RSA PUBLIC KEY")
_PEM = re.compile(r"-----BEGIN ([A-Z ]{1,40})-----([A-Za-z0-9+/=\s]+)-----END \1-----", re.ASCII)
_LINE = 64


@dataclass(frozen=True, slots=True)
class _Scrypt:
    """How a passphrase becomes a key (RFC 7914 section 2)."""

    n: int
    r: int
    p: int
    salt: bytes

    def key(self, passphrase: bytes) -> bytes:
        memory = 128 * self.r * (self.n + self.p + 2) + (1 << 20)
        return hashlib.scrypt(
            passphrase, salt=self.salt, n=self.n, r=self.r, p=self.p, maxmem=memory, dklen=_KEY
        )


_KEY = 32
_NONCE = 24
_SALT = 32
#: The cost that every version of the readers accepts; they know a few values, not a range.
_COST = (1 << 15, 8, 1)
#: A stranger's file must not make us spend more than 1 GiB (which is N = 2^20, r = 8).
_MOST_MEMORY = 1 << 30
_MOST_P = 16


def generate_key(passphrase: bytes | None) -> tuple[bytes, bytes]:
    """A new ECDSA P-256 key pair: ``(private, public)``, both PEM.

    The private key is encrypted in cosign's way; with None it is a plain PKCS #8 file, which
    whoever can read it can sign with (skopeo and podman do not take it).
    """
    private, public = new_key()
    public_file = _wrap(_PUBLIC_TYPES[0], public)
    if passphrase is None:
        return _wrap(_PLAIN_TYPE, private), public_file
    return _wrap(_ENCRYPTED_TYPES[0], _encrypt(private, passphrase)), public_file


def is_encrypted(data: bytes) -> bool:
    """Whether a private key file needs a passphrase, as far as its first line says."""
    return b"-----BEGIN ENCRYPTED " in data[:MAX_KEY_FILE]


def is_public_key(data: bytes) -> bool:
    """Whether this is a sigstore public key, as far as its first line says."""
    return any(f"-----BEGIN {kind}-----".encode() in data for kind in _PUBLIC_TYPES)


def load_private_key(data: bytes, passphrase: bytes | None, what: str) -> PrivateKey:
    """The private key in the file ``data``, which ``what`` names.

    Raises AuthError for a missing or wrong passphrase, InvalidInputError for a file that holds no
    such key, UnsupportedError for one of another kind.
    """
    kind, body = _unwrap(data, what)
    if kind in _ENCRYPTED_TYPES:
        if passphrase is None:
            raise AuthError(f"{what} is encrypted, and no passphrase was given")
        body = _decrypt(body, passphrase, what)
    elif kind != _PLAIN_TYPE:
        raise UnsupportedError(
            f"{what} holds a {kind!r}, and not a sigstore private key",
            hint="kstore generate-key PREFIX makes one",
        )
    return read_private_key(body, what)


def load_public_key(data: bytes, what: str) -> PublicKey:
    """The public key in the file ``data``, which ``what`` names.

    Raises InvalidInputError for a file that holds no public key, UnsupportedError for one of
    another kind.
    """
    kind, body = _unwrap(data, what)
    if kind not in _PUBLIC_TYPES:
        raise InvalidInputError(f"{what} holds a {kind!r}, and not a public key")
    return read_public_key(body, what)


def _unwrap(data: bytes, what: str) -> tuple[str, bytes]:
    """The type and the content of the one PEM block in ``data``."""
    if len(data) > MAX_KEY_FILE:
        raise InvalidInputError(f"{what} is {len(data)} bytes, more than a key file can have")
    text = data.decode("latin-1")
    match = _PEM.search(text) if text.count("-----BEGIN") == 1 else None
    if match is None:
        raise InvalidInputError(f"{what} is not one key in PEM form")
    try:
        return match[1], base64.b64decode("".join(match[2].split()), validate=True)
    except binascii.Error as exc:
        raise InvalidInputError(f"{what} is not one key in PEM form") from exc


def _wrap(kind: str, content: bytes) -> bytes:
    text = base64.b64encode(content).decode()
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----\n")).encode()


def _encrypt(secret: bytes, passphrase: bytes) -> bytes:
    from nacl.secret import SecretBox

    kdf = _Scrypt(*_COST, os.urandom(_SALT))
    nonce = os.urandom(_NONCE)
    box = SecretBox(kdf.key(passphrase)).encrypt(secret, nonce)
    document = {
        "kdf": {
            "name": "scrypt",
            "params": {"N": kdf.n, "r": kdf.r, "p": kdf.p},
            "salt": base64.b64encode(kdf.salt).decode(),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box.ciphertext).decode(),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _decrypt(content: bytes, passphrase: bytes, what: str) -> bytes:
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    kdf, nonce, ciphertext = _parse_encrypted(content, what)
    try:
        key = kdf.key(passphrase)
    except ValueError as exc:
        raise InvalidInputError(f"{what} asks for a derivation of its key that cannot be") from exc
    try:
        return SecretBox(key).decrypt(ciphertext, nonce)
    except CryptoError as exc:
        raise AuthError(f"the passphrase of {what} is wrong") from exc


def _parse_encrypted(content: bytes, what: str) -> tuple[_Scrypt, bytes, bytes]:
    try:
        document = strictjson.as_object(strictjson.loads(content, what, cap=MAX_KEY_FILE), what)
        kdf = strictjson.as_object(document.get("kdf"), what)
        cipher = strictjson.as_object(document.get("cipher"), what)
        cost = strictjson.as_object(kdf.get("params"), what)
    except IntegrityError as exc:
        raise InvalidInputError(f"{what} is not an encrypted key: {exc}") from exc
    if (kdf.get("name"), cipher.get("name")) != ("scrypt", "nacl/secretbox"):
        raise UnsupportedError(f"{what} is encrypted otherwise than by scrypt and secretbox")
    n, r, p = (_number(cost.get(name), what) for name in ("N", "r", "p"))
    if 128 * n * r > _MOST_MEMORY or p > _MOST_P:
        raise InvalidInputError(f"{what} asks for a derivation of its key beyond all measure")
    nonce = _bytes(cipher.get("nonce"), what)
    if len(nonce) != _NONCE:
        raise InvalidInputError(f"{what} has a nonce of {len(nonce)} bytes, not {_NONCE}")
    salt = _bytes(kdf.get("salt"), what)
    return _Scrypt(n, r, p, salt), nonce, _bytes(document.get("ciphertext"), what)


def _number(value: Any, what: str) -> int:
    if not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"{what} is not an encrypted key: its parameters are no numbers")
    return value


def _bytes(text: Any, what: str) -> bytes:
    try:
        return base64.b64decode(text if isinstance(text, str) else "?", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInputError(f"{what} is not an encrypted key: it has bad base64") from exc
