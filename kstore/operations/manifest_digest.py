"""The digest a manifest goes by."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from kstore.blobs import read_file
from kstore.digest import Digest
from kstore.errors import InvalidInputError, InvalidManifestError, StorageError
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest

__all__ = ["manifest_digest"]


def manifest_digest(
    source: str, *, algorithm: str = "sha256", stdin: BinaryIO | None = None
) -> Digest:
    """The digest of the manifest or index in the file ``source`` (``-`` reads ``stdin``).

    Of a signed Docker schema 1 manifest it is the digest of what was signed.  Raises
    NotFoundError where there is no such file, InvalidManifestError if it is no manifest.
    """
    data = _read(source, stdin)
    shown = "standard input" if source == "-" else source
    if not data:
        raise InvalidManifestError(f"{shown} is not a manifest: it is empty")
    try:
        raw = RawManifest.receive(data)
    except InvalidManifestError as exc:
        # It was asked for by the file's name, not by a digest.
        said = exc.message.replace(f"manifest {Digest.of(data)}", "it", 1)
        raise InvalidManifestError(f"{shown} is not a manifest: {said}") from exc
    return raw.digest if algorithm == raw.digest.algorithm else Digest.of(raw.content, algorithm)


def _read(source: str, stdin: BinaryIO | None) -> bytes:
    if source != "-":
        return read_file(Path(source), MAX_MANIFEST_SIZE, f"manifest {source}")
    if stdin is None:
        raise InvalidInputError("there is no standard input to read a manifest from")
    try:
        return stdin.read(MAX_MANIFEST_SIZE + 1)  # one more shows that it is too large
    except OSError as exc:
        raise StorageError(f"cannot read standard input: {exc.strerror}") from exc
