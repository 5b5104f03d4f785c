"""Reading the catalog: plain SQL to snapshots.  Nothing here imports more than the standard
library and values, because listing images must start fast."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import REPAIR, InvalidInputError, StoreDamagedError
from kstore.platforms import Platform
from kstore.reference import Named
from kstore.store.database import Database
from kstore.store.records import (
    ImageRecord,
    ManifestRecord,
    NameChange,
    NameRecord,
)
from kstore.store.session import Session

if TYPE_CHECKING:
    from kstore.store.conditions import Condition
    from kstore.store.reports import PartialDownload, StoreFacts

__all__ = [
    "blob_in_repository",
    "blob_size",
    "facts",
    "load_images",
    "load_manifest",
    "load_name",
    "load_names",
    "manifest_image",
    "name_checksum",
    "name_log",
    "origins",
    "referrers",
    "select_images",
]

_NAME = "n.name, n.repository, n.tag, n.digest_ref, n.target, n.manifest, n.via, n.updated_at"
_REFERRERS = """
SELECT m.digest, m.media_type, b.size, m.annotations, m.artifact_type
FROM manifest m JOIN blob b ON b.digest = m.digest
WHERE m.subject = ? AND EXISTS (
  SELECT 1 FROM edge e WHERE e.parent = m.digest AND e.role = 'subject')
