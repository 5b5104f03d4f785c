"""Signatures as GnuPG makes them, and everything that only looks like one."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import AuthError, InvalidInputError, NotFoundError, UnsupportedError
from kstore.signing import gpg, gpgv
from kstore.signing.claim import BadSignatureError
from kstore.signing.gpg import export_key, secret_key, sign_message
from kstore.signing.gpgsigner import GpgSigner
from kstore.signing.gpgv import verify_message
from kstore.signing.simple import parse_payload
from tests.support.pulls import wait_until
from tests.support.scripts import read_line, started
from tests.unit.signing.conftest import EARLIER, Keys

pytestmark = pytest.mark.peer

PAYLOAD = b'{"what": "is signed"}'
LATER = "20400101T000000"


@pytest.mark.parametrize("who", ["alice", "rsa", "with_subkey"])
@pytest.mark.parametrize("how", [(), ("--compress-algo", "none"), ("--compress-algo", "bzip2")])
def test_a_good_signature_gives_the_payload_and_the_primary_key(
    keys: Keys, who: str, how: tuple[str, ...]
) -> None:
    key = getattr(keys, who)
    verified = verify_message(keys.home.sign(PAYLOAD, key, *how), keys.public)
    assert verified.payload == PAYLOAD
    assert verified.fingerprint == key


def test_what_kstore_signs_kstore_verifies(keys: Keys) -> None:
    message = sign_message(PAYLOAD, keys.alice, home=keys.home.path)
    assert verify_message(message, keys.public).fingerprint == keys.alice


def _revoked_later(keys: Keys, who: str, revoke: Callable[[str], None]) -> tuple[bytes, bytes]:
    key = getattr(keys, who)
    message = keys.home.sign(PAYLOAD, key)
    revoke(key)
    return message, keys.home.export(key)


@pytest.fixture(scope="session")
def revoked(keys: Keys) -> tuple[bytes, bytes]:
    """A signature, and the public key that was revoked after it."""
    return _revoked_later(keys, "revoked", keys.home.revoke)


@pytest.fixture(scope="session")
def subkey_revoked(keys: Keys) -> tuple[bytes, bytes]:
    return _revoked_later(keys, "revoked_subkey", keys.home.revoke_subkey)


def test_a_signature_by_a_key_that_was_revoked_later_is_refused(revoked) -> None:
    with pytest.raises(BadSignatureError, match="was revoked"):
        verify_message(*revoked)


def test_a_signature_by_a_subkey_that_was_revoked_later_is_refused(subkey_revoked) -> None:
    with pytest.raises(BadSignatureError, match="was revoked"):
        verify_message(*subkey_revoked)


def _two(keys: Keys) -> bytes:
    return keys.home.sign(PAYLOAD, keys.alice, "--compress-algo", "none")


BAD: dict[str, tuple[Callable[[Keys], bytes], str]] = {
    "by a stranger": (lambda k: k.home.sign(PAYLOAD, k.bob), "not an accepted one"),
    "by an expired key": (
        lambda k: k.home.sign(PAYLOAD, k.expired, at=EARLIER),
        "which has expired",
    ),
    "made in the future": (lambda k: k.home.sign(PAYLOAD, k.alice, at=LATER), "in the future"),
    "by two keys": (
        lambda k: k.home.run("-u", k.alice, "-u", k.rsa, "--sign", data=PAYLOAD),
        "not one signed message",
    ),
    "tampered with": (
        lambda k: _two(k).replace(b'"is signed"', b'"is forged"'),
        "it was changed",
    ),
    "followed by a byte": (lambda k: k.home.sign(PAYLOAD, k.alice) + b"\0", "bytes"),
    "uncompressed, followed by text": (lambda k: _two(k) + b"x", "no OpenPGP packet"),
    "followed by a second message": (lambda k: _two(k) * 2, "not one signed message"),
    "followed by an unsigned literal": (
        lambda k: _two(k) + k.home.run("--store", "--compress-algo", "none", data=b"other"),
        "not one signed message",
    ),
    "an unsigned literal": (lambda k: k.home.run("--store", data=PAYLOAD), "not one signed"),
    "encrypted and signed": (
        lambda k: k.home.run(
            *("--recipient", k.alice, "--sign", "--encrypt", "--trust-model", "always"),
            data=PAYLOAD,
        ),
        "not one signed message",
    ),
    "clear text": (lambda k: k.home.sign(PAYLOAD, k.alice, "--clearsign"), "no OpenPGP packet"),
    "text mode": (lambda k: k.home.sign(PAYLOAD, k.alice, "--textmode"), "signature of text"),
    "in armor": (lambda k: k.home.sign(PAYLOAD, k.alice, "--armor"), "no OpenPGP packet"),
    "detached": (lambda k: k.home.sign(PAYLOAD, k.alice, "--detach-sign"), "not one signed"),
    "cut short": (lambda k: k.home.sign(PAYLOAD, k.alice)[:-10], "incomplete|damaged|ends"),
    "empty": (lambda k: b"", "not one signed message"),
    "a bomb": (
        lambda k: k.home.sign(b"\0" * (8 << 20), k.alice),
        "unpacks to too much",
    ),
}


@pytest.fixture(scope="session", autouse=True)
def _encrypting(keys: Keys) -> None:
    keys.home.run("--quick-add-key", keys.alice, "cv25519", "encr", "never")


@pytest.mark.parametrize("how", BAD)
def test_what_is_not_one_good_signature_is_refused(keys: Keys, how: str) -> None:
    make, reason = BAD[how]
    with pytest.raises(BadSignatureError, match=reason):
        verify_message(make(keys), keys.public)


def test_a_signature_with_an_end_is_refused_after_it(keys: Keys) -> None:
    made = keys.home.make("Past <past@example.org>", at=EARLIER)
    message = keys.home.sign(PAYLOAD, made, "--default-sig-expire", "1d", at=EARLIER)
    with pytest.raises(BadSignatureError, match="has expired"):
        verify_message(message, keys.home.export(made))


def test_the_payload_is_bounded_although_the_packets_are_in_order(keys: Keys, monkeypatch) -> None:
    monkeypatch.setattr(gpgv, "MAX_PAYLOAD", 100)
    with pytest.raises(BadSignatureError, match="more than 100 bytes"):
        verify_message(keys.home.sign(b"x" * 101, keys.alice), keys.public)


def test_a_gpgv_that_hangs_is_given_up(keys: Keys, tmp_path: Path, monkeypatch) -> None:
    _fake(tmp_path, "gpgv", "exec sleep 100", monkeypatch)
    monkeypatch.setattr(gpgv, "TIME_LIMIT", 0.2)
    with pytest.raises(BadSignatureError, match="busy for too long"):
        verify_message(keys.home.sign(PAYLOAD, keys.alice), keys.public)


def _fake(tmp_path: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


GOOD = (
    "NEWSIG",
    "GOODSIG 1 x",
    "VALIDSIG {key} 2026-01-01 1700000000 0 4 0 22 8 00 {key}",
    "PLAINTEXT 62 0 x",
)

LIES = {
    "a good signature and exit code 1": (GOOD, 1),
    "no good signature": (tuple(line for line in GOOD if "GOODSIG" not in line), 0),
    "no valid signature": (tuple(line for line in GOOD if "VALIDSIG" not in line), 0),
    "two signatures": ((*GOOD, "NEWSIG"), 0),
    "two payloads": ((*GOOD, "PLAINTEXT 62 0 y"), 0),
    "a good and a bad signature": ((*GOOD, "BADSIG 1 x"), 0),
    "a good and an unknown signature": ((*GOOD, "ERRSIG 1 22 8 00 0 9"), 0),
    "a key that expired": ((*GOOD, "EXPKEYSIG 1 x"), 0),
    "a key that was revoked": ((*GOOD, "REVKEYSIG 1 x"), 0),
    "a signature that expired": ((*GOOD, "EXPSIG 1 x"), 0),
    "data that is none": ((*GOOD, "NODATA 1"), 0),
    "something unexpected": ((*GOOD, "UNEXPECTED 0"), 0),
    "a signature of text": (tuple(line.replace(" 00 ", " 01 ") for line in GOOD), 0),
    "another key": (tuple(line.replace("{key}", "0" * 40) for line in GOOD), 0),
    "short lines": (("NEWSIG", "GOODSIG 1 x", "VALIDSIG 1 2", "PLAINTEXT 62 0 x"), 0),
    "nothing": ((), 0),
}


def _saying(lines: tuple[str, ...], code: int, key: str) -> str:
    """A script that says these lines where --status-fd asks for them."""
    find = 'while [ "$1" != --status-fd ]; do shift; done\n'
    said = "".join(f"echo '[GNUPG:] {line.format(key=key)}' >/dev/fd/$2\n" for line in lines)
    return f"{find}{said}printf payload\nexit {code}"


def test_what_a_good_gpgv_says_is_believed(keys: Keys, tmp_path: Path, monkeypatch) -> None:
    _fake(tmp_path, "gpgv", _saying(GOOD, 0, keys.alice), monkeypatch)
    assert verify_message(_two(keys), keys.public).payload == b"payload"


@pytest.mark.parametrize("what", LIES)
def test_only_one_good_signature_counts_whatever_else_is_said(
    keys: Keys, what: str, tmp_path: Path, monkeypatch
) -> None:
    lines, code = LIES[what]
    _fake(tmp_path, "gpgv", _saying(lines, code, keys.alice), monkeypatch)
    with pytest.raises(BadSignatureError):
        verify_message(_two(keys), keys.public)


def test_gpgv_sees_a_private_home_and_nothing_of_the_user(
    keys: Keys, tmp_path: Path, monkeypatch
) -> None:
    script = 'env >{0}/env; ls -ld "$GNUPGHOME" >{0}/mode; ls "$GNUPGHOME" >{0}/files'
    _fake(tmp_path, "gpgv", script.format(tmp_path), monkeypatch)
    monkeypatch.setenv("SECRET_TOKEN", "x")
    with pytest.raises(BadSignatureError):
        verify_message(_two(keys), keys.public)
    seen = (tmp_path / "env").read_text()
    assert "LC_ALL=C\n" in seen
    assert "SECRET_TOKEN" not in seen
    assert str(keys.home.path) not in seen
    assert (tmp_path / "mode").read_text().startswith("drwx------")
    assert (tmp_path / "files").read_text().split() == ["keys", "message"]


def test_one_gpgv_runs_for_one_signature_and_leaves_nothing(
    keys: Keys, tmp_path: Path, monkeypatch
) -> None:
    real = gpg.find_program("gpgv")
    _fake(tmp_path, "gpgv", f'echo run >>{tmp_path}/runs; exec {real} "$@"', monkeypatch)
    monkeypatch.setattr(gpgv.tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    verify_message(_two(keys), keys.public)
    assert (tmp_path / "runs").read_text() == "run\n"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_without_gpgv_the_error_says_what_to_install(
    keys: Keys, tmp_path: Path, monkeypatch
) -> None:
    message = _two(keys)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match="gpgv is not installed") as raised:
        verify_message(message, keys.public)
    assert "apt-get install" in str(raised.value.hint)


# ---- the user's keys


@pytest.mark.parametrize("name", ["alice@example.org", "Alice", "fingerprint"])
def test_a_secret_key_is_found_by_what_the_user_calls_it(keys: Keys, name: str) -> None:
    text = keys.alice if name == "fingerprint" else name
    assert secret_key(text, keys.home.path) == keys.alice


def test_a_secret_key_that_is_not_there_is_not_found(keys: Keys) -> None:
    with pytest.raises(NotFoundError, match="no secret key 'carol'"):
        secret_key("carol", keys.home.path)


def test_several_keys_of_one_name_are_no_answer(keys: Keys) -> None:
    with pytest.raises(InvalidInputError, match="several secret keys"):
        secret_key("example.org", keys.home.path)


@pytest.mark.parametrize("name", ["", "--homedir=/tmp"])
def test_an_option_is_no_name_of_a_key(keys: Keys, name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be the name"):
        secret_key(name, keys.home.path)


def test_a_public_key_is_exported_in_binary(keys: Keys) -> None:
    assert export_key(keys.alice, keys.home.path) == keys.home.export(keys.alice)
    with pytest.raises(NotFoundError, match="no public key"):
        export_key("0" * 40, keys.home.path)


def test_the_passphrase_opens_the_key(keys: Keys) -> None:
    signer = GpgSigner("lock@", creator="test", home=keys.home.path, passphrase="secret")
    signature = signer.sign(Digest.of(b"m"), "example.org/app:1")
    claim = parse_payload(verify_message(signature.message, keys.public).payload)
    assert (claim.manifest_digest, claim.docker_reference) == (Digest.of(b"m"), "example.org/app:1")
    _forget(keys)


def test_a_wrong_passphrase_is_said_and_not_shown(keys: Keys) -> None:
    _forget(keys)
    signer = GpgSigner("lock@", creator="test", home=keys.home.path, passphrase="guess")
    with pytest.raises(InvalidInputError, match="the passphrase is wrong") as raised:
        signer.sign(Digest.of(b"m"), "example.org/app:1")
    assert "guess" not in str(raised.value)


def test_the_user_is_asked_when_the_agent_cannot_ask(keys: Keys) -> None:
    _forget(keys)
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "secret"

    signer = GpgSigner("lock@", creator="test", home=keys.home.path, ask=ask)
    signer.sign(Digest.of(b"m"), "example.org/app:1")
    assert asked == [f"Passphrase of key {keys.locked}: "]
    _forget(keys)


def test_where_nobody_can_be_asked_the_error_says_what_to_do(keys: Keys) -> None:
    _forget(keys)

    def ask(prompt: str) -> str:
        raise AuthError("there is no terminal")

    signer = GpgSigner("lock@", creator="test", home=keys.home.path, ask=ask)
    with pytest.raises(InvalidInputError, match="its passphrase is needed") as raised:
        signer.sign(Digest.of(b"m"), "example.org/app:1")
    assert "--sign-passphrase-file" in str(raised.value.hint)


def test_a_passphrase_of_two_lines_is_refused(keys: Keys) -> None:
    with pytest.raises(InvalidInputError, match="line break"):
        GpgSigner("lock@", creator="test", home=keys.home.path, passphrase="a\nb")


def _forget(keys: Keys) -> None:
    """Let the agent forget passphrases."""
    agent = keys.home.path / "S.gpg-agent"
    if agent.exists() and stat.S_ISSOCK(agent.stat().st_mode):
        os.system(f"gpgconf --homedir {keys.home.path} --kill gpg-agent >/dev/null 2>&1")


_KILLED = """
    from tests.support.gpgkeys import GpgHome
    home = GpgHome()
    home.make("Eve <eve@example.org>")
    print(home.path, flush=True)
    input()
"""


def _agents_of(home: str) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
            if Path(words[0]).name == "gpg-agent" and home in words:
                found.append(process.name)
    return found


def test_a_test_that_is_killed_leaves_no_keys_and_no_agent() -> None:
    with started(_KILLED) as process:
        home = read_line(process)
        assert _agents_of(home)
        process.kill()
    wait_until(lambda: not Path(home).exists() and not _agents_of(home), 30.0)
