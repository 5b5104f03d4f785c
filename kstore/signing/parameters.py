"""Files that say how to make a sigstore signature.

Source: containers-sigstore-signing-params.yaml(5).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kstore.blobs import read_file
from kstore.errors import InvalidInputError, UnsupportedError
from kstore.registry.plainyaml import parse_yaml
from kstore.values import dataclass

__all__ = ["SigningParameters", "read_parameters"]

_MAX_FILE = 64 * 1024
_KEY, _PASSPHRASE = "privateKeyFile", "privateKeyPassphraseFile"
#: What a signature could be made with besides a key, and what that is.
_BEYOND = {"fulcio": "a certificate by Fulcio", "rekorURL": "an entry in a log of rekor"}


@dataclass(frozen=True, slots=True)
class SigningParameters:
    """The file of a private key, and the one whose first line is its passphrase."""

    key_file: Path
    passphrase_file: Path | None = None


def read_parameters(file: Path) -> SigningParameters:
    """What ``file`` says.

    Raises NotFoundError without the file, InvalidInputError for what is not understood,
    UnsupportedError if it wants more than a signature by a key.
    """
    invalid = partial(_invalid, file)
    document = parse_yaml(read_file(file, _MAX_FILE, f"parameter file {file}"), invalid)
    for name, value in document.items():
        if name in _BEYOND:
            raise UnsupportedError(f"{file} asks for {_BEYOND[name]}, which kstore does not make")
        if name not in (_KEY, _PASSPHRASE):
            raise invalid(f"the key {name!r:.100} is unknown")
        if not isinstance(value, str) or not value:
            raise invalid(f"{name} is not a text")
    if _KEY not in document:
        raise invalid(f"it has no {_KEY}")
    secret = document.get(_PASSPHRASE)
    return SigningParameters(Path(document[_KEY]), None if secret is None else Path(secret))


def _invalid(file: Path, why: str) -> InvalidInputError:
    return InvalidInputError(f"{file} does not say how to sign: {why}")
