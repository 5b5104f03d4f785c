"""Comparing what the catalog says with what is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, KstoreError, StorageError, StoreDamagedError
from kstore.manifest import Index, Manifest, parse
from kstore.store import layout, provenance
from kstore.store.catalog import Writer
from kstore.store.claims import Claims, read_claims
from kstore.store.examine import Examined, Reading, examine
from kstore.store.facts import FactTable, LayerFact
from kstore.store.fingerprints import same_file
from kstore.store.incomplete import complete
from kstore.store.queries import name_checksum
from kstore.store.reading import read_manifest
from kstore.store.reports import CheckReport, Problem, ProblemKind
from kstore.store.root import strange_names
from kstore.store.session import Session
from kstore.store.sweep import has_row
from kstore.streams import Cancel

__all__ = ["check"]


def check(
    session: Session,
    *,
    deep: bool,
    max_seconds: float | None,
    progress: Callable[[int], None] | None,
    cancel: Cancel | None,
) -> CheckReport:
    """See :meth:`kstore.store.Store.check`."""
    session.require_store()
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    inspection = _Inspection(session, progress or (lambda size: None), cancel or Cancel())
    if not inspection.check_database():
        return inspection.report()  # its rows prove nothing
    inspection.check_blobs(deep=deep, deadline=deadline)
    inspection.complete_images()
    inspection.check_names()
    inspection.check_manifests()
    inspection.check_orphans()
    inspection.record_states()
    inspection.check_layout()
    return inspection.report()


class _Inspection:
    """One run of the check, and what it found."""

    def __init__(self, session: Session, progress: Callable[[int], None], cancel: Cancel) -> None:
        self._session = session
        self._tell = progress
        self._cancel = cancel
        self._problems: list[Problem] = []
        self._bad: dict[Digest, str] = {}  # to the state of its row
        self._good: dict[Digest, os.stat_result] = {}  # those whose every byte was read
        self._doubtful: set[Digest] = set()  # those that could not be used before
        self._facts: list[LayerFact] = []
        self._blobs = self._bytes = self._images = self._unread = 0

    def report(self) -> CheckReport:
        return CheckReport(
            tuple(self._problems), self._blobs, self._bytes, self._images, self._unread
        )

    def _found(
        self,
        kind: ProblemKind,
        subject: object,
        detail: str,
        *,
        images: Iterable[str] = (),
        garbage: bool = False,
    ) -> None:
        self._problems.append(Problem(kind, str(subject), detail, tuple(images), garbage))

    # ---- the steps

    def check_database(self) -> bool:
        """Whether SQLite can read everything and all references hold."""
        db = self._session.db
        try:
            answers = [row[0] for row in db.rows("PRAGMA quick_check(20)")]
            answers = [] if answers == ["ok"] else answers
            loose = db.rows("PRAGMA foreign_key_check")
        except StoreDamagedError as exc:
            answers, loose = [exc.message], []
        for answer in answers:
            self._found("database", self._session.root.database.name, answer)
        for table, _, parent, _ in loose[:20]:
            self._found("database", table, f"a row of {table} refers to a missing row of {parent}")
        return not answers

    def check_blobs(self, *, deep: bool, deadline: float | None) -> None:
        """Every row has its file, unchanged; the bytes of a changed one (or of all) are read.

        Those that were verified longest ago come first.
        """
        everything = deep or deadline is not None
        claims = read_claims(self._session, self._found, self._cancel) if deep else Claims()
        known = FactTable(self._session)
        readings: list[Reading] = []
        for text, size, state, ino, mtime_ns in self._session.db.rows(
            "SELECT digest, size, state, ino, mtime_ns FROM blob"
            " ORDER BY verified_at IS NOT NULL, verified_at, digest"
        ):
            self._cancel.check()
            self._blobs += 1
            digest = Digest.parse(text)
            facts = self._file_facts(digest, size)
            if facts is None:
                continue
            if state != "present":
                self._doubtful.add(digest)
            if everything or state != "present" or not same_file(facts, ino, mtime_ns, size):
                readings.append(claims.reading(digest, known))
        results = examine(
            self._session.blobs,
            readings,
            progress=self._count,
            cancel=self._cancel,
            deadline=deadline,
        )
        done = sorted(results, key=lambda examined: examined.digest)
        self._unread = len(readings) - len(done)
        for examined in done:
            self._take(examined, claims)

    def complete_images(self) -> None:
        """What can be read again tells what was not known of its image."""
        if not self._session.read_only:
            complete(self._session, self._doubtful & set(self._good))

    def _count(self, size: int) -> None:
        self._bytes += size
        self._tell(size)

    def _file_facts(self, digest: Digest, size: int) -> os.stat_result | None:
        """The facts of a blob's file, None where they show a problem."""
        try:
            facts = self._session.blobs.stat(digest)
        except StoreDamagedError as exc:
            self._bad_blob("unreadable-blob", digest, exc.message)
            return None
        if facts is None:
            if has_row(self._session, digest):  # else it was removed since the list was read
                self._bad_blob("missing-blob", digest, f"blob {digest} has no file")
            return None
        if facts.st_size != size:
            detail = f"blob {digest} has {facts.st_size} bytes instead of {size}"
            self._bad_blob("wrong-size", digest, detail)
            return None
        return facts

    def _take(self, examined: Examined, claims: Claims) -> None:
        digest, problem = examined.digest, examined.problem
        if examined.facts is not None:
            self._good[digest] = examined.facts
            for image, detail in claims.contradictions(examined):
                self._found("wrong-diff-id", digest, detail, images=[image])
            if (fact := claims.fact(examined)) is not None:
                self._facts.append(fact)
        elif isinstance(problem, BlobNotFoundError):
            if has_row(self._session, digest):
                self._bad_blob("missing-blob", digest, problem.message)
        elif problem is not None:
            unreadable = isinstance(problem.__cause__, OSError)
            kind: ProblemKind = "unreadable-blob" if unreadable else "wrong-digest"
            self._bad_blob(kind, digest, problem.message)

    def _bad_blob(self, kind: ProblemKind, digest: Digest, detail: str) -> None:
        self._bad[digest] = "missing" if kind == "missing-blob" else "suspect"
        images = self._images_of(digest)
        if not images and (names := self._names_of(digest)):
            detail = f"{detail}; {', '.join(names)} needs it"
        self._found(kind, digest, detail, images=images)

    def _images_of(self, digest: Digest) -> list[str]:
        return [
            row[0]
            for row in self._session.db.rows(
                "SELECT DISTINCT m.image_id FROM manifest m LEFT JOIN edge e ON e.parent = m.digest"
                " WHERE (m.digest = ?1 OR e.child = ?1) AND m.image_id IS NOT NULL ORDER BY 1",
                [str(digest)],
            )
        ]

    def _names_of(self, digest: Digest) -> list[str]:
        """Some names that stand for a manifest, or for one that needs the blob."""
        rows = self._session.db.rows(
            "SELECT name FROM name WHERE target = ?1 OR target IN"
            " (SELECT parent FROM edge WHERE child = ?1 AND role <> 'subject') ORDER BY 1 LIMIT 3",
            [str(digest)],
        )
        return [row[0] for row in rows]

    def check_names(self) -> None:
        """No bit of a name's row has flipped."""
        for name, target, manifest, via, checksum in self._session.db.rows(
            "SELECT name, target, manifest, via, checksum FROM name"
        ):
            if name_checksum(name, target, manifest, via) != checksum:
                self._found("damaged-name", name, f"the entry of the name {name} was altered")

    def check_manifests(self) -> None:
        """Every manifest can be read, and its edges are the ones in the catalog."""
        for text, image_id in self._session.db.rows("SELECT digest, image_id FROM manifest"):
            self._cancel.check()
            digest = Digest.parse(text)
            self._images += image_id is not None
            if digest in self._bad:
                continue
            try:
                view = parse(read_manifest(self._session, digest))
            except KstoreError as exc:
                if self._is_listed(digest):
                    self._found("bad-manifest", digest, exc.message, images=self._images_of(digest))
            else:
                self._check_edges(digest, view)

    def _is_listed(self, manifest: Digest) -> bool:
        """Whether the catalog still has the manifest: another command may have removed it."""
        row = self._session.db.row("SELECT 1 FROM manifest WHERE digest = ?", [str(manifest)])
        return row is not None

    def _check_edges(self, digest: Digest, view: Manifest | Index) -> None:
        if isinstance(view, Index):
            wanted = {str(member.digest) for member in view.manifests}
        else:
            wanted = {str(blob.digest) for blob in view.blobs}
        rows = self._session.db.rows(
            "SELECT e.child, e.media_type, b.digest IS NOT NULL FROM edge e"
            " LEFT JOIN blob b ON b.digest = e.child WHERE e.parent = ? AND e.role <> 'subject'",
            [str(digest)],
        )
        if {row[0] for row in rows} != wanted and self._is_listed(digest):
            self._found(
                "wrong-edges", digest, f"the catalog lists other blobs than manifest {digest}"
            )
        for child, media_type, has in rows:
            if not has and isinstance(view, Manifest) and not mt.is_foreign_layer(media_type):
                self._found(
                    "missing-row",
                    child,
                    f"blob {child} of manifest {digest} is not in the catalog",
                    images=self._images_of(digest),
                )

    def check_orphans(self) -> None:
        """Files that no row speaks of are garbage, or somebody's about to be committed; files that
        cannot be blobs are none of the store's."""
        known = {row[0] for row in self._session.db.rows("SELECT digest FROM blob")}
        for digest in self._session.blobs.digests():
            if str(digest) not in known and not has_row(self._session, digest):
                self._found(
                    "orphan-file", digest, f"file of {digest} is not in the catalog", garbage=True
                )
        root = self._session.root
        for path in (*strange_names(root), *self._session.blobs.strangers()):
            name = str(path.relative_to(root.path))
            self._found("odd-file", name, f"{name} is none of the store's files")

    def record_states(self) -> None:
        """Write down which blobs can be used, so that the next pull knows what to fetch."""
        if not (self._bad or self._good) or self._session.read_only:
            return
        # A full disk is when people look for what is wrong: the reserve is for this, too.
        self._session.freeing(self._record)

    def _record(self) -> None:
        with self._session.write() as db:
            writer = Writer(db)
            for digest, facts in self._good.items():
                if has_row(self._session, digest):
                    writer.put_blob(digest, facts, None)
            for digest, state in self._bad.items():
                writer.set_state(digest, state)
        FactTable(self._session).record(self._facts)

    def check_layout(self) -> None:
        """Other tools see an OCI layout, and index.json shows the catalog as it is.

        It is left alone where the catalog's own names are damaged: it may know better.
        """
        if any(problem.kind == "damaged-name" for problem in self._problems):
            return
        root = self._session.root
        if not (root.path / "oci-layout").is_file():
            self._found("layout", "oci-layout", "the file oci-layout is missing")
        try:
            shown = root.index.read_bytes()
        except OSError as exc:
            shown = b""
            self._found("index-json", "index.json", f"index.json cannot be read: {exc.strerror}")
        wanted = layout.render_index(self._session)
        # Both are of one moment each: another command may change names between the two.
        behind = layout.generation_in(shown) != layout.generation_in(wanted)
        if shown and not behind and shown != wanted:
            self._found("index-json", "index.json", "index.json was changed by something else")
            behind = True
        if self._session.read_only:
            return
        if behind or not shown:
            layout.refresh_index(self._session, rewrite=True)
        self._check_provenance()

    def _check_provenance(self) -> None:
        try:
            told = provenance.read_provenance(self._session.root)
        except StorageError as exc:
            self._found("provenance", "provenance", exc.message)
        else:
            provenance.add_missing(self._session, told)
