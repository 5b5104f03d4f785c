"""One home of GnuPG with a key of every kind, made once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.gpgkeys import GpgHome

EARLIER = "20200101T000000"


@dataclass(frozen=True)
class Keys:
    home: GpgHome
    alice: str  # Ed25519
    rsa: str
    bob: str  # a stranger in most tests
    with_subkey: str
    revoked_subkey: str
    revoked: str
    expired: str
    locked: str  # its passphrase is "secret"

    @property
    def public(self) -> bytes:
        """The public halves of all keys but the stranger's, as they are now."""
        return self.home.export(
            *(self.alice, self.rsa, self.with_subkey, self.revoked_subkey),
            *(self.revoked, self.expired, self.locked),
        )


@pytest.fixture(scope="session")
def keys() -> Iterator[Keys]:
    with GpgHome() as home:
        made = Keys(
            home,
            alice=home.make("Alice <alice@example.org>"),
            rsa=home.make("Rsa <rsa@example.org>", kind="rsa2048"),
            bob=home.make("Bob <bob@example.org>"),
            with_subkey=home.make("Sub <sub@example.org>", usage="cert"),
            revoked_subkey=home.make("Old <old@example.org>", usage="cert"),
            revoked=home.make("Gone <gone@example.org>"),
            expired=home.make("Exp <exp@example.org>", expires="1d", at=EARLIER),
            locked=home.make("Lock <lock@example.org>", passphrase="secret"),
        )
        home.add_subkey(made.with_subkey)
        home.add_subkey(made.revoked_subkey)
        yield made
