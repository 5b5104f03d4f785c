"""Making the database anew from what is there: blobs, index.json, backups, and what of the damaged
one can still be read.

The new one is made beside the old, in ``db/rebuild.db``, alone in the store; the old one is kept as
``db/damaged.db``.  Until the last rename everything is as it was, and a rebuild that was
interrupted begins anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

from kstore import mediatypes as mt
from kstore.blobs import fsync_directory, storage_errors
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, KstoreError, StorageError
from kstore.manifest import MAX_MANIFEST_SIZE, Manifest, RawManifest, parse_index
from kstore.reference import Named
from kstore.store import schema
from kstore.store.catalog import Writer
from kstore.store.containers import recover_rows
from kstore.store.database import Database, database_errors, set_journal
from kstore.store.examine import Reading, examine
from kstore.store.fingerprints import BlobReader
from kstore.store.incomplete import document_without_config
from kstore.store.locks import LockClass, LockFile
from kstore.store.publish import Document, put_document, read_document
from kstore.store.reading import read_blob
from kstore.store.reports import RebuildReport
from kstore.store.restore import drop_remains, put_names, put_rows, put_unread_manifests
from kstore.store.root import Root, open_root, remove_drafts
from kstore.store.salvage import Evidence, gather
from kstore.store.session import Session
from kstore.streams import Cancel

__all__ = ["rebuild"]


def rebuild(
    path: Path,
    *,
    command: str = "",
    warn: Callable[[str], None] | None = None,
    wait_seconds: float = 30.0,
    progress: Callable[[int], None] | None = None,
    cancel: Cancel | None = None,
    network_ok: bool = False,
) -> RebuildReport:
    """Make the database of the store at ``path`` anew from blobs, index.json and backups.

    Nobody else may be using the store, which is waited for.  When this fails or is stopped,
    everything is as it was.  ``progress`` is told the size of every chunk read.  Raises
    StorageError, ConflictError if there is no store, CancelledError.
    """
    root = open_root(path, create=False, lost_ok=True, network_ok=network_ok, warn=warn)
    locks = LockFile(root.locks)
    what = f"the store at {root.path}"
    with locks.lock(LockClass.STORE, wait_seconds=wait_seconds, what=what) as held:
        remove_drafts(root)
        evidence = gather(root)
        draft = root.draft
        try:
            _begin(draft, evidence.base)
            database = Database(draft, locks, read_only=False, frozen=False, wait_seconds=1.0)
            try:
                session = Session(
                    root, locks, held, database, command=command, wait_seconds=1.0, warn=warn
                )
                work = _Rebuilding(session, evidence, cancel or Cancel())
                report = work.run(progress or (lambda size: None))
            finally:
                database.close()
            understood = any(found.source == root.index.name for found in evidence.complete)
            _install(root, draft, keep_index=not understood)
        finally:
            _remove(draft)
    return report


def _begin(draft: Path, base: Path | None) -> None:
    """A database with the present schema: the backup, or an empty one."""
    _remove(draft)
    with storage_errors(f"make {draft}"):
        if base is not None:
            shutil.copyfile(base, draft)
    with database_errors(draft), contextlib.closing(_connect(draft)) as connection:
        version = schema.version_of(connection)
        if version == 0:
            schema.lay_out(connection)
        elif version < schema.SCHEMA_VERSION:
            connection.execute("BEGIN IMMEDIATE")
            schema.migrate(connection)
            connection.execute("COMMIT")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _remove(draft: Path) -> None:
    with storage_errors(f"remove {draft}"):
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{draft}{suffix}").unlink(missing_ok=True)


def _install(root: Root, draft: Path, *, keep_index: bool) -> None:
    """Put the new database in place; the old one, with its log, is kept aside."""
    with database_errors(draft), contextlib.closing(_connect(draft)) as connection:
        set_journal(connection, root)
    with storage_errors(f"put the rebuilt database in place of {root.database}"):
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        # The log goes with its database: beside another one it would be poison.
        aside = root.damaged_database
        for suffix in ("", "-wal"):
            old = Path(f"{root.database}{suffix}")
            if old.exists():
                old.replace(f"{aside}{suffix}")
        Path(f"{root.database}-shm").unlink(missing_ok=True)
        if keep_index and root.index.exists():
            # It will be written anew, and somebody may still read in it what nothing else tells.
            shutil.copyfile(root.index, root.database.with_name("damaged-index.json"))
        draft.replace(root.database)
        fsync_directory(root.database.parent)


class _Rebuilding:
    """The steps, each a transaction; a class because they share what was found out."""

    def __init__(self, session: Session, evidence: Evidence, cancel: Cancel) -> None:
        self._session = session
        self._evidence = evidence
        self._cancel = cancel
        self._good: dict[Digest, os.stat_result] = {}
        self._bad: list[Digest] = []
        self._unreadable: list[str] = []
        self._restored = 0
        self._lost: list[Named] = []
        self._wanted = evidence.wanted_names()
        self._names: dict[Digest, list[Named]] = {}
        for name, row in self._wanted.items():
            self._names.setdefault(row.target, []).append(name)

    def run(self, progress: Callable[[int], None]) -> RebuildReport:
        self._read_blobs(progress)
        documents = self._documents()
        with self._session.write() as db:
            writer = Writer(db)
            self._correct_blobs(writer)
            for document in documents:
                self._put(writer, document)
            members = put_unread_manifests(self._session, writer, self._evidence, self._bad)
            put_rows(writer, self._evidence)
            recover_rows(self._session, writer)
            self._restored, self._lost = put_names(self._session, writer, self._wanted)
            drop_remains(writer, members)
            writer.execute(
                "UPDATE meta SET value = ? WHERE key = 'generation'",
                [str(self._evidence.generation + 1)],
            )
        return self._report()

    def _read_blobs(self, progress: Callable[[int], None]) -> None:
        blobs = self._session.blobs
        readings = [Reading(digest) for digest in sorted(blobs.digests())]
        for found in examine(blobs, readings, progress=progress, cancel=self._cancel):
            if found.facts is not None:
                self._good[found.digest] = found.facts
            else:
                self._bad.append(found.digest)

    def _correct_blobs(self, writer: Writer) -> None:
        """The rows of blobs say what was read just now."""
        writer.execute("DELETE FROM lease")
        writer.execute("UPDATE blob SET state = 'missing'")
        for digest in self._bad:
            writer.set_state(digest, "suspect")
        for digest, facts in self._good.items():
            writer.put_blob(digest, facts, None)

    # ---- manifests

    def _documents(self) -> list[Document]:
        """Every manifest that is there and has no row, images before indexes."""
        entries = {
            key: item for one in self._evidence.complete for key, item in one.entries.items()
        }
        known = {row[0] for row in self._session.db.rows("SELECT digest FROM manifest")}
        small = [
            digest
            for digest, facts in self._good.items()
            if facts.st_size <= MAX_MANIFEST_SIZE and str(digest) not in known
        ]
        candidates = {digest: data for digest in small if (data := self._object(digest))}
        raws = _received(candidates, entries)
        for raw in raws:  # what an index calls its members is how they were received
            if raw.is_index:
                with contextlib.suppress(KstoreError):
                    entries |= {item.digest: item for item in parse_index(raw).manifests}
        documents = []
        for raw in sorted(_received(candidates, entries), key=lambda raw: raw.is_index):
            self._cancel.check()
            document: Document | None
            try:
                document = read_document(self._session, raw)
            except KstoreError as error:
                self._unreadable.append(f"manifest {raw.digest}: {error.message}")
                document = document_without_config(raw, entries.get(raw.digest))
            if document is not None:
                documents.append(document)
        return documents

    def _object(self, digest: Digest) -> bytes | None:
        """The bytes of a blob that may be a manifest."""
        try:
            with BlobReader(self._session.blobs, digest) as file:
                start = memoryview(bytearray(64))
                if not bytes(start[: file.readinto(start)]).lstrip().startswith(b"{"):
                    return None
            data = read_blob(self._session, digest, cap=MAX_MANIFEST_SIZE)
        except (BlobNotFoundError, StorageError):
            # It was good a moment ago: a disk that fails may do so at any time.
            del self._good[digest]
            self._bad.append(digest)
            return None
        return data if b'"schemaVersion"' in data else None

    def _put(self, writer: Writer, document: Document) -> None:
        if isinstance(document.view, Manifest):
            for blob in document.view.blobs:
                if blob.digest not in self._good and not mt.is_foreign_layer(blob.media_type):
                    self._want(writer, blob)
        names = self._names.get(document.raw.digest, ())
        image_id = put_document(self._session, writer, document, names)
        # When its manifest was written is when it came.
        digest = document.raw.digest
        came = [self._good[digest].st_mtime_ns // 1000]
        writer.execute("UPDATE manifest SET added_at = ? WHERE digest = ?", [*came, str(digest)])
        writer.execute(
            "UPDATE image SET added_at = min(added_at, ?) WHERE id = ?", [*came, image_id]
        )

    def _want(self, writer: Writer, blob: Descriptor) -> None:
        writer.put_unusable_blob(blob, "suspect" if blob.digest in self._bad else "missing")

    def _report(self) -> RebuildReport:
        images, blobs, damaged = self._session.db.row(
            "SELECT (SELECT count(*) FROM image), count(*), coalesce(sum(state <> 'present'), 0)"
            " FROM blob"
        )
        sources = [found.source for found in self._evidence.complete if found.names]
        leftover = self._evidence.leftover
        if leftover is not None and leftover.names:
            sources.append("the damaged database")
        return RebuildReport(
            images=images,
            names=self._restored,
            blobs=blobs,
            unusable_blobs=damaged,
            sources=tuple(sources),
            lost_names=tuple(self._lost),
            not_understood=tuple(self._unreadable),
        )


def _received(
    candidates: dict[Digest, bytes], entries: dict[Digest, Descriptor]
) -> list[RawManifest]:
    """Those of the blobs that are manifests."""
    raws = []
    for digest, data in candidates.items():
        media_type = entries[digest].media_type if digest in entries else None
        with contextlib.suppress(KstoreError):
            raws.append(RawManifest.receive(data, media_type, digest))
    return raws
