"""What every part of an open store works with: root, blobs, locks, database."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from kstore.blobs import BlobDirectory, fsync_directory, storage_errors
from kstore.errors import StorageError, StorageFullError
from kstore.reference import Named
from kstore.store import schema
from kstore.store.database import (
    Database,
    back_up,
    database_errors,
    journal_of,
    set_journal,
)
from kstore.store.locks import HeldLock, LockClass, LockFile
from kstore.store.root import Root, ensure_room, no_store, open_root

__all__ = ["Session", "now_us", "open_session"]

T = TypeVar("T")


def now_us() -> int:
    """The wall clock, in microseconds since 1970."""
    return time.time_ns() // 1000


class Session:
    """An open store; belongs to the thread that opened it."""

    def __init__(
        self,
        root: Root,
        locks: LockFile,
        held: HeldLock,
        database: Database,
        *,
        command: str,
        wait_seconds: float,
        warn: Callable[[str], None] | None,
    ) -> None:
        self.root = root
        self.locks = locks
        self.db = database
        self.blobs = BlobDirectory(root.path, root.ingest)
        self.command = command
        self.wait_seconds = wait_seconds
        self.meanings: Callable[[str], Iterable[Named]] = lambda short: ()
        self.changed = False  # names or manifests: index.json is behind
        self.notes: list[bytes] = []  # lines that the file provenance lacks
        self._held = held
        self._warn = warn
        self.reserve_used = False
        self.rehearsing = False  # see rehearse()
        self.location: Path | None = None  # of an additional store

    def warn(self, message: str) -> None:
        """Tell the user something that is no reason to stop."""
        if self._warn is not None:
            self._warn(message)

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed: by wish, or by the file system."""
        return self.db.read_only

    def require_store(self) -> None:
        """NotFoundError if nobody has made this store yet."""
        if not self.root.database.exists():
            raise no_store(self.root.path)

    def require_writable(self) -> None:
        """StorageError if nothing can be changed, NotFoundError if there is nothing at all."""
        if self.read_only:
            self.require_store()
            raise StorageError(
                f"the store at {self.root.path} can only be read",
                hint="choose another directory with --root",
            )

    @contextlib.contextmanager
    def write(self, *, keep: bool = True) -> Iterator[sqlite3.Connection]:
        """A write transaction; see :meth:`Database.write`."""
        self.require_writable()
        if self.rehearsing:
            with self.db.nested() as connection:
                yield connection
            return
        with self.db.write(keep=keep) as connection:
            yield connection

    @contextlib.contextmanager
    def rehearse(self) -> Iterator[None]:
        """Everything removed inside is there again at the end; no file is touched.

        Each transaction inside sees what those before it did, so that reports are those of the
        real thing.
        """
        changed = self.changed
        with self.write(keep=False):
            self.rehearsing = True
            try:
                yield
            finally:
                self.rehearsing, self.changed = False, changed

    def object_lock(self, key: int, what: str) -> HeldLock:
        """The lock of one blob's file, waiting for another committer or sweeper."""
        return self.locks.lock(LockClass.OBJECT, key, wait_seconds=self.wait_seconds, what=what)

    def freeing(self, action: Callable[[], T]) -> T:
        """Run something that frees space; on a full disk it may use the reserve."""
        try:
            return action()
        except StorageFullError:
            self.use_reserve()
            return action()

    def use_reserve(self) -> None:
        """Release the ballast until this session ends; StorageFullError if there is none."""
        ensure_room(self.root)
        self.reserve_used = True
        self.warn(f"the disk of {self.root.path} is full; using the space kept in reserve")

    def close(self) -> None:
        """Close the database and give up the store lock."""
        try:
            self.db.close()
        finally:
            if self.reserve_used:
                self.root.allocate_ballast()
            self._held.release()


