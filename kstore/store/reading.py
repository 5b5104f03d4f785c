"""Reading bytes of the store: verified, bounded, never through a link."""

from __future__ import annotations

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, StoreDamagedError
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.store.session import Session

__all__ = ["read_blob", "read_manifest"]

_TYPES = mt.MANIFESTS | mt.INDEXES | mt.SCHEMA1
_HINT = "kstore check --repair"


def read_blob(session: Session, digest: Digest, *, cap: int) -> bytes:
    """A whole small blob.

    Raises BlobNotFoundError if there is no such file, StoreDamagedError if it has more than
    ``cap`` bytes or its bytes are wrong.
    """
    with session.blobs.open(digest) as file:
        try:
            data = bytearray()
            while len(data) <= cap and (chunk := file.read(min(cap + 1 - len(data), 1 << 20))):
                data += chunk
        except OSError as exc:
            raise StoreDamagedError(
                f"blob {digest} cannot be read: {exc.strerror}", hint=_HINT
            ) from exc
    if len(data) > cap:
        raise StoreDamagedError(f"blob {digest} is larger than {cap} bytes", hint=_HINT)
    if Digest.of(data, digest.algorithm) != digest:
        raise StoreDamagedError(
            f"the bytes of blob {digest} are not the ones that were stored", hint=_HINT
        )
    return bytes(data)


def read_manifest(session: Session, digest: Digest) -> RawManifest:
    """A stored manifest, as it was received.

    It is found by its blob, not by its catalog entry: a lease may still read a manifest that was
    removed meanwhile.
    """
    row = session.db.row("SELECT media_type FROM blob WHERE digest = ?", [str(digest)])
    if row is None or row[0] not in _TYPES:
        raise BlobNotFoundError(f"there is no manifest {digest} in the store")
    try:
        data = read_blob(session, digest, cap=MAX_MANIFEST_SIZE)
    except BlobNotFoundError as exc:
        raise StoreDamagedError(f"the file of manifest {digest} is gone", hint=_HINT) from exc
    return RawManifest(data, row[0], digest)
