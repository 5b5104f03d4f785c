"""Deleting files of blobs: only under the blob's object lock, only without a row."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kstore.digest import Digest
from kstore.store.catalog import Writer
from kstore.store.database import Database
from kstore.store.locks import LockClass, digest_key
from kstore.store.session import Session
from kstore.values import dataclass

__all__ = ["UNREAD", "Swept", "delete_unused_blobs", "sweep", "unread_manifest"]

#: What stands in place of the annotations of a manifest of which nothing was ever read.
UNREAD = '{"org.kstore.unread":"true"}'


@dataclass(slots=True)
class Swept:
    """What a sweep did; ``busy`` counts files that somebody was just committing."""

    removed: int = 0
    bytes_freed: int = 0
    busy: int = 0


def unread_manifest(reader: Database | Writer, *, nameless: bool) -> str | None:
    """A manifest that nobody has understood since the database was made: it may need any blob,
    also where its bytes are there again by now, until its rows say what it needs.

    One that no name and no container leads to only counts if ``nameless`` ones do.
    """
    rows = reader.rows(
        "SELECT m.digest FROM manifest m WHERE m.annotations = ?"
        "  AND (? OR m.digest IN (SELECT manifest FROM container)"
        "   OR EXISTS (SELECT 1 FROM name n WHERE m.digest IN (n.target, n.manifest, n.via))"
        "   OR EXISTS (SELECT 1 FROM edge e JOIN name n ON n.target = e.parent"
        "     WHERE e.child = m.digest AND e.role = 'member'))"
        " LIMIT 1",
        [UNREAD, nameless],
    )
    return rows[0][0] if rows else None


def delete_unused_blobs(writer: Writer, candidates: Iterable[str]) -> set[Digest]:
    """Delete the rows of those ``candidates`` that nothing needs; return them."""
    if unread_manifest(writer, nameless=True) is not None:
        return set()
    deleted = writer.column(
        "DELETE FROM blob WHERE digest IN (SELECT value FROM json_each(?))"
        " AND digest NOT IN (SELECT digest FROM manifest)"
        " AND digest NOT IN (SELECT digest FROM lease_ref)"
        " AND NOT EXISTS (SELECT 1 FROM edge WHERE child = blob.digest"
        "   AND role IN ('config', 'layer')) RETURNING digest",
        [json.dumps(list(candidates))],
    )
    return {Digest.parse(text) for text in deleted}


def sweep(session: Session, digests: Iterable[Digest]) -> Swept:
    """Delete the files of those digests that have no row.

    A file exists without a row only between its rename and the commit, and for all that time its
    committer holds the object lock.  Whoever has that lock and then finds no row may delete.
    """
    swept = Swept()
    for digest in digests:
        lock = session.locks.try_lock(LockClass.OBJECT, digest_key(digest))
        if lock is None:
            swept.busy += 1
            continue
        with lock:
            if has_row(session, digest):
                continue
            size = session.blobs.has(digest)
            if size is not None:
                if not session.rehearsing:
                    session.blobs.delete(digest)
                swept.bytes_freed += size
                swept.removed += 1
    return swept


def has_row(session: Session, digest: Digest) -> bool:
    """Whether the blob counts, according to the database as it is now."""
    return session.db.row("SELECT 1 FROM blob WHERE digest = ?", [str(digest)]) is not None
