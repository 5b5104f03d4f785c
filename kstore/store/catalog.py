"""Changing the catalog: every row is written here, inside a transaction that
:meth:`Session.write` opened.

What tag, untag, pull and push write is plain SQL, because they shall start without loading
sqlite-utils; what removals and repairs change goes through it (see ADR 0002).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from kstore.digest import Digest
from kstore.errors import InUseError
from kstore.reference import Named
from kstore.store.queries import name_checksum, to_us
from kstore.store.session import now_us
from kstore.values import dataclass

if TYPE_CHECKING:
    import sqlite_utils

    from kstore.descriptor import Descriptor
    from kstore.manifest import ImageConfig, Index, Manifest, RawManifest

__all__ = ["NameRow", "Writer"]


#: Changes of a name that are kept, however old.
LOG_LENGTH = 100
#: How long those of a name that is gone are kept, in microseconds.
LOG_AGE = 90 * 86400 * 1_000_000


@dataclass(frozen=True, slots=True)
class NameRow:
    """What a name shall mean; see :class:`~kstore.store.records.NameRecord`."""

    target: Digest
    manifest: Digest | None
    via: Digest | None = None


class Writer:
    """The rows of one write transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.now = now_us()

    def rows(self, sql: str, parameters: Any = ()) -> list[Any]:
        """A query inside the transaction."""
        return self._connection.execute(sql, parameters).fetchall()

    def column(self, sql: str, parameters: Any = ()) -> list[Any]:
        """The first column of a query."""
        return [row[0] for row in self.rows(sql, parameters)]

    def execute(self, sql: str, parameters: Any = ()) -> int:
        """A statement; the number of rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    @cached_property
    def _database(self) -> sqlite_utils.Database:
        from sqlite_utils import Database  # here, because what moves images must not load it

        return Database(self._connection, recursive_triggers=False, execute_plugins=False)

    def _table(self, name: str) -> sqlite_utils.db.Table:
        return cast("sqlite_utils.db.Table", self._database[name])

    def delete(self, table: str, where: str, parameters: Sequence[Any]) -> None:
        """Delete the rows of ``table`` that meet the condition."""
        self._table(table).delete_where(where, parameters)

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

    def put_unusable_blob(self, blob: Descriptor, state: str) -> None:
        """Something needs this blob, which is ``missing`` or ``suspect``; a row it has stays."""
        self.execute(
            "INSERT INTO blob (digest, size, media_type, state, committed_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (digest) DO NOTHING",
            [str(blob.digest), blob.size, blob.media_type, state, self.now],
        )

    def set_state(self, digest: Digest, state: str) -> None:
        """Record that a blob was found ``missing`` or ``suspect``."""
        self.execute("UPDATE blob SET state = ? WHERE digest = ?", [state, str(digest)])

    def put_source(self, digests: Iterable[Digest], registry: str, repository: str) -> None:
        """The blobs came from, or are now in, this repository."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO blob_source (digest, registry, repository, last_ok)"
            " VALUES (?, ?, ?, ?)",
            ((str(digest), registry, repository, self.now) for digest in digests),
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
        self._connection.executemany(
            "INSERT INTO lease_ref (lease, digest) VALUES (?, ?) ON CONFLICT DO NOTHING",
            ((lease_id, str(digest)) for digest in digests),
        )

    def drop_lease(self, lease_id: int) -> None:
        self.execute("DELETE FROM lease WHERE id = ?", [lease_id])

    # ---- manifests and images

    def put_manifest(
        self,
        raw: RawManifest,
        view: Manifest | Index,
        image_id: str | None,
        attached_to: Digest | None = None,
    ) -> None:
        """A manifest whose blob row is there already, and its edges.

        ``attached_to`` is the subject of an artifact that does not name one itself.
        """
        from kstore.manifest import Index  # here: who only moves names needs none
        from kstore.manifest.attached import artifact_type_of

        kind = "index" if isinstance(view, Index) else "artifact" if image_id is None else "image"
        artifact_type = artifact_type_of(view) if kind == "artifact" else view.artifact_type
        subject = view.subject.digest if view.subject else attached_to
        self.execute(
            "INSERT INTO manifest VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET kind = excluded.kind,"
            " image_id = excluded.image_id, subject = coalesce(subject, excluded.subject),"
            " artifact_type = excluded.artifact_type, annotations = excluded.annotations",
            [
                str(raw.digest),
                kind,
                raw.media_type,
                image_id,
                str(subject) if subject else None,
                artifact_type,
                json.dumps(dict(view.annotations)),
                self.now,
            ],
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO edge (parent, role, ordinal, child, media_type, size)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                (str(raw.digest), role, ordinal, str(child.digest), child.media_type, child.size)
                for role, ordinal, child in _edges(view)
            ),
        )

    def put_image(self, digest: Digest, config: ImageConfig) -> str:
        """The image with this config, of which ``digest`` is the digest; its ID.

        ``size`` follows by :meth:`measure_image`.
        """
        image_id = digest.hex
        self.execute(
            # What was known before stays: a config that cannot be read tells nothing but digests.
            "INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?) ON CONFLICT (id) DO UPDATE SET"
            " created = coalesce(excluded.created, created),"
            " os = coalesce(nullif(excluded.os, ''), os),"
            " architecture = coalesce(nullif(excluded.architecture, ''), architecture),"
            " variant = coalesce(excluded.variant, variant),"
            " os_version = coalesce(excluded.os_version, os_version),"
            " author = coalesce(excluded.author, author)",
            [
                image_id,
                str(digest),
                to_us(config.created) if config.created else None,
                config.platform.os,
                config.platform.architecture,
                config.platform.variant,
                config.platform.os_version,
                config.author,
                self.now,
            ],
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO label (image_id, key, value) VALUES (?, ?, ?)",
            ((image_id, key, value) for key, value in config.run.labels.items()),
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
        self.execute(
            "INSERT OR REPLACE INTO name (name, repository, tag, digest_ref, target, manifest, via,"
            " updated_at, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                text,
                name.repository,
                name.tag,
                str(name.digest) if name.digest else None,
                target,
                manifest,
                via,
                self.now,
                name_checksum(text, str(target), manifest, via),
            ],
        )
        if old != [target]:
            self._log(text, name.repository, old[0] if old else None, target, command)

    def set_name_manifest(self, name: str, manifest: str | None, via: str | None) -> None:
        """A name keeps its target, but leads to another image on this machine."""
        (target,) = self.column("SELECT target FROM name WHERE name = ?", [name])
        checksum = name_checksum(name, target, manifest, via)
        self._table("name").update(name, {"manifest": manifest, "via": via, "checksum": checksum})

    def drop_name(self, name: str, command: str) -> None:
        """Remove a name, if it is there; InUseError for a protected one."""
        if self.column("SELECT 1 FROM protection WHERE name = ?", [name]):
            familiar = Named.parse(name).familiar
            raise InUseError(f"{familiar} is protected", hint=f"kstore unprotect {familiar}")
        for repository, target in self.rows(
            "SELECT repository, target FROM name WHERE name = ?", [name]
        ):
            self.execute("DELETE FROM name WHERE name = ?", [name])
            self._log(name, repository, target, None, command)

    def shorten_log(self) -> int:
        """Forget changes of names beyond the newest LOG_LENGTH of each name, and those older than
        LOG_AGE of names that are not in use; how many."""
        return self.execute(
            "DELETE FROM name_log WHERE id IN (SELECT id FROM (SELECT id,"
            "   row_number() OVER (PARTITION BY name ORDER BY id DESC) AS place FROM name_log)"
            "   WHERE place > ?)"
            " OR at < ? AND name NOT IN (SELECT name FROM name)",
            [LOG_LENGTH, self.now - LOG_AGE],
        )

    def _log(
        self, name: str, repository: str, old: str | None, new: str | None, command: str
    ) -> None:
        self.execute(
            "INSERT INTO name_log (name, repository, old, new, at, command)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [name, repository, old, new, self.now, command],
        )


def _edges(view: Manifest | Index) -> list[tuple[str, int, Descriptor]]:
    """(role, ordinal, child) of everything a manifest refers to."""
    from kstore.manifest import Manifest

    found: list[tuple[str, int, Descriptor]] = []
    if isinstance(view, Manifest):
        found.append(("config", 0, view.config))
        found.extend(("layer", number, layer) for number, layer in enumerate(view.layers))
    else:
        found.extend(("member", number, item) for number, item in enumerate(view.manifests))
    if view.subject is not None:
        found.append(("subject", 0, view.subject))
    return found
