"""What a repair does to the store itself: which blobs are wanted, where they may come from, the
damaged bytes put aside, and the rows that can be made right without anybody's help.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path

from kstore import mediatypes as mt
from kstore.blobs import fsync_directory, storage_errors
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, KstoreError, StorageError
from kstore.reference import LOCAL_DOMAIN, Named
from kstore.store import provenance
from kstore.store.catalog import NameRow, Writer
from kstore.store.containers import remove_tree
from kstore.store.incomplete import complete, put_again
from kstore.store.locks import digest_key
from kstore.store.naming import choose_member
from kstore.store.publish import read_document
from kstore.store.reading import read_manifest
from kstore.store.reports import DamagedBlob, Problem
from kstore.store.root import complete_root
from kstore.store.salvage import read_index
from kstore.store.session import Session

__all__ = ["Repairs", "sweep_aside"]

#: Every blob that something needs and that cannot be used, with the type and size it must have.
_DAMAGED = """
SELECT b.digest, coalesce(max(e.media_type), b.media_type, ''), coalesce(max(e.size), b.size)
FROM blob b LEFT JOIN edge e ON e.child = b.digest AND e.role <> 'subject'
WHERE b.state <> 'present'
  AND (e.child IS NOT NULL OR b.digest IN (SELECT digest FROM manifest))
GROUP BY b.digest
UNION ALL
SELECT e.child, max(e.media_type), max(e.size) FROM edge e
WHERE e.role IN ('config', 'layer') AND NOT EXISTS (SELECT 1 FROM blob WHERE digest = e.child)
GROUP BY e.child
ORDER BY 1
"""
_UP = """
  SELECT ? UNION SELECT e.parent FROM edge e JOIN above a ON e.child = a.digest
  WHERE e.role <> 'subject'
"""
#: A blob and everything that leads to it.
_ABOVE = f"WITH RECURSIVE above(digest) AS ({_UP})"
#: The same, and what that is attached to, because it is likely to be in the same repository.
_NEAR = f"""WITH RECURSIVE above(digest) AS ({_UP}
  UNION SELECT m.subject FROM manifest m JOIN above a ON m.digest = a.digest
  WHERE m.subject IS NOT NULL)
"""  # noqa: S608


class Repairs:
    """The repairs of one store, for the thread that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def damaged_blobs(self) -> list[DamagedBlob]:
        """The blobs that checks found missing or damaged, and that something needs."""
        return _damaged_blobs(self._session)

    def set_aside(self, digest: Digest) -> None:
        """Keep the damaged bytes of a blob in ``quarantine/`` until it is whole again.

        A file stays in its place as well, where the whole one will replace it in one step; anything
        that is no file goes.
        """
        _set_aside(self._session, digest)

    def forget_aside(self, digests: Iterable[Digest]) -> int:
        """Delete what was set aside of blobs that are whole now; the bytes that frees."""
        return _forget_aside(self._session, digests)

    def complete(self, digests: Iterable[Digest]) -> None:
        """These blobs are whole again: write down what their images need besides, where that
        could not be read before."""
        complete(self._session, digests)

    def mend(self, problems: Iterable[Problem]) -> list[Problem]:
        """Make right what needs no bytes from elsewhere (names, edges, index.json, oci-layout);
        those of the problems that are gone now."""
        self._session.require_writable()
        return [
            problem
            for problem in problems
            if problem.kind in _MENDERS and _MENDERS[problem.kind](self._session, problem.object)
        ]


def _damaged_blobs(session: Session) -> list[DamagedBlob]:
    with session.db.snapshot():
        return [
            DamagedBlob(
                Descriptor(media_type, Digest.parse(digest), size),
                tuple(_images(session, digest)),
                tuple(_repositories(session, digest)),
            )
            for digest, media_type, size in session.db.rows(_DAMAGED)
            if not mt.is_foreign_layer(media_type) or _has_row(session, digest)
        ]


def _has_row(session: Session, digest: str) -> bool:
    return session.db.row("SELECT 1 FROM blob WHERE digest = ?", [digest]) is not None


def _images(session: Session, digest: str) -> list[str]:
    rows = session.db.rows(
        f"{_ABOVE} SELECT DISTINCT m.image_id FROM manifest m JOIN above USING (digest)"  # noqa: S608
        " WHERE m.image_id IS NOT NULL ORDER BY 1",
        [digest],
    )
    return [row[0] for row in rows]


