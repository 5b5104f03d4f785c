"""What can be told about names, and about everything else that no blob says, when the database is
damaged or gone: from index.json, from the backups, and from what of the damaged file can be read.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from kstore import strictjson
from kstore.blobs import storage_errors
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidInputError, KstoreError, StoreDamagedError
from kstore.mediatypes import INDEXES
from kstore.reference import Named
from kstore.store import schema
from kstore.store.catalog import NameRow
from kstore.store.database import database_errors
from kstore.store.layout import (
    FORMAT,
    GENERATION,
    MANIFEST,
    PROTECTED,
    REF_NAME,
    TARGET,
    VIA,
)
from kstore.store.provenance import Provenance, read_provenance
from kstore.store.queries import name_checksum
from kstore.store.root import SALVAGE, Root
from kstore.values import dataclass

__all__ = ["Evidence", "NameList", "gather", "read_index"]

#: Largest index.json that is read: some hundred thousand names (bytes).
_MAX_INDEX = 256 << 20
_TIME = re.compile(r"[0-9]{1,18}")  # anything else is no time, and perhaps no integer of SQLite
#: Tables whose rows cannot be found out from blobs, and the columns that make a row.
_OTHER_TABLES = {
    "container": ("id", "name", "image_id", "manifest", "created_at"),
    "blob_source": ("digest", "registry", "repository", "last_ok"),
    "protection": ("name", "since"),
    "signature": ("manifest", "ordinal", "data"),
    "name_log": ("id", "name", "repository", "old", "new", "at", "command"),
}


@dataclass(slots=True)
class NameList:
    """The names that ``source`` knew at ``generation``.

    index.json tells more: its ``entries``, and which names were ``protected`` since when
    (microseconds since 1970; None where that is not told).  One of a former version is not
    ``exact``: it tells the image that an index led to in place of the index.
    """

    source: str
    generation: int
    names: dict[Named, NameRow] = field(default_factory=dict)
    entries: dict[Digest, Descriptor] = field(default_factory=dict)
    protected: dict[Named, int] | None = None
    exact: bool = True


@dataclass(slots=True)
class Evidence:
    """What was found.

    ``base``: a whole backup to begin with, None if there is none.  ``complete``: lists of all names
    as they were, oldest first; ``leftover``: the names the damaged database still tells, each of
    them proved by its checksum.  ``rows``: by table, those of the damaged database.
    """

    base: Path | None = None
    complete: list[NameList] = field(default_factory=list)
    leftover: NameList | None = None
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def generation(self) -> int:
        """The highest generation anything speaks of."""
        lists = [*self.complete, *([self.leftover] if self.leftover else [])]
        return max((found.generation for found in lists), default=0)

    def wanted_names(self) -> dict[Named, NameRow]:
        """Every name with what the last one that knew it said it means."""
        wanted = dict(self.complete[-1].names) if self.complete else {}
        if self.complete and not self.complete[-1].exact:
            for older in self.complete[:-1]:
                for name, row in older.names.items():
                    shown = wanted.get(name)
                    if shown is not None and shown.target == row.manifest:
                        wanted[name] = row
        return wanted | (self.leftover.names if self.leftover is not None else {})


def gather(root: Root) -> Evidence:
    """Look at everything that is there; nothing is changed."""
    evidence = Evidence(provenance=read_provenance(root))
    _read_backups(root, evidence)
    if (index := read_index(root.index)) is not None:
        evidence.complete.append(index)
    evidence.complete.sort(key=lambda found: found.generation)
    for path in (root.database, root.damaged_database):
        if path.exists():
            _read_damaged(path, evidence)
            break
    return evidence


def _read_backups(root: Root, evidence: Evidence) -> None:
    for path in (root.backup(0), root.backup(1)):
        if not path.exists():
            continue
        # What cannot be read just now is no evidence of anything: that ends the rebuild.
        with (
            contextlib.suppress(StoreDamagedError),
            database_errors(path),
            _reading(path) as connection,
        ):
            if not _is_whole(connection):
                continue
            evidence.base = path
            evidence.complete.append(_read_names(connection, path.name))
            return


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    with contextlib.closing(connection):
        yield connection


def _is_whole(connection: sqlite3.Connection) -> bool:
    return (
        schema.version_of(connection) > 0
        and connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok"
        and connection.execute("PRAGMA foreign_key_check").fetchone() is None
    )


def _read_damaged(path: Path, evidence: Evidence) -> None:
    """Read a copy, so that the file with its log stays as it is until a better one is there."""
    copy = path.with_name(SALVAGE)
    pairs = [(Path(f"{path}{suffix}"), Path(f"{copy}{suffix}")) for suffix in ("", "-wal")]
    try:
        with storage_errors(f"copy {path}"):
            for original, target in pairs:
                if original.exists():
                    shutil.copyfile(original, target)
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection,
        ):
            evidence.leftover = _read_names(connection, path.name)
            for table, columns in _OTHER_TABLES.items():
                evidence.rows[table] = list(_rows(connection, table, columns))
    finally:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)


def _rows(
    connection: sqlite3.Connection, table: str, columns: Sequence[str]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a table as far as it can be read, forwards and then backwards."""
    seen: set[tuple[Any, ...]] = set()
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error):
            sql = f"SELECT {', '.join(columns)} FROM {table} ORDER BY {columns[0]} {order}"  # noqa: S608
            for row in connection.execute(sql):
                if row not in seen:
                    seen.add(row)
                    yield row


def _read_names(connection: sqlite3.Connection, source: str) -> NameList:
    found = NameList(source, 0)
    with contextlib.suppress(sqlite3.Error, ValueError, TypeError):
        row = connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        found.generation = int(row[0])
    columns = ("name", "target", "manifest", "via", "checksum")
    for name, target, manifest, via, checksum in _rows(connection, "name", columns):
        if name_checksum(name, target, manifest, via) != checksum:
            continue
        with contextlib.suppress(InvalidInputError):
            row = NameRow(Digest.parse(target), _maybe(manifest), _maybe(via))
            found.names[Named.parse(name)] = row
    return found


def _maybe(text: str | None) -> Digest | None:
    return Digest.parse(text) if text else None


def read_index(path: Path) -> NameList | None:
    """The names index.json shows; None if there is none, or it shows nothing of the kind.

    Raises StorageError if it cannot be read.
    """
    with storage_errors(f"read {path}"):
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_INDEX + 1)
        except FileNotFoundError:
            return None
    try:
        document = strictjson.as_object(
            strictjson.loads(data, path.name, cap=_MAX_INDEX), path.name
        )
        annotations = document.get("annotations", {})
        found = NameList(path.name, int(annotations.get(GENERATION, -1)))
        found.exact = FORMAT in annotations
        found.protected = {} if found.exact else None
        for entry in document["manifests"]:
            _take_entry(Descriptor.from_json(entry, path.name), found)
    except (KstoreError, LookupError, ValueError, TypeError, AttributeError):
        return None
    return found


def _take_entry(entry: Descriptor, found: NameList) -> None:
    found.entries[entry.digest] = entry
    told = entry.annotations
    if REF_NAME not in told:
        return
    name = Named.parse(told[REF_NAME])
    leads_to = _maybe(told.get(MANIFEST))
    if leads_to is None and entry.media_type not in INDEXES:
        leads_to = entry.digest
    target = _maybe(told.get(TARGET)) or entry.digest
    found.names[name] = NameRow(target, leads_to, _maybe(told.get(VIA)))
    if PROTECTED in told and found.protected is not None:
        since = told[PROTECTED]
        found.protected[name] = int(since) if _TIME.fullmatch(since) else 0
