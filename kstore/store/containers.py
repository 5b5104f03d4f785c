"""Working containers: a row, and a directory that belongs to it.

``ROOT/containers/<id>/`` holds ``upper/``, the writable layer, and what operations keep beside it.
The row follows when the directory is complete, and goes before the directory does.  A directory
without a row exists only while somebody holds the container's lock; whoever has that lock and then
finds no row may delete it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from kstore.blobs import fsync_directory, storage_errors, write_new_file
from kstore.digest import Digest
from kstore.errors import (
    AmbiguousNameError,
    BlobNotFoundError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
)
from kstore.store.catalog import Writer
from kstore.store.locks import HeldLock, LockClass
from kstore.store.queries import from_us
from kstore.store.records import UPPER, ContainerRecord, Found
from kstore.store.session import Session

__all__ = [
    "DESCRIPTION",
    "ContainerTable",
    "containers_of",
    "recover_rows",
    "remove_tree",
    "sweep_abandoned",
]

#: The file of a container in which operations keep what they know about it; mode 0600.
DESCRIPTION = "kstore.json"

_COLUMNS = "id, name, image_id, manifest, created_at"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{1,64}", re.ASCII)
_FULL_ID = re.compile(r"[0-9a-f]{64}", re.ASCII)
_KEY_DIGITS = 14
_MAX_DESCRIPTION = 16 << 20
_ID_BYTES = 32
_LISTED = 10


class ContainerTable:
    """The working containers of an open store."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[ContainerRecord]:
        """Every container, the oldest first."""
        return _select(self._session, "1 ORDER BY created_at, id")

    def find(self, text: str) -> ContainerRecord:
        """The container with this ID or name, or the only one whose ID begins so.

        Raises NotFoundError, AmbiguousNameError.
        """
        found = _select(self._session, "id = ?1 OR name = ?1 ORDER BY id <> ?1", [text])[:1]
        if not found and _ID.fullmatch(text):
            where = "id >= ?1 AND id < ?1 || 'g' ORDER BY id LIMIT 11"
            found = _select(self._session, where, [text])
        if len(found) > 1:
            listed = ", ".join(f"{one.short_id} ({one.name})" for one in found[:_LISTED])
            more = ", ..." if len(found) > _LISTED else ""
            raise AmbiguousNameError(
                f"{text!r} is the start of several container IDs: {listed}{more}",
                hint="give more digits of the ID, or the name",
            )
        if not found:
            raise NotFoundError(f"there is no container {text[:140]!r}", hint="kstore containers")
        return found[0]

    def create(
        self,
        base: Found | None,
        *,
        name: str | None = None,
        stem: str,
        describe: Callable[[ContainerRecord], bytes],
    ) -> ContainerRecord:
        """Make a container from an image, or from scratch.

        Without a ``name`` it is called ``stem``, with a number behind it where that is taken.
        ``describe`` gives what will be in its file DESCRIPTION.  Raises InvalidInputError for what
        cannot be a name, ConflictError for one that is taken, BlobNotFoundError if the image was
        removed meanwhile.
        """
        session = self._session
        session.require_writable()
        if name is not None and (not _NAME.fullmatch(name) or _FULL_ID.fullmatch(name)):
            raise InvalidInputError(
                f"{name[:140]!r} cannot name a container: letters, digits, '_', '.' and '-' can,"
                " and it begins with a letter or a digit"
            )
        container_id = os.urandom(_ID_BYTES).hex()
        directory = _directory(session, container_id)
        with _lock(session, container_id, f"container {container_id[:12]}"):
            try:
                with storage_errors(f"make a container in {directory.parent}"):
                    directory.mkdir(mode=0o700)
                    (directory / UPPER).mkdir(mode=0o755)
                with session.write() as db:
                    writer = Writer(db)
                    _require_base(writer, base)
                    record = ContainerRecord(
                        id=container_id,
                        name=_free_name(writer, name, stem),
                        image_id=base.image.id if base else None,
                        manifest=base.manifest if base else None,
                        created_at=from_us(writer.now),
                        directory=directory,
                    )
                    _settle(directory, describe(record))
                    _insert(writer, record)
            except BaseException:
                with storage_errors(f"remove {directory}"):
                    remove_tree(directory)
                raise
        return record

    @contextlib.contextmanager
    def hold(self, record: ContainerRecord) -> Iterator[None]:
        """Work on a container's files: nobody else changes, reads or removes them meanwhile.

        Raises StorageError if somebody else is at it all the time, NotFoundError if it is gone.
        """
        self._session.require_writable()
        with _lock(self._session, record.id, f"container {record.name}"):
            if not _select(self._session, "id = ?", [record.id]):
                raise NotFoundError(f"container {record.name} was removed meanwhile")
            yield

    def remove(self, record: ContainerRecord) -> None:
        """Remove a container with its files; NotFoundError if it is gone."""
        session = self._session

        def act() -> None:
            with session.write() as db:
                Writer(db).execute("DELETE FROM container WHERE id = ?", [record.id])

        with self.hold(record):
            session.freeing(act)
            with storage_errors(f"remove the files of container {record.name}"):
                remove_tree(record.directory)


