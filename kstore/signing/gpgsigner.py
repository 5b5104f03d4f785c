"""Signing images with a GnuPG key of the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kstore.digest import Digest
from kstore.errors import AuthError, InvalidInputError
from kstore.signature import SimpleSignature
from kstore.signing.gpg import PassphraseNeededError, secret_key, sign_message
from kstore.signing.signer import Signer
from kstore.signing.simple import make_payload

__all__ = ["GpgSigner"]


class GpgSigner(Signer):
    """One secret key, by whatever name the user gives it.

    ``home`` is GnuPG's directory (None: its usual one); ``creator`` names the program in what is
    signed.  Without ``passphrase`` the user's agent is asked for it, and then, if that cannot ask,
    ``ask``.  Raises what :func:`kstore.signing.gpg.secret_key` raises.
    """

    kind = SimpleSignature.kind

    def __init__(
        self,
        key: str,
        *,
        creator: str,
        home: Path | None = None,
        passphrase: str | None = None,
        ask: Callable[[str], str] | None = None,
    ) -> None:
        if passphrase is not None and ("\n" in passphrase or "\r" in passphrase):
            raise InvalidInputError("a passphrase cannot have a line break in it")
        self.fingerprint = secret_key(key, home)
        self._creator = creator
        self._home = home
        self._passphrase = passphrase
        self._ask = ask

    def sign(self, manifest_digest: Digest, docker_reference: str) -> SimpleSignature:
        """Raises InvalidInputError for a wrong passphrase, KstoreError for what GnuPG says else."""
        payload = make_payload(
            manifest_digest, docker_reference, creator=self._creator, timestamp=int(time.time())
        )
        return SimpleSignature(self._signed(payload))

    def _signed(self, payload: bytes) -> bytes:
        try:
            return self._attempt(payload)
        except PassphraseNeededError as needed:
            if self._ask is None or self._passphrase is not None:
                raise
            try:
                self._passphrase = self._ask(f"Passphrase of key {self.fingerprint}: ")
            except AuthError:
                raise needed from None  # there is nobody to ask, and a file would do
        return self._attempt(payload)

    def _attempt(self, payload: bytes) -> bytes:
        return sign_message(payload, self.fingerprint, home=self._home, passphrase=self._passphrase)
