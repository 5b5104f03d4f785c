"""Signatures of stored manifests: they come with a manifest, and go with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, IntegrityError
from kstore.store import schema
from kstore.store.catalog import Writer
from kstore.store.session import Session

__all__ = [
    "MAX_SIGNATURES",
    "add_signatures",
    "note_signatures",
    "put_signatures",
    "read_signatures",
]

#: Most signatures of one manifest.
MAX_SIGNATURES = 128
_SINCE = 4  # the schema version that brought the table


def read_signatures(session: Session, manifest: Digest) -> list[bytes]:
    """See :meth:`kstore.store.Store.signatures`."""
    if schema.version_of(session.db.connection) < _SINCE:
        return []  # a store that is only read, and not upgraded for that
    rows = session.db.rows(
        "SELECT data FROM signature WHERE manifest = ? ORDER BY ordinal", [str(manifest)]
    )
    return [row[0] for row in rows]


def add_signatures(session: Session, manifest: Digest, signatures: Sequence[bytes]) -> None:
    """See :meth:`kstore.store.Store.add_signatures`."""
    with session.write() as db:
        writer = Writer(db)
        if not writer.column("SELECT 1 FROM manifest WHERE digest = ?", [str(manifest)]):
            raise BlobNotFoundError(f"manifest {manifest} is not in the store")
        new = put_signatures(writer, {manifest: signatures})
    note_signatures(session, new)


def note_signatures(session: Session, signatures: Mapping[Digest, Sequence[bytes]]) -> None:
    """Signatures that the catalog has by now are to be known without it, too."""
    if signatures:
        from kstore.store import provenance  # here: hardly any image brings some

        provenance.note_signatures(session, signatures)


def put_signatures(
    writer: Writer, signatures: Mapping[Digest, Sequence[bytes]]
) -> dict[Digest, list[bytes]]:
    """Add to what there is, inside a transaction; those that are new.

    The same manifest may be stored under several names, each with a signature of its own, so none
    takes the place of another.  IntegrityError if there are too many.
    """
    added: dict[Digest, list[bytes]] = {}
    for manifest, given in signatures.items():
        there = writer.column(
            "SELECT data FROM signature WHERE manifest = ? ORDER BY ordinal", [str(manifest)]
        )
        new = [data for data in dict.fromkeys(given) if data not in there]
        if len(there) + len(new) > MAX_SIGNATURES:
            raise IntegrityError(f"manifest {manifest} has more than {MAX_SIGNATURES} signatures")
        for ordinal, data in enumerate(new, len(there)):
            writer.execute("INSERT INTO signature VALUES (?, ?, ?)", [str(manifest), ordinal, data])
        if new:
            added[manifest] = new
    return added
