"""Comparing what the catalog says with what is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from kstore import mediatypes as mt
from kstore.compression import decompressor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, IntegrityError, KstoreError, StoreDamagedError
from kstore.manifest import MAX_CONFIG_SIZE, ImageConfig, Index, Manifest, parse
from kstore.store import layout
from kstore.store.catalog import Writer
from kstore.store.fingerprints import hash_file, same_file
from kstore.store.queries import name_checksum
from kstore.store.reading import read_blob, read_manifest
from kstore.store.reports import CheckReport, Problem, ProblemKind
from kstore.store.session import Session
from kstore.store.sweep import has_row
from kstore.streams import Cancel, pump

__all__ = ["check"]

#: A layer that unpacks to more is not unpacked any further (bytes).
_MAX_LAYER = 1 << 40


def check(
    session: Session,
    *,
    deep: bool,
    progress: Callable[[int], None] | None,
    cancel: Cancel | None,
) -> CheckReport:
    """See :meth:`kstore.store.Store.check`."""
    inspection = _Inspection(session, progress, cancel or Cancel())
    if not inspection.check_database():
        return inspection.report()  # its rows prove nothing
    inspection.check_blobs(deep=deep)
    inspection.check_names()
    inspection.check_manifests()
    inspection.check_orphans()
    if deep:
        inspection.check_layers()
    inspection.record_states()
    inspection.check_layout()
    return inspection.report()


class _Inspection:
    """One run of the check, and what it found."""

    def __init__(
        self, session: Session, progress: Callable[[int], None] | None, cancel: Cancel
    ) -> None:
        self._session = session
        self._progress = progress
        self._cancel = cancel
        self._problems: list[Problem] = []
        self._states: dict[Digest, str] = {}  # blobs whose row says something else
        self._bad: set[Digest] = set()
        self._blobs = self._bytes = self._images = 0

    def report(self) -> CheckReport:
        return CheckReport(tuple(self._problems), self._blobs, self._bytes, self._images)

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

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._progress is not None:
            self._progress(size)

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

    def check_blobs(self, *, deep: bool) -> None:
        """Every row has its file, unchanged; the bytes of a changed one (or of all) are hashed."""
        rows = self._session.db.rows(
            "SELECT digest, size, state, ino, mtime_ns FROM blob ORDER BY digest"
        )
        for text, size, state, ino, mtime_ns in rows:
            self._cancel.check()
            self._blobs += 1
            digest = Digest.parse(text)
            problem = self._blob_problem(digest, size, state, ino, mtime_ns, deep)
            if problem is None:
                if state != "present":
                    self._states[digest] = "present"
                continue
            kind, detail = problem
            self._bad.add(digest)
            self._states[digest] = "missing" if kind == "missing-blob" else "suspect"
            self._found(kind, digest, detail, images=self._images_of(digest))

    def _blob_problem(
        self, digest: Digest, size: int, state: str, ino: int, mtime_ns: int, deep: bool
    ) -> tuple[ProblemKind, str] | None:
        try:
            facts = self._session.blobs.stat(digest)
        except StoreDamagedError as exc:
            return "unreadable-blob", exc.message
        if facts is None:
            if not has_row(self._session, digest):
                return None  # removed since the list was read
            return "missing-blob", f"blob {digest} has no file"
        if facts.st_size != size:
            return "wrong-size", f"blob {digest} has {facts.st_size} bytes instead of {size}"
        if not deep and state == "present" and same_file(facts, ino, mtime_ns, size):
            return None
        return self._content_problem(digest)

    def _content_problem(self, digest: Digest) -> tuple[ProblemKind, str] | None:
        try:
            hash_file(self._session.blobs, digest, counter=self._count, cancel=self._cancel)
        except BlobNotFoundError:
            return "missing-blob", f"blob {digest} has no file"
        except StoreDamagedError as exc:
            unreadable = isinstance(exc.__cause__, OSError)
            return ("unreadable-blob" if unreadable else "wrong-digest"), exc.message
        self._states.setdefault(digest, "present")
        return None

    def _images_of(self, digest: Digest) -> list[str]:
        return [
            row[0]
            for row in self._session.db.rows(
                "SELECT DISTINCT m.image_id FROM manifest m LEFT JOIN edge e ON e.parent = m.digest"
                " WHERE (m.digest = ?1 OR e.child = ?1) AND m.image_id IS NOT NULL ORDER BY 1",
                [str(digest)],
            )
        ]

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
                "bad-manifest", digest, f"the catalog lists other blobs than manifest {digest}"
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
        """Files that no row speaks of are garbage, or somebody's about to be committed."""
        known = {row[0] for row in self._session.db.rows("SELECT digest FROM blob")}
        for digest in self._session.blobs.digests():
            if str(digest) not in known and not has_row(self._session, digest):
                self._found(
                    "orphan-file", digest, f"file of {digest} is not in the catalog", garbage=True
                )

    def check_layers(self) -> None:
        """Every layer unpacks to the bytes its image's config names."""
        checked: set[tuple[Digest, Digest]] = set()
        for (text,) in self._session.db.rows("SELECT digest FROM manifest WHERE kind = 'image'"):
            with contextlib.suppress(KstoreError):  # reported by the steps before
                manifest = parse(read_manifest(self._session, Digest.parse(text)))
                if isinstance(manifest, Manifest):
                    self._check_layers_of(manifest, checked)

    def _check_layers_of(self, manifest: Manifest, checked: set[tuple[Digest, Digest]]) -> None:
        digest = manifest.config.digest
        data = read_blob(self._session, digest, cap=MAX_CONFIG_SIZE)
        diff_ids = ImageConfig.parse(data).diff_ids
        if len(diff_ids) != len(manifest.layers):
            self._found(
                "wrong-diff-id",
                digest,
                f"config {digest} names {len(diff_ids)} layers, its manifest"
                f" {len(manifest.layers)}",
                images=[digest.hex],
            )
            return
        for layer, diff_id in zip(manifest.layers, diff_ids, strict=True):
            kind = mt.layer_compression(layer.media_type)
            known = (layer.digest, diff_id) in checked or layer.digest in self._bad
            if kind is None or known or not has_row(self._session, layer.digest):
                continue
            checked.add((layer.digest, diff_id))
            if detail := self._diff_problem(layer.digest, diff_id, kind):
                self._found("wrong-diff-id", layer.digest, detail, images=[digest.hex])

    def _diff_problem(self, layer: Digest, diff_id: Digest, kind: str) -> str | None:
        hasher = Digest.new_hasher(diff_id.algorithm)
        with self._session.blobs.open(layer) as file:
            try:
                plain = decompressor(kind, file, max_output=_MAX_LAYER)
                pump(plain, hasher.update, cancel=self._cancel)
            except IntegrityError as exc:
                return f"layer {layer} cannot be unpacked: {exc.message}"
            except OSError as exc:
                return f"layer {layer} cannot be read: {exc.strerror}"
        found = Digest.from_hasher(hasher, diff_id.algorithm)
        return None if found == diff_id else f"layer {layer} unpacks to {found}, not to {diff_id}"

    def record_states(self) -> None:
        """Write down which blobs can be used, so that the next pull knows what to fetch."""
        if not self._states or self._session.read_only:
            return
        # A full disk is when people look for what is wrong: the reserve is for this, too.
        self._session.freeing(self._record)

    def _record(self) -> None:
        with self._session.write() as db:
            writer = Writer(db)
            for digest, state in self._states.items():
                facts = self._session.blobs.stat(digest) if state == "present" else None
                if facts is not None and has_row(self._session, digest):
                    writer.put_blob(digest, facts, None)
                else:
                    writer.set_state(digest, "missing" if state == "present" else state)

    def check_layout(self) -> None:
        """Other tools see an OCI layout, and index.json shows the catalog as it is."""
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
        if (behind or not shown) and not self._session.read_only:
            layout.refresh_index(self._session, rewrite=True)