ORDER BY m.added_at, m.digest
"""
_ATTACHMENTS = """
SELECT m.digest, m.media_type, b.size, m.annotations, m.artifact_type, min(n.tag)
FROM manifest m JOIN blob b ON b.digest = m.digest JOIN name n ON n.target = m.digest
WHERE m.subject = ? AND n.tag LIKE replace(m.subject, ':', '-') || '.%'
GROUP BY m.digest ORDER BY m.added_at, m.digest
"""
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def from_us(value: int) -> dt.datetime:
    """Microseconds since 1970 as a time."""
    return _EPOCH + dt.timedelta(microseconds=value)


def to_us(value: dt.datetime) -> int:
    """A time as microseconds since 1970."""
    return (value - _EPOCH) // dt.timedelta(microseconds=1)


def name_checksum(name: str, target: str, manifest: str | None, via: str | None) -> str:
    """What a row of ``name`` carries to prove that none of its bits has flipped."""
    text = f"{name}|{target}|{manifest or ''}|{via or ''}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def name_record(row: Any) -> NameRecord:
    """The record of a row; StoreDamagedError if its texts make no sense."""
    text, repository, tag, digest, target, manifest, via, updated = row
    try:
        domain, _, path = repository.partition("/")
        stands_for = Digest.parse(target)
        return NameRecord(
            name=Named(domain, path, tag, _digest_or_none(digest)),
            target=stands_for,
            # They rarely differ, and parsing is what takes the time with thousands of names.
            manifest=stands_for if manifest == target else _digest_or_none(manifest),
            via=_digest_or_none(via),
            updated_at=from_us(updated),
        )
    except InvalidInputError as exc:
        raise StoreDamagedError(
            f"the entry of the name {text!r:.200} is damaged: {exc}", hint=REPAIR
        ) from exc


def _digest_or_none(text: str | None) -> Digest | None:
    return Digest.parse(text) if text else None


def load_name(db: Database, name: Named) -> NameRecord | None:
    """The record of an exact name."""
    row = db.row(f"SELECT {_NAME} FROM name n WHERE n.name = ?", [str(name)])  # noqa: S608
    return name_record(row) if row else None


def load_names(db: Database, repository: str | None = None) -> list[NameRecord]:
    """All names, or those of one repository, sorted."""
    where, values = ("WHERE n.repository = ?", [repository]) if repository else ("", [])
    rows = db.rows(f"SELECT {_NAME} FROM name n {where} ORDER BY n.name", values)  # noqa: S608
    return [name_record(row) for row in rows]


def select_images(session: Session, conditions: Sequence[Condition]) -> list[ImageRecord]:
    """The images that meet all conditions, in the order of :func:`load_images`; no other is
    loaded."""
    if not conditions:
        return load_images(session)
    where = " AND ".join(f"({condition.sql})" for condition in conditions)
    values = [value for condition in conditions for value in condition.values]
    with session.db.snapshot():
        rows = session.db.rows(f"SELECT i.id FROM image i WHERE {where}", values)  # noqa: S608
        return load_images(session, [row[0] for row in rows])


def load_images(session: Session, ids: Iterable[str] | None = None) -> list[ImageRecord]:
    """All images, or those called for, newest first; a damaged one is left out with a warning.

    A fixed number of statements, however many images there are.
    """
    db = session.db
    only, values = "", []
    if ids is not None:
        only = "WHERE image_id IN (SELECT value FROM json_each(?))"
        values = [json.dumps(list(ids))]
    with db.snapshot():
        manifests = _manifests_by_image(db, only, values)
        names = _names_by_image(session, only, values)
        labels = _labels_by_image(db, only, values)
        incomplete = _incomplete_images(db)
        rows = db.rows(
            "SELECT i.id, i.config_digest, b.size, i.created, i.os, i.architecture, i.variant,"  # noqa: S608
            " i.os_version, i.size, i.added_at FROM image i"
            " JOIN blob b ON b.digest = i.config_digest"
            f" {only.replace('image_id', 'i.id')}"
            " ORDER BY i.created IS NULL, i.created DESC, i.added_at DESC, i.id",
            values,
        )
    images = []
    for row in rows:
        image_id, digests = row[0], manifests.get(row[0], ())
        try:
            images.append(
                _image_record(
                    row,
                    digests,
                    tuple(names.get(image_id, ())),
                    labels.get(image_id, {}),
                    image_id not in incomplete,
                    session.location,
                )
            )
        except InvalidInputError as exc:
            session.warn(f"the entry of image {image_id!r:.80} is damaged: {exc}")
    return images


def _image_record(
    row: Any,
    manifests: Iterable[tuple[str, str]],
    names: tuple[NameRecord, ...],
    labels: dict[str, str],
    complete: bool,
    location: Path | None,
) -> ImageRecord:
    image_id, config, config_size, created, os, arch, variant, os_version, size, added = row
    pairs = list(manifests)
    return ImageRecord(
        id=image_id,
        config=Descriptor(pairs[0][1] if pairs else "", Digest.parse(config), config_size),
        manifests=tuple(Digest.parse(digest) for digest, _ in pairs),
        names=names,
        created=None if created is None else from_us(created),
        added_at=from_us(added),
        platform=Platform(os, arch, variant, os_version),
        labels=MappingProxyType(labels),
        size=size,
        complete=complete,
        location=location,
    )


def _manifests_by_image(
    db: Database, only: str, values: list[str]
) -> dict[str, list[tuple[str, str]]]:
    """Image to (manifest, media type of its config), oldest first."""
    result: dict[str, list[tuple[str, str]]] = {}
    for image_id, digest, config_type in db.rows(
        "SELECT m.image_id, m.digest, e.media_type FROM manifest m"  # noqa: S608
        " CROSS JOIN edge e ON e.parent = m.digest AND e.role = 'config' AND e.ordinal = 0"
        f" {only or 'WHERE m.image_id IS NOT NULL'} ORDER BY m.added_at, m.digest",
        values,
    ):
        result.setdefault(image_id, []).append((digest, config_type))
    return result


def _names_by_image(session: Session, only: str, values: list[str]) -> dict[str, list[NameRecord]]:
    result: dict[str, list[NameRecord]] = {}
    for image_id, *row in session.db.rows(
        f"SELECT m.image_id, {_NAME} FROM name n JOIN manifest m ON m.digest = n.manifest"  # noqa: S608
        f" {only} ORDER BY n.name",
        values,
    ):
        try:
            result.setdefault(image_id, []).append(name_record(row))
        except StoreDamagedError as exc:
            session.warn(exc.message)
    return result


def _labels_by_image(db: Database, only: str, values: list[str]) -> dict[str, dict[str, str]]:
    result: dict[str, dict[str, str]] = {}
    for image_id, key, value in db.rows(
        f"SELECT image_id, key, value FROM label {only}",  # noqa: S608
        values,
    ):
        result.setdefault(image_id, {})[key] = value
    return result


def _incomplete_images(db: Database) -> set[str]:
    return {
        image_id
        for (image_id,) in db.rows(
            # CROSS JOIN keeps this order: from the few troubled blobs up, not from all edges down.
            "SELECT DISTINCT m.image_id FROM blob b CROSS JOIN edge e ON e.child = b.digest"
            " CROSS JOIN manifest m ON m.digest = e.parent"
            " WHERE b.state <> 'present' AND e.role <> 'subject' AND m.image_id IS NOT NULL"
            " UNION SELECT m.image_id FROM blob b JOIN manifest m ON m.digest = b.digest"
            " WHERE b.state <> 'present' AND m.image_id IS NOT NULL"
        )
    }


def manifest_image(db: Database, manifest: Digest) -> str | None:
    """The ID of the image a stored manifest describes."""
    row = db.row("SELECT image_id FROM manifest WHERE digest = ?", [str(manifest)])
    return row[0] if row else None


def load_manifest(db: Database, digest: Digest) -> ManifestRecord | None:
    """The record of a stored manifest or index."""
    row = db.row(
        "SELECT m.kind, m.media_type, m.image_id, m.artifact_type, m.annotations, b.size,"
        " b.state = 'present' AND NOT EXISTS (SELECT 1 FROM edge e LEFT JOIN blob c"
        "   ON c.digest = e.child WHERE e.parent = m.digest AND e.role <> 'subject'"
        "   AND coalesce(c.state, CASE e.role WHEN 'member' THEN 'absent' ELSE 'present' END)"
        "     <> 'present')"
        " FROM manifest m JOIN blob b ON b.digest = m.digest WHERE m.digest = ?",
        [str(digest)],
    )
    if row is None:
        return None
    kind, media_type, image_id, artifact_type, annotations, size, complete = row
    return ManifestRecord(
        descriptor=Descriptor(
            media_type,
            digest,
            size,
            MappingProxyType(json.loads(annotations)),
            artifact_type=artifact_type,
        ),
        image_id=image_id,
        is_index=kind == "index",
        complete=bool(complete),
    )


def referrers(db: Database, subject: Digest) -> list[Descriptor]:
    """Stored manifests that name ``subject`` as theirs, oldest first."""
    return [_described(row) for row in db.rows(_REFERRERS, [str(subject)])]


def attachments(db: Database, subject: Digest) -> list[tuple[str, Descriptor]]:
    """``(tag, manifest)`` of what is attached to ``subject`` by a tag, each once, oldest first."""
    return [(row[-1], _described(row)) for row in db.rows(_ATTACHMENTS, [str(subject)])]


def _described(row: Any) -> Descriptor:
    digest, media_type, size, annotations, artifact_type, *_ = row
    return Descriptor(
        media_type,
        Digest.parse(digest),
        size,
        MappingProxyType(json.loads(annotations)),
        artifact_type=artifact_type,
    )


def blob_size(db: Database, digest: Digest) -> int | None:
    """The size in bytes of a usable blob."""
    row = db.row("SELECT size FROM blob WHERE digest = ? AND state = 'present'", [str(digest)])
    return row[0] if row else None


def origins(db: Database, digest: Digest) -> list[tuple[str, str]]:
    """(registry, repository) pairs the blob came from, newest first."""
    rows = db.rows(
        "SELECT registry, repository FROM blob_source WHERE digest = ? AND registry <> ''"
        " ORDER BY last_ok DESC, registry, repository",
        [str(digest)],
    )
    return [(registry, repository) for registry, repository in rows]


def blob_in_repository(db: Database, digest: Digest, repository: str) -> bool:
    """Whether a name of the repository leads to the blob, or it was uploaded there."""
    row = db.row(
        "WITH RECURSIVE reach(digest) AS ("
        "  SELECT target FROM name WHERE repository = :repository"
        "  UNION SELECT manifest FROM name WHERE repository = :repository"
        "  UNION SELECT via FROM name WHERE repository = :repository"
        "  UNION SELECT e.child FROM edge e JOIN reach r ON e.parent = r.digest"
        "    WHERE e.role <> 'subject'"
        "  UNION SELECT m.digest FROM manifest m JOIN reach r ON m.subject = r.digest)"
        " SELECT EXISTS (SELECT 1 FROM reach WHERE digest = :digest)"
        "   OR EXISTS (SELECT 1 FROM blob_source WHERE digest = :digest"
        "     AND registry = '' AND repository = :repository)",
        {"repository": repository, "digest": str(digest)},
    )
    return bool(row[0])


def name_log(db: Database, named: Named | None, limit: int | None) -> list[NameChange]:
    """Moves of names, newest first; of one name, of one repository, or all."""
    where, values = "", []
    if named is not None:
        where, values = "WHERE name = ?", [str(named)]
        if named.is_bare:
            where, values = "WHERE repository = ?", [named.repository]
    rows = db.rows(
        f"SELECT name, old, new, at, command FROM name_log {where} ORDER BY id DESC LIMIT ?",  # noqa: S608
        [*values, -1 if limit is None else limit],
    )
    return [
        NameChange(
            name=Named.parse(name),
            old=Digest.parse(old) if old else None,
            new=Digest.parse(new) if new else None,
            at=from_us(at),
            command=command,
        )
        for name, old, new, at, command in rows
    ]


def facts(session: Session, partials: Sequence[PartialDownload]) -> StoreFacts:
    """Numbers about the store."""
    from kstore.store.reports import StoreFacts

    db = session.db
    with db.snapshot():
        images, names, containers, blobs, blob_bytes = db.row(
            "SELECT (SELECT count(*) FROM image), (SELECT count(*) FROM name),"
            " (SELECT count(*) FROM container),"
            " (SELECT count(*) FROM blob WHERE state = 'present'),"
            " (SELECT coalesce(sum(size), 0) FROM blob WHERE state = 'present')"
        )
        pages, page_size = db.row("PRAGMA page_count")[0], db.row("PRAGMA page_size")[0]
        version = db.row("PRAGMA user_version")[0]
    return StoreFacts(
        root=str(session.root.path),
        schema_version=version,
        sqlite_version=db.row("SELECT sqlite_version()")[0],
        images=images,
        names=names,
        containers=containers,
        blobs=blobs,
        blob_bytes=blob_bytes,
        partial_downloads=len(partials),
        partial_bytes=sum(partial.bytes for partial in partials),
        database_bytes=pages * page_size,
        free_bytes=session.root.free_bytes(),
    )
