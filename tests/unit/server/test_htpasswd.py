from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from kstore.errors import InvalidInputError, NotFoundError, UnsupportedError
from kstore.server import htpasswd
from kstore.server.htpasswd import Accounts, verify

# Made by other programs: perl, openssl, htpasswd.
BCRYPT = "$2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
BCRYPT_VECTOR = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"  # Openwall
APR1 = "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/"
APR1_LONG = "$apr1$xy$DPmoCHFAwKfqyzliV0Uwk/"
SHA = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="


def count_verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stored hashes that passwords are compared with from now on."""
    calls: list[str] = []

    def counted(password: bytes, stored: str) -> bool:
        calls.append(stored)
        return verify(password, stored)

    monkeypatch.setattr(htpasswd, "verify", counted)
    return calls


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("password", "stored"),
    [
        (b"secret", BCRYPT),
        (b"U*U", BCRYPT_VECTOR),
        (b"secret", APR1),
        (b"a much longer password than sixteen bytes, really", APR1_LONG),
        (b"secret", SHA),
    ],
)
def test_hashes_made_by_other_programs_are_verified(password: bytes, stored: str) -> None:
    assert verify(password, stored)
    assert not verify(password + b"x", stored)
    assert not verify(b"", stored)


def test_a_password_is_not_cut_at_a_nul_byte() -> None:
    assert not verify(b"secret\0rest", BCRYPT)


@pytest.mark.parametrize(
    "stored",
    ["secret", "rqXexS6ZhobKA", "$1$salt$qJH7.N4xYta3aEG/dfqo/0", "{SSHA}abc", "$2y$04$short", "*"],
)
def test_a_format_that_cannot_be_checked_is_an_error_at_the_start(stored: str) -> None:
    with pytest.raises(UnsupportedError, match="user 'anna'"):
        Accounts({"anna": stored})


def test_a_password_file_is_read_with_comments_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"# people\n\nanna:{APR1}\nbert:{SHA}\n")
    accounts = Accounts.load(path)
    assert accounts.user_of(basic("anna", "secret")) == "anna"
    assert accounts.user_of(basic("bert", "secret")) == "bert"
    assert accounts.user_of(basic("carl", "secret")) is None
    assert accounts.user_of(basic("anna", "wrong")) is None


@pytest.mark.parametrize("text", ["anna", ":hash", "anna:", ""])
def test_a_malformed_password_file_is_an_error_at_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=re.escape(str(path))):
        Accounts.load(path)


def test_an_absent_password_file_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="users does not exist"):
        Accounts.load(tmp_path / "users")


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic !!!", "Basic YW5uYQ==", "Bearer abc", "Basic " + "A" * 5000, "basic ===="],
)
def test_a_header_that_is_no_basic_credential_proves_nothing(header: str) -> None:
    assert Accounts({"anna": APR1}).user_of(header) is None


def test_a_right_password_is_hashed_slowly_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = Accounts({"anna": SHA})
    calls = count_verifications(monkeypatch)
    for _ in range(3):
        assert accounts.user_of(basic("anna", "secret")) == "anna"
    assert len(calls) == 1
    for _ in range(3):
        assert accounts.user_of(basic("anna", "wrong")) is None
    assert len(calls) == 4


def test_an_unknown_user_costs_a_hash_too_and_never_gets_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = Accounts({"anna": SHA})
    calls = count_verifications(monkeypatch)
    assert accounts.user_of(basic("bert", "secret")) is None
    assert len(calls) == 1
