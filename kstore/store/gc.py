"""Garbage collection, safe beside everything else that runs.

One transaction decides: it drops dead leases, follows everything reachable from names, leases and
(unless they are to go) nameless images, and deletes every other row.  A pull that saw a row before
has inserted its hold in the same transaction that saw it, so either this sees the hold or the pull
sees no row.  Files follow after the commit, each under its object lock; a crash anywhere leaves
garbage, never a hole.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import field

from kstore.blobs import storage_errors
from kstore.digest import Digest
from kstore.errors import REPAIR, StorageFullError, StoreDamagedError
from kstore.reference import Named
from kstore.store.catalog import Writer
from kstore.store.containers import remove_tree, sweep_abandoned
from kstore.store.database import back_up
from kstore.store.locks import LockClass
from kstore.store.mend import sweep_aside
from kstore.store.partials import PartialCollector, abandoned
from kstore.store.provenance import rewrite
from kstore.store.records import NameRecord
from kstore.store.reports import PruneReport
from kstore.store.retention import Retention, chosen_names
from kstore.store.root import remove_drafts
from kstore.store.session import Session
from kstore.store.sweep import Swept, sweep, unread_manifest
from kstore.values import dataclass

__all__ = ["prune"]

#: Everything that something needs.  The index a name was chosen from stays, but not its members; a
#: tag made of the digest of what it is attached to (a signature, say) needs nothing by itself, and
#: what had such a tag is nothing without it.
_REACHABLE = """
CREATE TEMP TABLE reachable AS
WITH RECURSIVE chosen(digest) AS (
  SELECT digest FROM manifest WHERE image_id IN (SELECT value FROM json_each(:only))
  UNION SELECT e.parent FROM edge e JOIN chosen c ON c.digest = e.child WHERE e.role = 'member'
  UNION SELECT m.digest FROM manifest m JOIN chosen c ON m.subject = c.digest),
spared(digest) AS (
  SELECT digest FROM manifest WHERE :only IS NOT NULL
    AND digest NOT IN (SELECT digest FROM chosen)),
root AS (
  SELECT n.target, n.manifest, n.via FROM name n WHERE NOT EXISTS (
    SELECT 1 FROM manifest m JOIN manifest s ON s.digest = m.subject
    WHERE m.digest = n.target AND n.tag LIKE replace(m.subject, ':', '-') || '.%')
    OR n.name IN (SELECT name FROM protection)),
reach(digest, below) AS (
  SELECT target, 1 FROM root
  UNION SELECT manifest, 1 FROM root WHERE manifest IS NOT NULL
  UNION SELECT via, 0 FROM root WHERE via IS NOT NULL
  UNION SELECT digest, 1 FROM lease_ref
  UNION SELECT manifest, 1 FROM container WHERE manifest IS NOT NULL
  UNION SELECT digest, 1 FROM spared
  UNION SELECT digest, 0 FROM blob WHERE :unread IS NOT NULL
  UNION SELECT e.child, 1 FROM edge e JOIN reach r ON e.parent = r.digest
    WHERE r.below AND e.role <> 'subject'
  UNION SELECT m.digest, 1 FROM manifest m JOIN reach r ON m.subject = r.digest
    WHERE EXISTS (SELECT 1 FROM edge e WHERE e.parent = m.digest AND e.role = 'subject')
      OR EXISTS (SELECT 1 FROM name n WHERE n.target = m.digest))
