"""One connection to the database, and the only places that open, commit and checkpoint it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kstore.blobs import fsync_directory, storage_errors
from kstore.errors import REPAIR, StorageError, StorageFullError, StoreDamagedError
from kstore.store import schema
from kstore.store.locks import LockClass, LockFile
from kstore.store.root import Root

__all__ = ["Database", "back_up", "database_errors", "journal_of", "set_journal"]

#: Size of the write-ahead log, in bytes, beyond which a commit is followed by a checkpoint.
CHECKPOINT_BYTES = 1 << 20

_PRAGMAS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA synchronous = FULL",  # rows must not roll back past a deletion of files
    "PRAGMA wal_autocheckpoint = 0",  # only under the writer lock, see checkpoint()
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cell_size_check = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA journal_size_limit = 4194304",
)
_SHM_SIZE = sqlite3.SQLITE_IOERR_SHMSIZE
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


@contextlib.contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Translate errors of SQLite about the database at ``path``."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _translated(exc, path) from exc


def _translated(exc: sqlite3.Error, path: Path) -> StorageError:
    if isinstance(exc, sqlite3.ProgrammingError):  # these have no code, only Python's own words
        if "closed database" in str(exc):
            return StorageError(f"the store with the database {path} was closed before this")
        if "same thread" in str(exc):
            return StorageError(
                f"the store with the database {path} was opened in another thread",
                hint="open it once in each thread",
            )
    code = getattr(exc, "sqlite_errorcode", None) or 0
    primary = code & 0xFF
    if code == _SHM_SIZE or primary == sqlite3.SQLITE_FULL or _lacks_inodes(primary, path):
        return StorageFullError(
            f"no space left for {path}", hint="free some space, then run: kstore prune"
        )
    if primary == sqlite3.SQLITE_NOTADB:
        return StoreDamagedError(
            f"{path} is not a database: it was damaged, or something else was put there",
            hint=REPAIR,
        )
    if primary in _DAMAGED:
        return StoreDamagedError(f"the database {path} is damaged: {exc}", hint=REPAIR)
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError(f"the database {path} is busy: {exc}", hint="try again")
    return StorageError(f"the database {path} failed: {exc}")


def _lacks_inodes(code: int, path: Path) -> bool:
    """Whether SQLite could not make a file because the file system can hold no more files."""
    if code != sqlite3.SQLITE_CANTOPEN:
        return False
    try:
        facts = os.statvfs(path.parent)
    except OSError:
        return False
    return facts.f_files > 0 and facts.f_favail == 0  # some file systems do not count


class Database:
    """A connection of one thread.

    Reading is plain SQL; :meth:`write` is the only way to change anything.
    """

    def __init__(
        self,
        path: Path,
        locks: LockFile,
        *,
        read_only: bool,
        frozen: bool,
        wait_seconds: float,
        connection: sqlite3.Connection | None = None,
    ) -> None:
        """Open the database; ``frozen`` if its file system cannot be written to.

        ``read_only`` refuses changes on a connection that could make them.  With a ``connection``,
        that is the database, and ``path`` what it is called.
        """
        self.path = path
        self.read_only = read_only or frozen
        self._locks = locks
        self._wait = wait_seconds
        with database_errors(path):
            self.connection = connection or _connect(path, frozen, wait_seconds)
            try:
                for pragma in _PRAGMAS:
                    self.connection.execute(pragma)
                if self.read_only:
                    self.connection.execute("PRAGMA query_only = ON")
            except BaseException:
                self.connection.close()
                raise

    def close(self) -> None:
        with database_errors(self.path):
            self.connection.close()

    def fill_in(self, version: int) -> None:
        """What the schema ``version`` lacks counts as empty from now on, for reading only."""
        with database_errors(self.path):
            self.connection.execute("PRAGMA query_only = OFF")
            schema.fill_in(self.connection, version)
            self.connection.execute("PRAGMA query_only = ON")

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """All rows of a query."""
        with database_errors(self.path):
            return self.connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> Any:
        """The first row of a query, or None."""
        with database_errors(self.path):
            return self.connection.execute(sql, parameters).fetchone()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see one state of the database."""
        with database_errors(self.path):
            begun = self.connection.in_transaction
            if not begun:
                self.connection.execute("BEGIN")
        if begun:
            yield
            return
        try:
            yield
        finally:
            self._roll_back()

    @contextlib.contextmanager
    def write(self, *, keep: bool = True) -> Iterator[sqlite3.Connection]:
        """One write transaction: everything inside happens, durably, or nothing.

        The transaction is IMMEDIATE (a deferred one fails when it turns from reading to writing)
        and runs under the writer lock, which also orders it with all checkpoints.  Without
        ``keep`` it is rolled back at the end: a rehearsal.
        """
        with self._locks.lock(
            LockClass.WRITER, wait_seconds=self._wait, what=f"the database {self.path}"
        ):
            with database_errors(self.path):
                self.connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self.connection
                    self.connection.execute("COMMIT" if keep else "ROLLBACK")
                except BaseException:
                    self._roll_back()
                    raise
            self._checkpoint_if_large()

    @contextlib.contextmanager
    def nested(self) -> Iterator[sqlite3.Connection]:
        """A transaction inside the one that is open: all of it happens there, or nothing."""
        with database_errors(self.path):
            self.connection.execute("SAVEPOINT nested")
            try:
                yield self.connection
            except BaseException:
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK TO nested")
                raise
            finally:
                if self.connection.in_transaction:
                    self.connection.execute("RELEASE nested")

    def checkpoint(self, mode: str = "PASSIVE") -> None:
        """Move the write-ahead log into the database file.

        Under the writer lock: a checkpoint that overlaps a commit may lose pages in SQLite
        versions before 3.51.3.
        """
        with self._locks.lock(
            LockClass.WRITER, wait_seconds=self._wait, what=f"the database {self.path}"
        ):
            self.rows(f"PRAGMA wal_checkpoint({mode})")

    def _roll_back(self) -> None:
        # SQLite has already done so after an error such as a full disk.
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")

    def _checkpoint_if_large(self) -> None:
        log = self.path.with_name(self.path.name + "-wal")
        try:
            if log.stat().st_size > CHECKPOINT_BYTES:
                self.rows("PRAGMA wal_checkpoint(PASSIVE)")
        except (FileNotFoundError, StorageFullError):
            pass  # committed already; the next checkpoint will do


