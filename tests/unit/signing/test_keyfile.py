"""Files with sigstore keys: what is written, what is read, what is refused."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from kstore.errors import AuthError, InvalidInputError, KstoreError, UnsupportedError
from kstore.signing.keyfile import (
    MAX_KEY_FILE,
    generate_key,
    is_encrypted,
    load_private_key,
    load_public_key,
)
from tests.support.sigstorekeys import KINDS, REFUSED, key_pair

SECRET = b"open sesame"
OLD, NEW = b"ENCRYPTED COSIGN PRIVATE KEY", b"ENCRYPTED SIGSTORE PRIVATE KEY"


def pem(kind: str, content: bytes) -> bytes:
    text = base64.b64encode(content).decode()
    return f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n".encode()


def encrypted(**changes: Any) -> bytes:
    """A key file whose JSON has changes: dotted paths with ``__``."""
    private, _ = generate_key(SECRET)
    document = json.loads(base64.b64decode(b"".join(private.splitlines()[1:-1])))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = document
        for parent in parents:
            place = place[parent]
        place[last] = value
    return pem(OLD.decode(), json.dumps(document).encode())


@pytest.mark.parametrize("passphrase", [SECRET, b"", "päß".encode(), None])
def test_a_generated_pair_belongs_together(passphrase: bytes | None) -> None:
    private, public = generate_key(passphrase)
    key = load_private_key(private, passphrase, "a key")
    assert key.public_key() == load_public_key(public, "a key")
    assert is_encrypted(private) is (passphrase is not None)


def test_two_generated_keys_differ() -> None:
    assert generate_key(None) != generate_key(None)


def test_an_encrypted_key_goes_by_either_of_its_names() -> None:
    private, _ = generate_key(SECRET)
    assert private.startswith(b"-----BEGIN " + OLD)
    load_private_key(private.replace(OLD, NEW), SECRET, "a key")


@pytest.mark.parametrize(
    ("passphrase", "cause"),
    [(b"open sesamE", "passphrase of a key is wrong"), (None, "no passphrase was given")],
)
def test_without_the_passphrase_the_key_stays_shut(passphrase: bytes | None, cause: str) -> None:
    private, _ = generate_key(SECRET)
    with pytest.raises(AuthError, match=cause):
        load_private_key(private, passphrase, "a key")


@pytest.mark.parametrize("kind", KINDS)
def test_plain_keys_of_the_usual_kinds_are_read(kind: str) -> None:
    private, public = key_pair(kind)
    assert load_private_key(private, None, "a key").public_key() == load_public_key(public, "it")


@pytest.mark.parametrize("kind", REFUSED)
def test_weak_and_unusual_keys_are_refused(kind: str) -> None:
    private, public = key_pair(kind)
    with pytest.raises(UnsupportedError, match="a key holds"):
        load_private_key(private, None, "a key")
    with pytest.raises(UnsupportedError, match="a key holds"):
        load_public_key(public, "a key")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\x00",
        b"-----BEGIN PUBLIC KEY-----",
        pem("PUBLIC KEY", b"nothing"),
        pem("PUBLIC KEY", b""),
        pem("CERTIFICATE", b"x"),
        key_pair("ec")[1] * 2,
        key_pair("ec")[1] + b" " * MAX_KEY_FILE,
        key_pair("ec")[1].replace(b"A", b"*"),
        key_pair("ec")[0],
    ],
    ids=[
        *(
            "empty",
            "binary",
            "headless",
            "garbage",
            "hollow",
            "certificate",
            "two",
            "huge",
            "signs",
        ),
        "private",
    ],
)
def test_a_file_that_holds_no_public_key_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="a key"):
        load_public_key(data, "a key")


def test_text_before_a_public_key_does_not_matter() -> None:
    public = key_pair("ec")[1]
    assert load_public_key(b"the key of the team\n" + public, "it") == load_public_key(public, "it")


@pytest.mark.parametrize(
    "changes",
    [
        {"kdf": None},
        {"kdf__name": "pbkdf2"},
        {"kdf__params": []},
        {"kdf__params__N": 1 << 40},
        {"kdf__params__N": 3},
        {"kdf__params__N": "32768"},
        {"kdf__params__N": -1},
        {"kdf__params__r": 1 << 30},
        {"kdf__params__p": 1 << 30},
        {"kdf__salt": 5},
        {"kdf__salt": "%"},
        {"cipher__name": "none"},
        {"cipher__nonce": "AAAA"},
        {"cipher__nonce": None},
        {"ciphertext": None},
        {"ciphertext": "AAAA"},
    ],
    ids=str,
)
def test_a_hostile_key_file_is_refused_at_once(changes: dict[str, Any]) -> None:
    data = encrypted(**changes)
    began = time.process_time()
    with pytest.raises((InvalidInputError, UnsupportedError, AuthError), match="a key"):
        load_private_key(data, SECRET, "a key")
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    "changes",
    [{"kdf__params__N": 1 << 21}, {"kdf__params__r": 1 << 9}, {"kdf__params__p": 17}],
    ids=str,
)
def test_a_key_file_cannot_make_us_work_without_measure(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="beyond all measure"):
        load_private_key(encrypted(**changes), SECRET, "a key")


@pytest.mark.parametrize(
    "data",
    [
        pem("ENCRYPTED COSIGN PRIVATE KEY", b"{}"),
        pem("ENCRYPTED COSIGN PRIVATE KEY", b"[]"),
        pem("ENCRYPTED COSIGN PRIVATE KEY", b"\xff"),
        pem("PRIVATE KEY", b"nothing"),
        pem("EC PRIVATE KEY", b"nothing"),
        key_pair("ec")[1],
    ],
    ids=["empty", "list", "binary", "garbage", "other", "public"],
)
def test_a_file_that_holds_no_private_key_is_refused(data: bytes) -> None:
    with pytest.raises(KstoreError, match="a key"):
        load_private_key(data, SECRET, "a key")