def open_session(
    path: Path,
    *,
    command: str,
    create: bool,
    read_only: bool,
    missing_ok: bool,
    warn: Callable[[str], None] | None,
    wait_seconds: float,
    network_ok: bool = False,
) -> Session:
    """Open the store at ``path``, making or upgrading it first where needed.

    ``read_only`` makes nothing and refuses changes; a root that cannot be written to is opened in
    the same way, and with ``missing_ok`` one that does not exist, which is empty then.
    """
    root = open_root(
        path,
        create=create and not read_only,
        missing_ok=missing_ok,
        network_ok=network_ok,
        warn=warn,
    )
    locks = LockFile(root.locks, read_only=root.read_only)
    opening = _Opening(root, locks, read_only, wait_seconds)
    with contextlib.ExitStack() as undo:
        held = opening.hold_store(shared=True)
        undo.callback(held.release)
        database = opening.open_current()
        if database is None:
            held.release()
            opening.build()
            held = opening.hold_store(shared=True)
            undo.callback(held.release)
            database = opening.open_current()
        undo.pop_all()
    if database is None:
        held.release()
        raise StorageError(f"the store at {root.path} could not be brought up to date")
    session = Session(
        root, locks, held, database, command=command, wait_seconds=wait_seconds, warn=warn
    )
    session.reserve_used = opening.reserve_used
    if opening.reserve_used:
        root.allocate_ballast()  # opening took some; the rest is not for what fills the disk
    return session


class _Opening:
    """The steps of opening; a class because they share what they work on."""

    def __init__(self, root: Root, locks: LockFile, read_only: bool, wait_seconds: float) -> None:
        self.root = root
        self.locks = locks
        self.read_only = read_only
        self.wait_seconds = wait_seconds
        self.reserve_used = False

    def hold_store(self, *, shared: bool) -> HeldLock:
        if self.root.read_only and not self.root.locks.exists():
            return HeldLock(None)  # nobody can change anything: nothing to be protected from
        return self.locks.lock(
            LockClass.STORE,
            shared=shared,
            wait_seconds=self.wait_seconds,
            what=f"the store at {self.root.path}",
        )

    def open_current(self) -> Database | None:
        """The database, None if it is to be made or upgraded first."""
        if not self.root.database.exists() and not self.root.read_only:
            return None
        try:
            return self._open_current()
        except StorageFullError:  # SQLite cannot even read when it cannot make its shared index
            ensure_room(self.root)
            self.reserve_used = True
            return self._open_current()

    def _open_current(self) -> Database | None:
        database = Database(
            self.root.database,
            self.locks,
            read_only=self.read_only,
            frozen=self.root.read_only,
            wait_seconds=self.wait_seconds,
        )
        try:
            with database_errors(self.root.database):
                version = schema.version_of(database.connection)
                # Asked of SQLite: to open and close the file here would drop its locks.
                (journal,) = database.row("PRAGMA journal_mode")
        except BaseException:
            database.close()
            raise
        reading = self.root.read_only or self.read_only
        if version == schema.SCHEMA_VERSION and (reading or journal == journal_of(self.root)):
            return database
        if reading and version >= schema.READABLE_VERSION:
            database.fill_in(version)
            return database
        database.close()
        if reading:
            raise StorageError(
                f"the store at {self.root.path} has schema version {version} and must be upgraded"
                " first",
                hint="run any kstore command that may write to it",
            )
        return None

    def build(self) -> None:
        """Make or upgrade the database, alone in the store; a backup is kept of an old one."""
        with self.hold_store(shared=False), database_errors(self.root.database):
            connection = sqlite3.connect(self.root.database, isolation_level=None)
            with contextlib.closing(connection):
                set_journal(connection, self.root)
                version = schema.version_of(connection)
                if version == schema.SCHEMA_VERSION:
                    return
                connection.execute("PRAGMA synchronous = FULL")
                if not version:
                    schema.lay_out(connection)
                else:
                    back_up(connection, self.root.backup(0))
                    self._migrate(connection)
        with storage_errors(f"make {self.root.database} durable"):
            fsync_directory(self.root.database.parent)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            schema.migrate(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
