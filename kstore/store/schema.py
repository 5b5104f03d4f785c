"""The database: its tables, drawn, and the steps that made them.

::

    meta      key -> value                      generation: counts changes of names and manifests

    blob      digest -> size media_type state   one row for each file in blobs/ that counts
     |                  ino mtime_ns            ...as it was when its bytes were last known good
     |                  committed_at verified_at
     |-- blob_source    digest registry repository -> last_ok     registry '' = uploaded here
     |-- lease_ref      lease digest                              may not be deleted: in use
     |                    `-- lease   id -> purpose pid started_at touched_at
     `-- manifest       digest -> kind media_type image_id subject artifact_type annotations
          |   |                   added_at
          |   `-- edge  parent role ordinal -> child media_type size
          |             role: config, layer, member (of an index), subject (child may be absent)
          |-- signature manifest ordinal -> data                 in the order they came
          |-- name      name -> repository tag digest_ref target manifest via updated_at checksum
          `-- image     id -> config_digest created os architecture variant os_version author size
                 `-- label   image_id key -> value               added_at

    name_log  id -> name repository old new at command            every move of a name

    layer_fact  digest -> size diff_id compression level          what was found out by reading or
                          recorded_at                             making a layer, here and only here

    container  id -> name image_id manifest created_at            working containers; image_id and
                                                                  manifest NULL for scratch

    protection  name -> since                                     names that nothing may remove

Digests are ``algorithm:hex``, sizes bytes, times microseconds since 1970 (UTC).  The views
``images_view``, ``names_view``, ``layers_view``, ``blobs_view``, ``leases_view`` and
``containers_view`` show the same for reading.

A container's image may be gone: whoever forces its removal takes it away from under it.

``blob.state`` is ``present`` (durable when the row was committed), ``missing`` (found absent) or
``suspect`` (found damaged).  ``name.checksum`` catches damage that SQLite itself cannot see.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING

from kstore.errors import REPAIR, StoreDamagedError, StoreVersionError

if TYPE_CHECKING:
    import sqlite_utils

__all__ = [
    "APPLICATION_ID",
    "READABLE_VERSION",
    "SCHEMA_VERSION",
    "fill_in",
    "lay_out",
    "migrate",
    "version_of",
]

#: "kstr" in the header of the database file.
APPLICATION_ID = 0x6B737472
#: Number of migrations; kept in ``user_version``.
SCHEMA_VERSION = 5
#: The oldest version that can be read without an upgrade: what it lacks counts as empty.
READABLE_VERSION = 1

_TABLES = """
CREATE TABLE meta (
  key TEXT PRIMARY KEY, value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', '0');

CREATE TABLE blob (
  digest TEXT PRIMARY KEY,
  size INTEGER NOT NULL CHECK (size >= 0),
  media_type TEXT,
  state TEXT NOT NULL CHECK (state IN ('present', 'missing', 'suspect')),
  ino INTEGER, mtime_ns INTEGER,
  committed_at INTEGER NOT NULL, verified_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_trouble ON blob (state) WHERE state <> 'present';

CREATE TABLE blob_source (
  digest TEXT NOT NULL REFERENCES blob ON DELETE CASCADE,
  registry TEXT NOT NULL, repository TEXT NOT NULL, last_ok INTEGER NOT NULL,
  PRIMARY KEY (digest, registry, repository)
) STRICT, WITHOUT ROWID;

CREATE TABLE image (
  id TEXT PRIMARY KEY,
  config_digest TEXT NOT NULL REFERENCES blob,
  created INTEGER,
  os TEXT NOT NULL, architecture TEXT NOT NULL, variant TEXT, os_version TEXT,
  author TEXT,
  size INTEGER NOT NULL,
  added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX image_config ON image (config_digest);

CREATE TABLE label (
  image_id TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
  key TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (image_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX label_key ON label (key, value);

CREATE TABLE manifest (
  digest TEXT PRIMARY KEY REFERENCES blob,
  kind TEXT NOT NULL CHECK (kind IN ('image', 'index', 'artifact')),
  media_type TEXT NOT NULL,
  image_id TEXT REFERENCES image,
  subject TEXT,
  artifact_type TEXT,
  annotations TEXT NOT NULL,
  added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_image ON manifest (image_id);
CREATE INDEX manifest_subject ON manifest (subject) WHERE subject IS NOT NULL;

CREATE TABLE edge (
  parent TEXT NOT NULL REFERENCES manifest ON DELETE CASCADE,
  role TEXT NOT NULL CHECK (role IN ('config', 'layer', 'member', 'subject')),
  ordinal INTEGER NOT NULL,
  child TEXT NOT NULL,
  media_type TEXT NOT NULL, size INTEGER NOT NULL,
  PRIMARY KEY (parent, role, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX edge_child ON edge (child);

CREATE TABLE name (
  name TEXT PRIMARY KEY,
  repository TEXT NOT NULL, tag TEXT, digest_ref TEXT,
  target TEXT NOT NULL REFERENCES manifest,
  manifest TEXT REFERENCES manifest,
  via TEXT REFERENCES manifest,
  updated_at INTEGER NOT NULL,
  checksum TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX name_repository ON name (repository);
CREATE INDEX name_target ON name (target);
CREATE INDEX name_manifest ON name (manifest);
CREATE INDEX name_via ON name (via);

CREATE TABLE name_log (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL, repository TEXT NOT NULL,
  old TEXT, new TEXT,
  at INTEGER NOT NULL, command TEXT NOT NULL
) STRICT;
CREATE INDEX name_log_name ON name_log (name);
CREATE INDEX name_log_repository ON name_log (repository);

CREATE TABLE lease (
  id INTEGER PRIMARY KEY,
  purpose TEXT NOT NULL, pid INTEGER NOT NULL,
  started_at INTEGER NOT NULL, touched_at INTEGER NOT NULL
) STRICT;

CREATE TABLE lease_ref (
  lease INTEGER NOT NULL REFERENCES lease ON DELETE CASCADE,
  digest TEXT NOT NULL REFERENCES blob,
  PRIMARY KEY (lease, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_ref_digest ON lease_ref (digest);
"""

#: How sqlite-utils keeps what migrations were applied; see its Migrations.ensure_migrations_table.
_APPLIED = """
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
INSERT INTO "_sqlite_migrations" (migration_set, name, applied_at)
VALUES ('kstore', '0001_first', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
       ('kstore', '0002_layer_facts', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
       ('kstore', '0003_containers', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
       ('kstore', '0004_signatures', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')),
       ('kstore', '0005_protection', strftime('%Y-%m-%d %H:%M:%f+00:00', 'now'));
"""

#: ``level`` is that of a layer compressed here, where one was asked for.
_FACTS = """
CREATE TABLE layer_fact (
  digest TEXT PRIMARY KEY,
  size INTEGER NOT NULL CHECK (size >= 0),
  diff_id TEXT NOT NULL,
  compression TEXT NOT NULL CHECK (compression IN ('none', 'gzip', 'zstd')),
  level INTEGER,
  recorded_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX layer_fact_diff_id ON layer_fact (diff_id, compression);
CREATE INDEX layer_fact_age ON layer_fact (recorded_at);
"""

_CONTAINERS = """
CREATE TABLE container (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  image_id TEXT, manifest TEXT,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX container_image ON container (image_id);

CREATE VIEW containers_view AS
SELECT substr(c.id, 1, 12) AS short_id, c.name, substr(c.image_id, 1, 12) AS image,
  datetime(c.created_at / 1000000, 'unixepoch') AS created, c.id
FROM container c;
"""

_PROTECTION = """
CREATE TABLE protection (
  name TEXT PRIMARY KEY, since INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_SIGNATURES = """
CREATE TABLE signature (
  manifest TEXT NOT NULL REFERENCES manifest ON DELETE CASCADE,
  ordinal INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (manifest, ordinal)
) STRICT, WITHOUT ROWID;
"""

#: What each version after the first brought.
_LATER = ((2, _FACTS), (3, _CONTAINERS), (4, _SIGNATURES), (5, _PROTECTION))

_VIEWS = """
CREATE VIEW images_view AS
SELECT substr(i.id, 1, 12) AS short_id,
  (SELECT group_concat(n.name, ' ') FROM name n JOIN manifest m ON m.digest = n.manifest
   WHERE m.image_id = i.id) AS names,
  i.size, datetime(i.created / 1000000, 'unixepoch') AS created,
  i.os || '/' || i.architecture || coalesce('/' || i.variant, '') AS platform,
  i.author, datetime(i.added_at / 1000000, 'unixepoch') AS added, i.id
FROM image i;

CREATE VIEW names_view AS
SELECT n.name, substr(m.image_id, 1, 12) AS short_id, n.target, n.via,
  datetime(n.updated_at / 1000000, 'unixepoch') AS updated
FROM name n LEFT JOIN manifest m ON m.digest = n.manifest;

CREATE VIEW layers_view AS
SELECT substr(m.image_id, 1, 12) AS short_id, e.parent AS manifest, e.ordinal AS number,
  e.child AS digest, e.size, e.media_type, coalesce(b.state, 'absent') AS state
FROM edge e JOIN manifest m ON m.digest = e.parent LEFT JOIN blob b ON b.digest = e.child
WHERE e.role = 'layer';

CREATE VIEW blobs_view AS
SELECT b.digest, b.size, coalesce(b.media_type, (SELECT e.media_type FROM edge e
    WHERE e.child = b.digest LIMIT 1)) AS media_type, b.state,
  (SELECT count(DISTINCT e.parent) FROM edge e WHERE e.child = b.digest) AS used_by,
  (SELECT group_concat(s.registry || '/' || s.repository, ' ') FROM blob_source s
   WHERE s.digest = b.digest) AS sources,
  datetime(b.committed_at / 1000000, 'unixepoch') AS committed,
  datetime(b.verified_at / 1000000, 'unixepoch') AS verified
FROM blob b;

CREATE VIEW leases_view AS
SELECT l.id, l.purpose, l.pid, datetime(l.started_at / 1000000, 'unixepoch') AS started,
  datetime(l.touched_at / 1000000, 'unixepoch') AS touched,
  (SELECT count(*) FROM lease_ref r WHERE r.lease = l.id) AS blobs
FROM lease l;
"""


def version_of(connection: sqlite3.Connection) -> int:
    """The schema version of an open database, 0 for an empty one.

    Raises StoreVersionError if it is newer than this kstore, StoreDamagedError if the file is
    another program's.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if version == 0 and application == 0:
        return 0
    if application != APPLICATION_ID:
        raise StoreDamagedError("db/kstore.db is not a kstore database", hint=REPAIR)
    if version > SCHEMA_VERSION:
        raise StoreVersionError(
            f"the store has schema version {version}, and this kstore knows versions up to"
            f" {SCHEMA_VERSION}",
            hint="use the newer kstore that wrote it",
        )
    return int(version)


def lay_out(connection: sqlite3.Connection) -> None:
    """Make the present schema in an empty database, all or nothing.

    The result is what :func:`migrate` makes, a test says; but this starts without sqlite-utils.
    """
    connection.executescript(
        f"BEGIN IMMEDIATE; {_APPLIED} {_TABLES} {_VIEWS} {_FACTS} {_CONTAINERS} {_SIGNATURES}"
        f"{_PROTECTION}"
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def fill_in(connection: sqlite3.Connection, version: int) -> None:
    """Let a connection that only reads find what later versions brought: temporary, and empty."""
    for since, script in _LATER:
        if since > version:
            connection.executescript(
                re.sub(r"CREATE (TABLE|VIEW) ", r"CREATE TEMP \1 ", script).replace(
                    "CREATE INDEX ", "CREATE INDEX temp."
                )
            )


def migrate(connection: sqlite3.Connection) -> None:
    """Bring an older schema up to date; the caller holds an open write transaction."""
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    db = Database(connection, recursive_triggers=False, execute_plugins=False)

    steps = Migrations("kstore")
    steps(name="0001_first")(_first)
    steps(name="0002_layer_facts")(_layer_facts)
    steps(name="0003_containers")(_containers)
    steps(name="0004_signatures")(_signatures)
    steps(name="0005_protection")(_protection)
    steps.apply(db)
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _first(db: sqlite_utils.Database, /) -> None:
    db.executescript(_TABLES)
    db.executescript(_VIEWS)


def _layer_facts(db: sqlite_utils.Database, /) -> None:
    db.executescript(_FACTS)


def _containers(db: sqlite_utils.Database, /) -> None:
    db.executescript(_CONTAINERS)


def _signatures(db: sqlite_utils.Database, /) -> None:
    db.executescript(_SIGNATURES)


def _protection(db: sqlite_utils.Database, /) -> None:
    db.executescript(_PROTECTION)