def _repositories(session: Session, digest: str) -> list[str]:
    """Where the blob came from; else where names say its images are; else where their other blobs
    came from."""
    own = session.db.rows(
        "SELECT registry || '/' || repository FROM blob_source WHERE digest = ? AND registry <> ''"
        " ORDER BY last_ok DESC",
        [digest],
    )
    named = session.db.rows(
        f"{_NEAR} SELECT DISTINCT repository FROM name WHERE repository NOT LIKE ?"  # noqa: S608
        " AND (target IN above OR manifest IN above OR via IN above) ORDER BY 1",
        [digest, f"{LOCAL_DOMAIN}/%"],
    )
    others = session.db.rows(
        f"{_NEAR} SELECT s.registry || '/' || s.repository FROM blob_source s"  # noqa: S608
        " JOIN edge e ON e.child = s.digest WHERE e.parent IN above AND s.registry <> ''"
        " GROUP BY 1 ORDER BY max(s.last_ok) DESC",
        [digest],
    )
    return list(dict.fromkeys(row[0] for row in (*own, *named, *others)))


# ---- damaged bytes


def _set_aside(session: Session, digest: Digest) -> None:
    session.require_writable()
    source = session.blobs.path(digest)
    with (
        session.object_lock(digest_key(digest), f"blob {digest}"),
        storage_errors(f"put the damaged bytes of {digest} aside"),
    ):
        try:
            facts = source.lstat()
        except FileNotFoundError:
            return
        aside = session.root.quarantine / f"{digest.algorithm}-{digest.hex}.{facts.st_ino:x}"
        if not stat.S_ISREG(facts.st_mode):
            source.replace(aside)
            session.blobs.sync(digest.algorithm)
        elif not _linked(source, aside):
            return
        fsync_directory(aside.parent)


def _linked(source: Path, aside: Path) -> bool:
    try:
        os.link(source, aside, follow_symlinks=False)
    except FileExistsError:
        return False  # by an earlier attempt
    except OSError as exc:
        # Without hard links the bytes stay in their place alone, until the rename over them.
        if exc.errno in (errno.EPERM, errno.ENOTSUP, errno.EMLINK):
            return False
        raise
    return True


def _forget_aside(session: Session, digests: Iterable[Digest]) -> int:
    places = (f"{digest.algorithm}-{digest.hex}.*" for digest in digests)
    return sum(_delete(path) for place in places for path in session.root.quarantine.glob(place))


def sweep_aside(session: Session, gone: Container[Digest], *, dry_run: bool) -> int:
    """Delete what was set aside of blobs that are whole, or ``gone``; the bytes that frees."""
    freed = 0
    for path in sorted(session.root.quarantine.iterdir()):
        algorithm, _, digits = path.name.partition(".")[0].partition("-")
        try:
            digest = Digest(algorithm, digits)
        except InvalidDigestError:
            continue
        row = session.db.row("SELECT state FROM blob WHERE digest = ?", [str(digest)])
        if row is None or row[0] == "present" or digest in gone:
            freed += _delete(path, dry_run=dry_run)
    return freed


def _delete(path: Path, *, dry_run: bool = False) -> int:
    with storage_errors(f"delete {path}"):
        facts = path.lstat()
        if not dry_run and stat.S_ISDIR(facts.st_mode):
            remove_tree(path)
        elif not dry_run:
            path.unlink()
    # A file that is in its place as well frees nothing here.
    return facts.st_size if facts.st_nlink == 1 and stat.S_ISREG(facts.st_mode) else 0


# ---- rows and small files


def _mend_layout(session: Session, _name: str) -> bool:
    complete_root(session.root)
    return True


def _mend_provenance(session: Session, _name: str) -> bool:
    with contextlib.suppress(StorageError):
        provenance.rewrite(session)
        return True
    return False


def _mend_edges(session: Session, text: str) -> bool:
    """Write a manifest's rows anew, from its bytes."""
    with contextlib.suppress(KstoreError):
        put_again(session, read_document(session, read_manifest(session, Digest.parse(text))))
        return True
    return False


def _mend_name(session: Session, text: str) -> bool:
    """Let a name mean again what it was last moved to, or what index.json shows."""
    row = session.db.row("SELECT new FROM name_log WHERE name = ? ORDER BY id DESC LIMIT 1", [text])
    with contextlib.suppress(KstoreError):
        name = Named.parse(text)
        target = Digest.parse(row[0]) if row and row[0] else None
        if target is None:
            shown = read_index(session.root.index)
            meant = shown.names.get(name) if shown else None
            target = meant.target if meant else None
        if target is not None:
            return _move(session, name, target)
    return False


def _move(session: Session, name: Named, target: Digest) -> bool:
    with session.write() as db:
        writer = Writer(db)
        kinds = writer.column("SELECT kind FROM manifest WHERE digest = ?", [str(target)])
        if not kinds:
            return False
        manifest = choose_member(writer, target) if kinds == ["index"] else target
        writer.move_name(name, NameRow(target, manifest), session.command)
        writer.bump_generation()
    session.changed = True
    return True


_MENDERS: Mapping[str, Callable[[Session, str], bool]] = {
    "layout": _mend_layout,
    "index-json": lambda _session, _name: True,  # the check has written it anew
    "provenance": _mend_provenance,
    "wrong-edges": _mend_edges,
    "damaged-name": _mend_name,
}
