"""Read-only stores beside the own one: the roots of other users, layouts on a medium, a share.

All that is read of them is ``index.json`` and ``blobs/``, so any OCI layout will do; nothing is
written or locked there, and nothing they say is believed: manifests and configs are hashed when
they are read, other blobs when they are opened.  What they hold is put into a catalog in memory, so
that everything is asked in the same way as of the own store.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from io import FileIO
from pathlib import Path

from kstore import strictjson
from kstore.blobs import BlobDirectory
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, InvalidReferenceError, KstoreError, StoreDamagedError
from kstore.manifest import MAX_MANIFEST_SIZE, Index, Manifest, RawManifest
from kstore.reference import LOCAL_DOMAIN, Named
from kstore.store import schema
from kstore.store.catalog import NameRow, Writer
from kstore.store.database import Database, database_errors
from kstore.store.fingerprints import hash_file
from kstore.store.layout import REF_NAME
from kstore.store.locks import HeldLock, LockFile
from kstore.store.naming import choose_member
from kstore.store.publish import put_document, read_document
from kstore.store.reading import read_blob
from kstore.store.root import Root
from kstore.store.session import Session

__all__ = ["AdditionalStores"]

#: Largest index.json that is read (bytes), and the deepest nesting of indexes that is followed.
_MAX_INDEX = 64 << 20
_MAX_DEPTH = 4


class AdditionalStores:
    """Some stores, read when the first question is asked that the own one cannot answer.

    One that cannot be read is a warning: the others, and the own, can be used.
    """

    def __init__(self, paths: Sequence[Path], warn: Callable[[str], None] | None) -> None:
        self.paths = tuple(path.absolute() for path in paths)
        self._warn = warn or (lambda text: None)
        self._verified: set[tuple[int, int, int]] = set()  # inode, time and size of good files

    @cached_property
    def sessions(self) -> tuple[Session, ...]:
        """One for each store that can be read, in order."""
        return tuple(self._opened())

    def _opened(self) -> Iterator[Session]:
        for path in self.paths:
            try:
                yield _open(path, self._warn)
            except KstoreError as error:
                self._warn(f"the additional store {path} cannot be used: {error}")

    def open_blob(self, digest: Digest) -> FileIO | None:
        """A blob's file from the first store that has it, None if none does.

        Its bytes are hashed first, unless this process has done so.  Raises StoreDamagedError.
        """
        for path in self.paths:  # no SQL: workers ask, too
            blobs = BlobDirectory(path)
            facts = blobs.stat(digest)
            if facts is None:
                continue
            mark = (facts.st_ino, facts.st_mtime_ns, facts.st_size)
            if mark not in self._verified:
                hash_file(blobs, digest)
                self._verified.add(mark)
            return blobs.open(digest)
        return None

    def close(self) -> None:
        """Forget what was read."""
        for session in self.__dict__.get("sessions", ()):
            session.close()


def _open(path: Path, warn: Callable[[str], None]) -> Session:
    root = Root(path, read_only=True)
    locks = LockFile(root.locks, read_only=True)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with database_errors(path):
            schema.lay_out(connection)
        database = Database(
            path,
            locks,
            read_only=False,
            frozen=False,
            wait_seconds=0.0,
            connection=connection,
        )
        session = Session(
            root, locks, HeldLock(None), database, command="", wait_seconds=0.0, warn=warn
        )
        session.location = path
        _Filling(session, Writer(connection)).fill(_entries(root))
    except BaseException:
        connection.close()
        raise
    database.read_only = True
    connection.execute("PRAGMA query_only = ON")
    return session


def _entries(root: Root) -> list[Descriptor]:
    """The entries of index.json."""
    what = f"index.json of {root.path}"
    try:
        with root.index.open("rb") as file:
            data = file.read(_MAX_INDEX + 1)
    except OSError as exc:
        raise StoreDamagedError(f"{what} cannot be read: {exc.strerror}") from exc
    document = strictjson.as_object(strictjson.loads(data, what, cap=_MAX_INDEX), what)
    listed = document.get("manifests")
    if not isinstance(listed, list):
        raise StoreDamagedError(f"{what} is not an OCI index")
    return [Descriptor.from_json(entry, f"an entry of {what}") for entry in listed]


class _Filling:
    """Puts the images of a layout into the catalog in memory."""

    def __init__(self, session: Session, writer: Writer) -> None:
        self._session = session
        self._blobs: BlobDirectory = session.blobs
        self._writer = writer
        self._done: dict[Digest, bool] = {}  # whether it could be put

    def fill(self, entries: Iterable[Descriptor]) -> None:
        """One image that is damaged, or of an unknown type, leaves the others as they are."""
        for entry in entries:
            try:
                self._put(entry, 0)
                self._name(entry)
            except KstoreError as error:
                self._session.warn(
                    f"manifest {entry.digest} of {self._session.root.path} is left out: {error}"
                )

    def _put(self, entry: Descriptor, depth: int) -> None:
        if entry.digest in self._done or depth > _MAX_DEPTH:
            return
        self._done[entry.digest] = False
        data = read_blob(self._session, entry.digest, cap=MAX_MANIFEST_SIZE)
        raw = RawManifest.receive(data, entry.media_type, entry.digest)
        document = read_document(self._session, raw)
        if isinstance(document.view, Index):
            for member in document.view.manifests:
                # Members that are not here are none of this store's.
                with contextlib.suppress(BlobNotFoundError):
                    self._put(member, depth + 1)
        if isinstance(document.view, Manifest):
            for blob in document.view.blobs:
                self._put_blob(blob)
        put_document(self._session, self._writer, document)
        self._done[entry.digest] = True

    def _put_blob(self, blob: Descriptor) -> None:
        facts = self._blobs.stat(blob.digest)
        if facts is not None and facts.st_size == blob.size:
            self._writer.put_blob(blob.digest, facts, blob.media_type)
        else:
            self._writer.put_unusable_blob(blob, "missing" if facts is None else "suspect")

    def _name(self, entry: Descriptor) -> None:
        text = entry.annotations.get(REF_NAME)
        if not text or not self._done.get(entry.digest):
            return
        try:
            name = Named.parse(text, default_domain=LOCAL_DOMAIN).with_default_tag()
        except InvalidReferenceError:
            return  # other tools may call images what they like; this one is known by its ID
        kinds = self._writer.column(
            "SELECT kind FROM manifest WHERE digest = ?", [str(entry.digest)]
        )
        index = kinds == ["index"]
        manifest = choose_member(self._writer, entry.digest) if index else entry.digest
        self._writer.move_name(name, NameRow(entry.digest, manifest), "")
