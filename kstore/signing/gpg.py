"""The user's own GnuPG: finding keys and signing.  The only importer of python-gnupg.

Verifying is another matter: see :mod:`kstore.signing.gpgv`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from kstore.errors import InvalidInputError, KstoreError, NotFoundError, UnsupportedError
from kstore.registry.answers import plain_text
from kstore.signing.openpgp import MalformedError, check_message

if TYPE_CHECKING:
    import gnupg

__all__ = ["PassphraseNeededError", "export_key", "find_program", "secret_key", "sign_message"]

_INSTALL = "install GnuPG (on Debian: apt-get install gnupg gpgv)"

_FAILURE = re.compile(r"^\[GNUPG:\] FAILURE \S+ (\d{1,12})$", re.MULTILINE)
_REASON = re.compile(r"^gpg: (.+)$", re.MULTILINE)
# Of gpg-error.h: who reports an error, and errors.
_PINENTRY = 5
_BAD_PASSPHRASE = 11
_NOT_ASKED = frozenset({_BAD_PASSPHRASE, 85})  # the second: there is no pinentry


class PassphraseNeededError(InvalidInputError):
    """The agent could not ask for the passphrase of a key."""


def secret_key(key: str, home: Path | None = None) -> str:
    """The fingerprint of the one secret key that the user calls ``key``.

    ``home`` is GnuPG's directory (None: its usual one).  NotFoundError, InvalidInputError if
    several keys answer to it, UnsupportedError without gpg.
    """
    if not key or key.startswith("-"):
        raise InvalidInputError(f"{key!r} cannot be the name of a key")
    found = _gnupg(home).list_keys(secret=True, keys=[key])
    fingerprints = [str(entry["fingerprint"]) for entry in found]
    if not fingerprints:
        raise NotFoundError(
            f"GnuPG has no secret key {key!r:.100}",
            hint="gpg --list-secret-keys shows those it has",
        )
    if len(fingerprints) > 1:
        raise InvalidInputError(
            f"several secret keys are called {key!r:.100}: {', '.join(fingerprints)}"
        )
    return fingerprints[0]


def export_key(key: str, home: Path | None = None) -> bytes:
    """The user's public key with this fingerprint, binary; NotFoundError, UnsupportedError."""
    data: bytes | str = _gnupg(home).export_keys(key, armor=False)
    if not data or isinstance(data, str):
        raise NotFoundError(f"GnuPG has no public key {key!r:.100}")
    return data


def sign_message(
    payload: bytes, fingerprint: str, *, home: Path | None = None, passphrase: str | None = None
) -> bytes:
    """``payload`` as an OpenPGP message signed by a secret key of the user.

    Without ``passphrase`` (one line) the user's agent is asked for it.  Raises InvalidInputError
    for one that is wrong, PassphraseNeededError if the agent cannot ask, UnsupportedError without
    gpg, KstoreError for what GnuPG says otherwise.
    """
    result = _gnupg(home).sign(
        payload,
        clearsign=False,
        binary=True,
        passphrase=passphrase or None,
        extra_args=["--no-textmode", "--local-user", fingerprint],
    )
    message = bytes(result.data)
    if not message or result.returncode != 0:
        raise _refused(fingerprint, str(result.stderr), passphrase)
    try:
        check_message(message)
    except MalformedError as exc:
        raise KstoreError(f"GnuPG made a signature that {exc}") from exc
    return message


def _refused(fingerprint: str, said: str, passphrase: str | None) -> KstoreError:
    """The error for what gpg wrote instead of a signature.

    Its status line FAILURE has a number of libgpg-error: who failed, and of what.
    """
    what = f"GnuPG did not sign with key {fingerprint}"
    found = _FAILURE.search(said)
    number = int(found.group(1)) if found else 0
    source, code = number >> 24 & 0x7F, number & 0xFFFF
    if passphrase is not None and code == _BAD_PASSPHRASE:
        return InvalidInputError(f"{what}: the passphrase is wrong")
    if passphrase is None and (source == _PINENTRY or code in _NOT_ASKED):
        return PassphraseNeededError(
            f"{what}: its passphrase is needed", hint="give it with --sign-passphrase-file FILE"
        )
    reasons = _REASON.findall(said)
    return KstoreError(f"{what}: {plain_text(reasons[-1]) if reasons else 'it did not say why'}")


@lru_cache(maxsize=8)  # making one runs gpg, to learn its version
def _gnupg(home: Path | None) -> gnupg.GPG:
    import gnupg

    logger = logging.getLogger("gnupg")
    if not logger.handlers:  # its warnings would reach standard error where nobody set up logging
        logger.addHandler(logging.NullHandler())
    program = find_program("gpg")
    try:
        return gnupg.GPG(gpgbinary=program, gnupghome=None if home is None else str(home))
    except (OSError, ValueError) as exc:
        raise UnsupportedError(f"GnuPG cannot be used: {exc}", hint=_INSTALL) from exc


def find_program(name: str) -> str:
    """The absolute path of a program of GnuPG; UnsupportedError says what to install.

    What of PATH depends on the current directory is left out: that may be an image's tree.
    """
    directories = [each for each in os.get_exec_path() if Path(each).is_absolute()]
    path = shutil.which(name, path=os.pathsep.join(directories))
    if path is None:
        raise UnsupportedError(f"{name} is not installed", hint=_INSTALL)
    return path