SELECT DISTINCT digest FROM reach
"""

_LOST = "NOT IN (SELECT digest FROM reachable)"


@dataclass(slots=True)
class _Garbage:
    """Rows that the transaction deleted."""

    images: list[str] = field(default_factory=list)
    names: list[Named] = field(default_factory=list)
    blobs: set[Digest] = field(default_factory=set)
    manifests: int = 0
    log_entries: int = 0


def prune(
    session: Session,
    *,
    all_unused_partials: bool,
    dry_run: bool,
    only_images: Collection[str] | None,
    retention: Retention | None,
    lease_grace: float,
    partial_grace: float,
) -> PruneReport:
    """See :meth:`kstore.store.Store.prune`."""
    session.require_writable()
    lock = session.locks.try_lock(LockClass.GC)
    if lock is None:
        return PruneReport(already_running=True)
    with lock:
        _check_trustworthy(session)
        garbage = session.freeing(
            lambda: _delete_rows(
                session,
                retention or Retention(),
                keep=not dry_run,
                only=only_images,
                lease_grace=lease_grace,
            )
        )
        partials = PartialCollector(session, 0.0 if all_unused_partials else partial_grace, dry_run)
        partials.collect()
        aside = sweep_aside(session, garbage.blobs, dry_run=dry_run)
        if dry_run:
            swept = _files_of(session, garbage)
        else:
            swept = sweep(session, _orphans(session))
            sweep_abandoned(session)
            _empty_abandoned(session)
            session.db.checkpoint("TRUNCATE")
            try:
                rewrite(session)
                _rotate_backup(session)
            except StorageFullError as exc:  # pruning is what a full disk needs; this can wait
                session.warn(f"the database was not backed up: {exc}")
    return PruneReport(
        deleted=tuple(garbage.images),
        untagged=tuple(garbage.names),
        blobs_removed=swept.removed,
        partials_removed=partials.removed,
        bytes_freed=swept.bytes_freed + partials.bytes_freed + aside,
        skipped_busy=swept.busy + partials.busy,
        log_entries_removed=garbage.log_entries,
    )


def _check_trustworthy(session: Session) -> None:
    """A damaged database must not decide what is deleted."""
    (answer,) = session.db.row("PRAGMA quick_check(1)")
    if answer != "ok":
        raise StoreDamagedError(
            f"the database {session.root.database} is damaged, so nothing was pruned: {answer}",
            hint=REPAIR,
        )


def _delete_rows(
    session: Session,
    retention: Retention,
    *,
    keep: bool,
    only: Collection[str] | None,
    lease_grace: float,
) -> _Garbage:
    garbage = _Garbage()
    with session.write(keep=keep) as db:
        writer = Writer(db)
        _drop_dead_leases(session, writer, lease_grace)
        names = chosen_names(session, retention)
        if only is not None:
            only = {*only, *_images_under(writer, names)}
        for record in names:
            writer.drop_name(str(record.name), session.command)
            garbage.names.append(record.name)
        chosen = None if only is None else json.dumps(sorted(only))
        unread = unread_manifest(writer, nameless=only is not None)
        if unread is not None:
            session.warn(
                f"manifest {unread} cannot be read, and might need any blob, so none is removed"
                " until kstore check --repair has fetched it, or kstore rmi has taken away the"
                " names that kstore check shows with it"
            )
        writer.execute(_REACHABLE, {"only": chosen, "unread": unread})
        for name in writer.column(f"SELECT name FROM name WHERE target {_LOST}"):  # noqa: S608
            writer.drop_name(name, session.command)
        _delete_unreachable(writer, garbage)
        writer.execute("DROP TABLE reachable")  # a rollback drops it, too
        garbage.log_entries = writer.shorten_log()
        if garbage.names:
            writer.bump_generation()
    if keep and (garbage.manifests or garbage.names):
        session.changed = True
    return garbage


def _images_under(writer: Writer, names: Collection[NameRecord]) -> set[str]:
    """The images that these names lead to, all members of indexes included."""
    found: set[str] = set()
    for record in names:
        found.update(
            writer.column(
                "SELECT image_id FROM manifest WHERE image_id IS NOT NULL AND (digest IN (?1, ?2)"
                " OR digest IN (SELECT child FROM edge WHERE parent = ?1 AND role = 'member'))",
                [str(record.target), str(record.manifest)],
            )
        )
    return found


def _delete_unreachable(writer: Writer, garbage: _Garbage) -> None:
    lost = f"digest {_LOST}"
    # Garbage may refer to garbage: the order of deletion follows the foreign keys.
    touched = writer.column(f"DELETE FROM manifest WHERE {lost} RETURNING image_id")  # noqa: S608
    garbage.manifests = len(touched)
    orphaned = "id NOT IN (SELECT image_id FROM manifest WHERE image_id IS NOT NULL)"
    garbage.images = writer.column(f"DELETE FROM image WHERE {orphaned} RETURNING id")  # noqa: S608
    for image_id in set(filter(None, touched)) - set(garbage.images):
        writer.measure_image(image_id)
    if touched:
        writer.bump_generation()
    blobs = writer.column(f"DELETE FROM blob WHERE {lost} RETURNING digest")  # noqa: S608
    garbage.blobs = set(map(Digest.parse, blobs))


def _drop_dead_leases(session: Session, writer: Writer, grace: float) -> None:
    """Forget leases whose owner is gone; the clock only decides how long that saves bandwidth."""
    for lease_id, touched in writer.rows("SELECT id, touched_at FROM lease"):
        age = (writer.now - touched) / 1e6
        if not session.locks.is_held(LockClass.LEASE, lease_id) and not 0 <= age < grace:
            writer.drop_lease(lease_id)


def _orphans(session: Session) -> list[Digest]:
    """Files that no row speaks of."""
    known = {row[0] for row in session.db.rows("SELECT digest FROM blob")}
    return [digest for digest in session.blobs.digests() if str(digest) not in known]


def _files_of(session: Session, garbage: _Garbage) -> Swept:
    """What a sweep would do if the rows were gone."""
    swept = Swept()
    for digest in {*garbage.blobs, *_orphans(session)}:
        size = session.blobs.has(digest)
        if size is not None:
            swept.removed += 1
            swept.bytes_freed += size
    return swept


def _empty_abandoned(session: Session) -> None:
    remove_drafts(session.root)
    with storage_errors("empty the trash"):
        for directory in (session.root.staging, session.root.trash):
            for path in abandoned(session, directory):
                if path.is_dir() and not path.is_symlink():
                    remove_tree(path)
                else:
                    path.unlink(missing_ok=True)


def _rotate_backup(session: Session) -> None:
    """Keep two consistent copies of the database, the newer one as number 0."""
    with storage_errors("rotate the database backups"):
        if session.root.backup(0).exists():
            session.root.backup(0).replace(session.root.backup(1))
    back_up(session.db.connection, session.root.backup(0))