def journal_of(root: Root) -> str:
    """The kind of journal a database has there: a write-ahead log needs memory that processes
    share, which no network file system has."""
    return "delete" if root.network else "wal"


def set_journal(connection: sqlite3.Connection, root: Root) -> None:
    """Give the database, which nobody else may have open, the journal for its place."""
    if root.network:
        # Before anything is read: a log is then read without shared memory.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute(f"PRAGMA journal_mode = {journal_of(root)}")


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Write a consistent, durable copy of an open database to ``target``, which is replaced."""
    temporary = target.with_suffix(".new")
    with storage_errors(f"write the backup {target}"), database_errors(target):
        temporary.unlink(missing_ok=True)
        with contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as copy:
            copy.execute("PRAGMA synchronous = FULL")
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, readable anywhere
        temporary.replace(target)
        fsync_directory(target.parent)


def _connect(path: Path, frozen: bool, wait_seconds: float) -> sqlite3.Connection:
    if frozen and not path.exists():  # a store nobody has made yet: an empty one, in memory
        connection = sqlite3.connect(":memory:", isolation_level=None)
        schema.lay_out(connection)
        return connection
    if frozen:
        return _connect_frozen(path, wait_seconds)
    return sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=wait_seconds
    )


def _connect_frozen(path: Path, wait_seconds: float) -> sqlite3.Connection:
    """Read a database whose directory cannot be written to.

    Without a log, nobody has it open for writing and nobody can: it does not change, and
    ``immutable`` may say so.  With a log, ``immutable`` would silently ignore that; where the
    shared index is there, SQLite can use both as they are.  A log without that index belongs to a
    writer that is gone (a live one has it), so a copy of both files is the database.
    """
    log, shared = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    if log.exists() and log.stat().st_size > 0:
        if not shared.exists():
            return _copy_to_memory(path, log)
        mode = "mode=ro"
    else:
        mode = "mode=ro&immutable=1"
    return sqlite3.connect(
        f"{path.as_uri()}?{mode}", uri=True, isolation_level=None, timeout=wait_seconds
    )


def _copy_to_memory(path: Path, log: Path) -> sqlite3.Connection:
    import shutil
    import tempfile

    with storage_errors(f"copy {path}"), tempfile.TemporaryDirectory() as directory:
        for file in (path, log):
            shutil.copyfile(file, Path(directory) / file.name)
        copy = sqlite3.connect(Path(directory) / path.name, isolation_level=None)
        with contextlib.closing(copy):
            memory = sqlite3.connect(":memory:", isolation_level=None)
            copy.backup(memory)
    return memory
