"""What takes the space: by image, and by kind of file.

Images are measured by their blobs' bytes, each blob counted once in each image; kinds of files by
the blocks they occupy, so that they add up to what ``du`` says of the root.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from kstore.blobs import storage_errors
from kstore.digest import ALGORITHMS
from kstore.store.containers import ContainerTable
from kstore.store.queries import load_images
from kstore.store.reports import ImageUsage, KindUsage, UsageReport
from kstore.store.session import Session
from kstore.store.sweep import unread_manifest

__all__ = ["Graph", "attached_names", "measure", "other_roots"]

_BLOCK = 512
_KINDS = ("images", "unreferenced", "partial", "containers", "database", "quarantine", "other")
#: Directory of the root to what its files are; those of blobs are told apart one by one.
_OF_DIRECTORY = {
    "ingest": "partial",
    "containers": "containers",
    "db": "database",
    "quarantine": "quarantine",
}


class Graph:
    """The usable blobs and what leads where, as the catalog is now; sizes in bytes."""

    def __init__(self, session: Session) -> None:
        db = session.db
        self.sizes: dict[str, int] = dict(
            db.rows("SELECT digest, size FROM blob WHERE state = 'present'")
        )
        self._below: dict[str, list[str]] = {}
        for parent, child in db.rows("SELECT parent, child FROM edge WHERE role <> 'subject'"):
            self._below.setdefault(parent, []).append(child)
        self._about: dict[str, list[str]] = {}
        for digest, subject in db.rows("SELECT digest, subject FROM manifest WHERE subject <> ''"):
            self._about.setdefault(subject, []).append(digest)

    def reach(self, roots: Iterable[str], alone: Iterable[str] = ()) -> set[str]:
        """Everything that ``roots`` need, with what refers to it (signatures, say).

        Of those in ``alone`` the members are not needed: indexes that images were chosen from.
        """
        found: set[str] = set()
        waiting = list(roots)
        shallow = list(alone)
        for digest in shallow:
            waiting += self._about.get(digest, ())
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += self._below.get(digest, ())
                waiting += self._about.get(digest, ())
        return found.union(shallow)

    def bytes_of(self, digests: Iterable[str]) -> int:
        """The bytes of those that are there."""
        return sum(self.sizes.get(digest, 0) for digest in digests)


def measure(session: Session) -> UsageReport:
    """See :meth:`kstore.store.Store.usage`."""
    with session.db.snapshot():
        graph = Graph(session)
        images = _images(session, graph)
        needed = _needed(session, graph)
    return UsageReport(images, _kinds(session, needed), session.root.free_bytes())


def _images(session: Session, graph: Graph) -> tuple[ImageUsage, ...]:
    records = load_images(session)
    needs = []
    for record in records:
        indexes = {digest for name in record.names for digest in (name.target, name.via) if digest}
        manifests = [str(digest) for digest in record.manifests]
        needs.append(graph.reach(manifests, map(str, indexes.difference(record.manifests))))
    users = Counter(digest for need in needs for digest in need)
    return tuple(
        ImageUsage(
            record.id,
            tuple(name.name for name in record.names),
            unique=graph.bytes_of(digest for digest in need if users[digest] == 1),
            shared=graph.bytes_of(digest for digest in need if users[digest] > 1),
        )
        for record, need in zip(records, needs, strict=True)
    )


def _needed(session: Session, graph: Graph) -> set[str]:
    """What a prune would leave, but for the grace it gives to failed operations."""
    roots, alone = other_roots(session), []
    attached = attached_names(session)
    for name, target, manifest, via in session.db.rows(
        "SELECT name, target, manifest, via FROM name"
    ):
        if name in attached:
            continue  # they need nothing by themselves
        roots += [digest for digest in (target, manifest) if digest]
        alone += [via] if via else []
    return graph.reach(roots, alone)


def attached_names(session: Session) -> set[str]:
    """Names made of the digest of what they are attached to: they come and go with that."""
    rows = session.db.rows(
        "SELECT n.name FROM name n JOIN manifest m ON m.digest = n.target"
        " JOIN manifest s ON s.digest = m.subject"
        " WHERE n.tag LIKE replace(m.subject, ':', '-') || '.%'"
    )
    return {row[0] for row in rows}


def other_roots(session: Session) -> list[str]:
    """What is needed although no name leads there: by running operations, and by containers."""
    held = "lease_ref" if unread_manifest(session.db, nameless=False) is None else "blob"
    rows = session.db.rows(f"SELECT DISTINCT digest FROM {held}")  # noqa: S608
    containers = ContainerTable(session).all()
    return [row[0] for row in rows] + [str(c.manifest) for c in containers if c.manifest]


def _kinds(session: Session, needed: set[str]) -> tuple[KindUsage, ...]:
    files: Counter[str] = Counter()
    size: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    # SQLite keeps it for no longer than somebody has the database open, as we have just now.
    transient = f"{session.root.database}-shm"
    with storage_errors(f"measure {session.root.path}"):
        for path, facts in _walk(session.root.path):
            if path == transient:
                continue
            if facts.st_nlink > 1 and not os.path.isdir(path):  # noqa: PTH112 - many files
                if (facts.st_dev, facts.st_ino) in seen:
                    continue
                seen.add((facts.st_dev, facts.st_ino))
            kind = _kind(Path(path).relative_to(session.root.path).parts, needed)
            files[kind] += 1
            size[kind] += facts.st_blocks * _BLOCK
    return tuple(KindUsage(kind, files[kind], size[kind]) for kind in _KINDS)


def _walk(directory: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    """The directory and everything below it; blobs before what may be links to them."""
    try:
        facts = os.lstat(directory)
    except FileNotFoundError:
        return  # a store that nobody has made yet, or a directory that was removed just now
    yield str(directory), facts
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except (PermissionError, FileNotFoundError):
        return  # a container's directory that is closed to its owner, or was removed just now
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue


def _kind(parts: tuple[str, ...], needed: set[str]) -> str:
    if not parts:
        return "other"
    if parts[0] == "blobs" and len(parts) == 3 and parts[1] in ALGORITHMS:
        return "images" if f"{parts[1]}:{parts[2]}" in needed else "unreferenced"
    return _OF_DIRECTORY.get(parts[0], "other")