def _require_base(writer: Writer, base: Found | None) -> None:
    if base is not None and base.image.location is not None:
        return  # of an additional store: nothing here can keep it from going
    """In the same transaction as the row: else the image could go in between."""
    if base is not None and not writer.column(
        "SELECT 1 FROM manifest WHERE digest = ?", [str(base.manifest)]
    ):
        raise BlobNotFoundError(f"image {base.image.short_id} is not in the store any more")


def _free_name(writer: Writer, name: str | None, stem: str) -> str:
    taken = set(writer.column("SELECT name FROM container"))
    if name is not None:
        if name in taken:
            raise ConflictError(
                f"there is a container called {name} already", hint=f"kstore rm {name}"
            )
        return name
    wished, number = stem[:100], 0
    while wished in taken:
        number += 1
        wished = f"{stem[:100]}-{number}"
    return wished


def _settle(directory: Path, description: bytes) -> None:
    """Complete a new container's directory, durably; its row follows."""
    with storage_errors(f"make a container in {directory}"):
        write_new_file(directory / DESCRIPTION, description, mode=0o600)
        fsync_directory(directory)
        fsync_directory(directory.parent)


def _insert(writer: Writer, record: ContainerRecord) -> None:
    manifest = str(record.manifest) if record.manifest else None
    writer.execute(
        f"INSERT INTO container ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
        [record.id, record.name, record.image_id, manifest, writer.now],
    )


def containers_of(writer: Writer, condition: str, value: str) -> list[str]:
    """Names of the containers that use an image (``image_id = ?``) or a manifest."""
    found: list[str] = writer.column(
        f"SELECT name FROM container WHERE {condition} ORDER BY name",  # noqa: S608
        [value],
    )
    return found


def sweep_abandoned(session: Session) -> None:
    """Remove directories that no row speaks of; those whose lock is held are left alone."""
    with storage_errors("look for abandoned containers"):
        names = os.listdir(session.root.containers)  # noqa: PTH208 - names, not paths
    for name in filter(_FULL_ID.fullmatch, names):
        lock = session.locks.try_lock(LockClass.CONTAINER, _key(name))
        if lock is None:
            continue
        with lock, storage_errors(f"remove abandoned container {name}"):
            if not _select(session, "id = ?", [name]):
                remove_tree(_directory(session, name))


def recover_rows(session: Session, writer: Writer) -> None:
    """Give directories without a row one from what their descriptions say.

    For a database that is made anew, while nobody else is in the store.
    """
    with storage_errors("look for containers"):
        names = os.listdir(session.root.containers)  # noqa: PTH208 - names, not paths
    for container_id in filter(_FULL_ID.fullmatch, sorted(names)):
        if writer.column("SELECT 1 FROM container WHERE id = ?", [container_id]):
            continue
        name, image_id = _described(_directory(session, container_id))
        manifests = writer.column(
            "SELECT digest FROM manifest WHERE image_id = ? ORDER BY added_at", [image_id]
        )
        writer.execute(
            f"INSERT INTO container ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
            [
                container_id,
                _free_name(writer, None, name or f"recovered-{container_id[:12]}"),
                image_id,
                next(iter(manifests), None),
                writer.now,
            ],
        )


def _described(directory: Path) -> tuple[str | None, str | None]:
    """The name and the image's ID that a container's description tells."""
    try:
        with (directory / DESCRIPTION).open("rb") as file:
            document = json.loads(file.read(_MAX_DESCRIPTION))
        name, image_id = document.get("container-name"), document.get("image-id")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None, None
    good_name = isinstance(name, str) and _NAME.fullmatch(name)
    good_id = isinstance(image_id, str) and _FULL_ID.fullmatch(image_id)
    return name if good_name else None, image_id if good_id else None


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, also where its modes forbid that.

    What is not there is no error; raises OSError.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except PermissionError:
        _open_up(path)
        shutil.rmtree(path)


def _open_up(path: Path) -> None:
    todo = [path]
    while todo:
        directory = todo.pop()
        directory.chmod(0o700)
        todo += [Path(e.path) for e in os.scandir(directory) if e.is_dir(follow_symlinks=False)]


def _select(
    session: Session, where: str, parameters: list[str] | None = None
) -> list[ContainerRecord]:
    rows = session.db.rows(
        f"SELECT {_COLUMNS} FROM container WHERE {where}",  # noqa: S608
        parameters or (),
    )
    return [
        ContainerRecord(
            id=container_id,
            name=name,
            image_id=image_id,
            manifest=Digest.parse(manifest) if manifest else None,
            created_at=from_us(created),
            directory=_directory(session, container_id),
        )
        for container_id, name, image_id, manifest, created in rows
    ]


def _directory(session: Session, container_id: str) -> Path:
    return session.root.containers / container_id


def _key(container_id: str) -> int:
    return int(container_id[:_KEY_DIGITS], 16)


def _lock(session: Session, container_id: str, what: str) -> HeldLock:
    return session.locks.lock(
        LockClass.CONTAINER, _key(container_id), wait_seconds=session.wait_seconds, what=what
    )
