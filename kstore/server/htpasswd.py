"""Apache password files: who may use the server.

Formats: bcrypt (``$2y$``), SHA-256/512 crypt (``$5$``, ``$6$``), ``$apr1$`` and ``{SHA}``.  bcrypt
and the SHA crypts are computed by the system's libcrypt.

Source: Apache HTTP server documentation, "Password Formats".
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import functools
import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from kstore.blobs import read_file
from kstore.errors import InvalidInputError, UnsupportedError

__all__ = ["Accounts"]

_MAX_FILE = 1 << 20
_MAX_CREDENTIALS = 1024
_REMEMBERED = 256
_LIBRARIES = ("libcrypt.so.1", "libcrypt.so.2", None)  # None: musl has it in its C library
_CRYPT_DATA = 256 * 1024  # bytes; at least sizeof(struct crypt_data) everywhere
_CRYPT_PREFIXES = ("$2y$", "$2a$", "$2b$", "$5$", "$6$")
_ITOA64 = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Accounts:
    """The users of one password file.

    A slow hash is computed once for each right password: what was right is remembered, as a keyed
    hash, for the life of the server.
    """

    def __init__(self, hashes: dict[str, str], what: str = "password file") -> None:
        """Check every hash; InvalidInputError or UnsupportedError naming ``what`` and the user."""
        if not hashes:
            raise InvalidInputError(f"{what} has no users")
        self._hashes = dict(hashes)
        for user, stored in hashes.items():
            _check_format(stored, f"user {user!r:.100} in {what}")
        self._decoy = next(iter(hashes.values()))
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._slots = threading.BoundedSemaphore(2)  # guessing must not take the whole machine

    @classmethod
    def load(cls, path: Path) -> Accounts:
        """Read an htpasswd file (``user:hash`` lines, ``#`` comments).

        Raises NotFoundError if there is none, StorageError if it cannot be read, InvalidInputError
        for a malformed line, UnsupportedError for a format that is not known here.
        """
        what = f"password file {path}"
        data = read_file(path, _MAX_FILE, what)
        hashes: dict[str, str] = {}
        for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            user, colon, stored = text.partition(":")
            if not (user and colon and stored):
                raise InvalidInputError(f"line {number} of {what} is not USER:HASH")
            hashes.setdefault(user, stored)
        return cls(hashes, what)

    def user_of(self, authorization: str) -> str | None:
        """The user an ``Authorization`` header proves to be, None if it proves nothing."""
        scheme, _, encoded = authorization.partition(" ")
        if scheme.lower() != "basic" or len(encoded) > _MAX_CREDENTIALS:
            return None
        try:
            credentials = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return None
        name, colon, password = credentials.partition(b":")
        user = name.decode("utf-8", "replace")
        if not colon or not self._is_right(user, password):
            return None
        return user

    def _is_right(self, user: str, password: bytes) -> bool:
        proof = hmac.digest(self._key, user.encode() + b"\0" + password, "sha256")
        if proof in self._right:
            return True
        with self._slots:
            # An unknown user costs as much time as a known one.
            right = verify(password, self._hashes.get(user, self._decoy))
        if not right or user not in self._hashes:
            return False
        if len(self._right) >= _REMEMBERED:
            self._right.clear()
        self._right.add(proof)
        return True


def verify(password: bytes, stored: str) -> bool:
    """Whether ``password`` hashes to ``stored``, in time that does not depend on where it differs.

    Raises UnsupportedError for an unknown format.
    """
    if b"\0" in password:
        return False  # C functions would see a shorter password
    return hmac.compare_digest(_hash_like(password, stored).encode(), stored.encode())


def _hash_like(password: bytes, stored: str) -> str:
    if stored.startswith("{SHA}"):
        digest = hashlib.sha1(password, usedforsecurity=False).digest()
        return "{SHA}" + base64.b64encode(digest).decode()
    if stored.startswith("$apr1$"):
        return _apr1(password, stored.split("$")[2])
    if stored.startswith(_CRYPT_PREFIXES):
        return _system_crypt(password, stored)
    raise UnsupportedError("unknown password format")


def _check_format(stored: str, what: str) -> None:
    hint = "make the entry anew: htpasswd -B FILE USER"
    if not stored.startswith((*_CRYPT_PREFIXES, "$apr1$", "{SHA}")):
        raise UnsupportedError(f"the password of {what} has an unknown format", hint=hint)
    computed = _hash_like(b"probe", stored)
    if len(computed) != len(stored) or computed.startswith("*"):
        raise UnsupportedError(
            f"the password of {what} is damaged, or of a format this system cannot compute",
            hint=hint,
        )


def _system_crypt(password: bytes, setting: str) -> str:
    """``crypt_r``; a text starting with ``*`` where it fails."""
    data = ctypes.create_string_buffer(_CRYPT_DATA)
    result = _crypt_function()(password, setting.encode(), data)
    return result.decode("ascii", "replace") if result else "*"


@functools.cache
def _crypt_function() -> Callable[..., bytes | None]:
    for name in _LIBRARIES:
        try:
            function = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p)
        function.restype = ctypes.c_char_p
        return function
    raise UnsupportedError("this system has no crypt library to check bcrypt passwords with")


def _apr1(password: bytes, salt_text: str) -> str:
    """Apache's variant of the MD5 crypt of FreeBSD: 1000 rounds, its own magic and salt."""
    salt = salt_text.encode()[:8]
    inner = _md5(password + salt + password)
    start = password + b"$apr1$" + salt
    start += (inner * (len(password) // 16 + 1))[: len(password)]
    length = len(password)
    while length:
        start += b"\0" if length & 1 else password[:1]
        length >>= 1
    digest = _md5(start)
    for number in range(1000):
        mixed = password if number & 1 else digest
        mixed += salt if number % 3 else b""
        mixed += password if number % 7 else b""
        mixed += digest if number & 1 else password
        digest = _md5(mixed)
    return f"$apr1${salt.decode()}${_itoa64(digest)}"


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()


def _itoa64(digest: bytes) -> str:
    groups = [(digest[i], digest[i + 6], digest[i + 12]) for i in range(4)]
    groups.append((digest[4], digest[10], digest[5]))
    text = ""
    for high, middle, low in groups:
        value = high << 16 | middle << 8 | low
        text += "".join(_ITOA64[value >> shift & 63] for shift in (0, 6, 12, 18))
    return text + _ITOA64[digest[11] & 63] + _ITOA64[digest[11] >> 6]
