from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from kstore.store import schema

_FACTS = {
    "objects": "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name",
    "tables": "SELECT name, type, ncol, wr, strict FROM pragma_table_list ORDER BY name",
    "migrations": "SELECT id, migration_set, name FROM _sqlite_migrations",
    "meta": "SELECT key, value FROM meta",
    "version": "PRAGMA user_version",
    "application": "PRAGMA application_id",
}


@pytest.fixture
def empty() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def _facts(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    return {name: connection.execute(sql).fetchall() for name, sql in _FACTS.items()}


def test_a_new_database_is_what_the_migrations_make(empty: sqlite3.Connection) -> None:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as migrated:
        migrated.execute("BEGIN IMMEDIATE")
        schema.migrate(migrated)
        migrated.execute("COMMIT")
        expected = _facts(migrated)
    schema.lay_out(empty)
    assert _facts(empty) == expected
    assert expected["version"] == [(schema.SCHEMA_VERSION,)]


def test_a_new_database_has_no_migration_left_to_apply(empty: sqlite3.Connection) -> None:
    schema.lay_out(empty)
    before = _facts(empty)
    schema.migrate(empty)
    assert _facts(empty) == before


def test_a_database_that_cannot_be_laid_out_whole_stays_as_it_was(
    empty: sqlite3.Connection,
) -> None:
    empty.execute("CREATE TABLE lease (id)")
    with pytest.raises(sqlite3.Error, match="lease"):
        schema.lay_out(empty)
    empty.execute("ROLLBACK")
    assert empty.execute("SELECT name FROM sqlite_master").fetchall() == [("lease",)]
