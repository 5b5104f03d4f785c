"""Changing the catalog: every row is written here, through sqlite-utils, inside a transaction that
:meth:`Session.write` opened.

Rows go in by ``upsert``: ``insert`` looks for a rowid afterwards, which these tables do not have.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from kstore.digest import Digest
from kstore.manifest import ImageConfig, Index, Manifest, RawManifest
from kstore.reference import Named
from kstore.store.queries import name_checksum, to_us
from kstore.store.session import now_us

if TYPE_CHECKING:
    import sqlite_utils

__all__ = ["NameRow", "Writer"]


@dataclass(frozen=True, slots=True)
class NameRow:
    """What a name shall mean; see :class:`~kstore.store.records.NameRecord`."""

    target: Digest
    manifest: Digest | None
    via: Digest | None = None


class Writer:
    """The rows of one write transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        from sqlite_utils import Database  # here, because reading a store must not load it

        self._db = Database(connection, recursive_triggers=False, execute_plugins=False)
        self.now = now_us()

    def rows(self, sql: str, parameters: Any = ()) -> list[Any]:
        """A query inside the transaction."""
        return self._db.execute(sql, parameters).fetchall()

    def column(self, sql: str, parameters: Any = ()) -> list[Any]:
        """The first column of a query."""
        return [row[0] for row in self.rows(sql, parameters)]

    def execute(self, sql: str, parameters: Any = ()) -> int:
        """A statement; the number of rows it changed."""
        return self._db.execute(sql, parameters).rowcount

    def _table(self, name: str) -> sqlite_utils.db.Table:
        return cast("sqlite_utils.db.Table", self._db[name])

    def bump_generation(self) -> None:
        """Names or manifests change: what index.json shows is behind from now on."""
        self.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")

    # ---- blobs

    def put_blob(self, digest: Digest, facts: os.stat_result, media_type: str | None) -> None:
        """The blob is durable under its name, with these facts, and was just verified."""
        self.execute(
            "INSERT INTO blob (digest, size, media_type, state, ino, mtime_ns, committed_at,"
            " verified_at) VALUES (?, ?, ?, 'present', ?, ?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET size = excluded.size, state = 'present',"
            " media_type = coalesce(excluded.media_type, media_type), ino = excluded.ino,"
            " mtime_ns = excluded.mtime_ns, verified_at = excluded.verified_at",
            [
                str(digest),
                facts.st_size,
                media_type,
                facts.st_ino,
                facts.st_mtime_ns,
                self.now,
                self.now,
            ],
        )

    def set_state(self, digest: Digest, state: str) -> None:
        """Record that a blob was found ``missing`` or ``suspect``."""
        self.execute("UPDATE blob SET state = ? WHERE digest = ?", [state, str(digest)])

    def put_source(self, digests: Iterable[Digest], registry: str, repository: str) -> None:
        """The blobs came from, or are now in, this repository."""
        self._table("blob_source").upsert_all(
            (
                {
                    "digest": str(digest),
                    "registry": registry,
                    "repository": repository,
                    "last_ok": self.now,
                }
                for digest in digests
            ),
            pk=("digest", "registry", "repository"),
        )

    # ---- leases

    def put_lease(self, lease_id: int, purpose: str) -> None:
        """Make the lease's row if it is not there, and note that its owner was alive now."""
        self.execute(
            "INSERT INTO lease VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET touched_at = excluded.touched_at",
            [lease_id, purpose, os.getpid(), self.now, self.now],
        )

    def hold(self, lease_id: int, digests: Iterable[Digest]) -> None:
        """The lease needs these blobs."""
        self._table("lease_ref").upsert_all(
            ({"lease": lease_id, "digest": str(digest)} for digest in digests),
            pk=("lease", "digest"),
        )

    def drop_lease(self, lease_id: int) -> None:
        self.execute("DELETE FROM lease WHERE id = ?", [lease_id])

    # ---- manifests and images

    def put_manifest(self, raw: RawManifest, view: Manifest | Index, image_id: str | None) -> None:
        """A manifest whose blob row is there already, and its edges."""
        kind = "index" if isinstance(view, Index) else "artifact" if image_id is None else "image"
        artifact_type = view.artifact_type
        if kind == "artifact" and artifact_type is None and isinstance(view, Manifest):
            artifact_type = view.config.media_type  # as the specification's referrers do
        self.execute(
            "INSERT INTO manifest VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET image_id = excluded.image_id",
            [
                str(raw.digest),
                kind,
                raw.media_type,
                image_id,
                str(view.subject.digest) if view.subject else None,
                artifact_type,
                json.dumps(dict(view.annotations)),
                self.now,
            ],
        )
        self._table("edge").upsert_all(_edges(raw, view), pk=("parent", "role", "ordinal"))

    def put_image(self, manifest: Manifest, config: ImageConfig) -> str:
        """The image a manifest describes; its ID.  ``size`` follows by :meth:`measure_image`."""
        image_id = manifest.config.digest.hex
        self.execute(
            "INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (id) DO NOTHING",
            [
                image_id,
                str(manifest.config.digest),
                to_us(config.created) if config.created else None,
                config.platform.os,
                config.platform.architecture,
                config.platform.variant,
                config.platform.os_version,
                config.author,
                self.now,
            ],
        )
        self._table("label").upsert_all(
            (
                {"image_id": image_id, "key": key, "value": value}
                for key, value in config.run.labels.items()
            ),
            pk=("image_id", "key"),
        )
        return image_id

    def measure_image(self, image_id: str) -> None:
        """Set an image's size: its config and layers, each blob counted once."""
        self.execute(
            "UPDATE image SET size = (SELECT coalesce(sum(size), 0) FROM blob WHERE digest IN"
            " (SELECT e.child FROM edge e JOIN manifest m ON m.digest = e.parent"
            "  WHERE m.image_id = :id AND e.role IN ('config', 'layer'))) WHERE id = :id",
            {"id": image_id},
        )

    # ---- names

    def move_name(self, name: Named, row: NameRow, command: str) -> None:
        """Let ``name`` mean ``row`` from now on; logged unless it did before."""
        text = str(name)
        old = self.column("SELECT target FROM name WHERE name = ?", [text])
        target, manifest, via = (
            str(value) if value else None for value in (row.target, row.manifest, row.via)
        )
        self._table("name").upsert(
            {
                "name": text,
                "repository": name.repository,
                "tag": name.tag,
                "digest_ref": str(name.digest) if name.digest else None,
                "target": target,
                "manifest": manifest,
                "via": via,
                "updated_at": self.now,
                "checksum": name_checksum(text, str(target), manifest, via),
            },
            pk="name",
        )
        if old != [target]:
            self._log(text, name.repository, old[0] if old else None, target, command)

    def set_name_manifest(self, name: str, manifest: str | None, via: str | None) -> None:
        """A name keeps its target, but leads to another image on this machine."""
        (target,) = self.column("SELECT target FROM name WHERE name = ?", [name])
        self.execute(
            "UPDATE name SET manifest = ?, via = ?, checksum = ? WHERE name = ?",
            [manifest, via, name_checksum(name, target, manifest, via), name],
        )

    def drop_name(self, name: str, command: str) -> None:
        """Remove a name, if it is there."""
        for repository, target in self.rows(
            "SELECT repository, target FROM name WHERE name = ?", [name]
        ):
            self.execute("DELETE FROM name WHERE name = ?", [name])
            self._log(name, repository, target, None, command)

    def _log(
        self, name: str, repository: str, old: str | None, new: str | None, command: str
    ) -> None:
        self._table("name_log").insert(
            {
                "name": name,
                "repository": repository,
                "old": old,
                "new": new,
                "at": self.now,
                "command": command,
            }
        )


def _edges(raw: RawManifest, view: Manifest | Index) -> Iterable[dict[str, Any]]:
    found = []
    if isinstance(view, Manifest):
        found.append(("config", 0, view.config))
        found.extend(("layer", number, layer) for number, layer in enumerate(view.layers))
    else:
        found.extend(("member", number, item) for number, item in enumerate(view.manifests))
    if view.subject is not None:
        found.append(("subject", 0, view.subject))
    for role, ordinal, child in found:
        yield {
            "parent": str(raw.digest),
            "role": role,
            "ordinal": ordinal,
            "child": str(child.digest),
            "media_type": child.media_type,
            "size": child.size,
        }
