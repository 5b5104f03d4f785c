"""What no blob tells, put back into a database that is made anew: names, protection, signatures,
origins, and the manifests that cannot be read; each by what was found of it.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import IntegrityError, KstoreError
from kstore.manifest import parse_index
from kstore.reference import Named
from kstore.store.catalog import NameRow, Writer
from kstore.store.incomplete import put_unread
from kstore.store.naming import choose_member
from kstore.store.reading import read_manifest
from kstore.store.salvage import Evidence
from kstore.store.session import Session
from kstore.store.signatures import put_signatures

__all__ = ["drop_remains", "put_names", "put_rows", "put_unread_manifests"]


def put_unread_manifests(
    session: Session, writer: Writer, evidence: Evidence, damaged: Container[Digest]
) -> set[Digest]:
    """What index.json shows and cannot be read keeps its names, and may be fetched again; also the
    members of indexes that were all there, which are returned.

    The blobs that are ``damaged`` have a file.
    """
    wanted = evidence.wanted_names().values()
    named = {row.target for row in wanted}
    members = {each.digest: each for each in _members(session, evidence, wanted)}
    lists = [(found.entries, found is evidence.complete[-1]) for found in evidence.complete]
    for entries, newest in (*lists, (members, True)):
        for digest, entry in entries.items():
            if (newest or digest in named) and not _has_manifest(writer, digest):
                put_unread(session, writer, entry, "suspect" if digest in damaged else "missing")
    return set(members)


def _members(
    session: Session, evidence: Evidence, wanted: Iterable[NameRow]
) -> Iterator[Descriptor]:
    """The members of the indexes that index.json shows itself, because all of them were there (see
    ``layout``)."""
    shown = evidence.complete[-1].entries if evidence.complete else {}
    for target in {
        row.target
        for row in wanted
        if row.target in shown and row.manifest not in (None, row.target)
    }:
        with contextlib.suppress(KstoreError):
            for member in parse_index(read_manifest(session, target)).manifests:
                yield replace(member, annotations={})  # by others, and no word of the store's


def put_rows(writer: Writer, evidence: Evidence) -> None:
    """Protected names, origins, signatures, containers."""
    protected = evidence.complete[-1].protected if evidence.complete else None
    if protected is not None:
        writer.execute("DELETE FROM protection")
        for name, since in protected.items():
            writer.execute("INSERT INTO protection VALUES (?, ?)", [str(name), since])
    for table, rows in evidence.rows.items():
        for row in rows:
            _put_row(writer, table, row)
    for origin, at in evidence.provenance.origins.items():
        _put_row(writer, "blob_source", (*origin, at))
    for manifest, signatures in evidence.provenance.signatures.items():
        with contextlib.suppress(sqlite3.Error, IntegrityError):
            put_signatures(writer, {manifest: signatures})


def _put_row(writer: Writer, table: str, row: tuple[object, ...]) -> None:
    places = ", ".join("?" * len(row))
    # One that contradicts the schema, or names a blob that is gone, tells nothing.
    with contextlib.suppress(sqlite3.Error):
        writer.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)  # noqa: S608


def put_names(
    session: Session, writer: Writer, wanted: Mapping[Named, NameRow]
) -> tuple[int, list[Named]]:
    """Every name means what the last one that knew it said; how many do, and those of which
    nothing else is known."""
    restored, lost = 0, []
    for name in set(map(Named.parse, writer.column("SELECT name FROM name"))) - set(wanted):
        writer.execute("DELETE FROM protection WHERE name = ?", [str(name)])
        writer.drop_name(str(name), session.command)
    for name, row in wanted.items():
        # Without an index, its name means the image that it led to.
        target = next(filter(partial(_has_manifest, writer), (row.target, row.manifest)), None)
        if target is None:
            lost.append(name)
            continue
        manifest: Digest | None = target
        kinds = writer.column("SELECT kind FROM manifest WHERE digest = ?", [str(target)])
        if kinds == ["index"]:
            chosen = row.manifest if _has_manifest(writer, row.manifest) else None
            manifest = chosen or choose_member(writer, target)
        via = row.via if _has_manifest(writer, row.via) else None
        writer.move_name(name, NameRow(target, manifest, via), session.command)
        restored += 1
    writer.execute("DELETE FROM protection WHERE name NOT IN (SELECT name FROM name)")
    return restored, lost


def drop_remains(writer: Writer, members: Iterable[Digest]) -> None:
    """Forget what a backup still knew and is gone: removed since, or lost without a trace; but not
    these ``members`` of indexes."""
    writer.execute(
        "DELETE FROM manifest WHERE digest IN (SELECT digest FROM blob WHERE state = 'missing')"
        " AND digest NOT IN (SELECT value FROM json_each(?))"
        " AND NOT EXISTS (SELECT 1 FROM name n WHERE manifest.digest"
        "   IN (n.target, n.manifest, n.via))",
        [json.dumps([str(digest) for digest in members])],
    )
    writer.execute(
        "DELETE FROM image WHERE id NOT IN"
        " (SELECT image_id FROM manifest WHERE image_id IS NOT NULL)"
    )
    writer.execute(
        "DELETE FROM blob WHERE state <> 'present' AND digest NOT IN (SELECT digest FROM"
        " manifest) AND digest NOT IN (SELECT child FROM edge WHERE role IN ('config','layer'))"
    )
    for image_id in writer.column("SELECT id FROM image"):
        writer.measure_image(image_id)


def _has_manifest(writer: Writer, digest: Digest | None) -> bool:
    return digest is not None and bool(
        writer.column("SELECT 1 FROM manifest WHERE digest = ?", [str(digest)])
    )
