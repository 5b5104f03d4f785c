"""Make a pair of sigstore keys."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from kstore.blobs import write_new_file
from kstore.errors import ConflictError
from kstore.formats.spool import file_errors
from kstore.values import dataclass

__all__ = ["KeyPair", "generate_key_pair"]

_PRIVATE, _PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The files that were written."""

    private: Path
    public: Path


def generate_key_pair(prefix: str, passphrase: bytes | None) -> KeyPair:
    """Write a new key pair to ``PREFIX.private`` and ``PREFIX.pub``.

    The private key is encrypted as cosign and skopeo do it, with None not at all.  Raises
    ConflictError if one of the files is there (nothing is ever overwritten), StorageError.
    """
    from kstore.signing.keyfile import generate_key

    pair = KeyPair(Path(f"{prefix}.private"), Path(f"{prefix}.pub"))
    for path in (pair.private, pair.public):
        if path.is_symlink() or path.exists():
            raise _taken(path)
    private, public = generate_key(passphrase)
    _write(pair.private, private, _PRIVATE)
    try:
        _write(pair.public, public, _PUBLIC)
    except BaseException:
        with suppress(OSError):
            pair.private.unlink()
        raise
    return pair


def _write(path: Path, data: bytes, mode: int) -> None:
    with file_errors(f"write key file {path}"):
        try:
            write_new_file(path, data, mode=mode)
        except FileExistsError as exc:
            raise _taken(path) from exc


def _taken(path: Path) -> ConflictError:
    return ConflictError(f"{path} exists already, and keys are never overwritten")
