"""Builds of kstore with a defect each, as Python that runs before a command.

Every one of them is what a mistake in one place would make; ``test_selftest.py`` shows that each is
found by a test of this directory.
"""

from __future__ import annotations

__all__ = ["DEFECTS"]

_NO_SYNC = """
import os
os.fsync = os.fdatasync = lambda descriptor: None
"""
_NO_DIRECTORY_SYNC = """
from kstore.blobs import BlobDirectory
BlobDirectory.sync = lambda self, algorithm="sha256": None
"""
_NO_SYNC_OF_INDEX = """
from kstore.store import layout
from kstore.blobs import replace_file
layout.replace_file = lambda path, data: replace_file(path, data, durable=False)
"""
_INDEX_IN_PLACE = """
from kstore.store import layout

def in_place(path, data):
    with open(path, "wb", buffering=0) as file:
        file.write(data)

layout.replace_file = in_place
"""
_BLOB_IN_PLACE = """
import shutil
from kstore.blobs import BlobDirectory

def adopt(self, finished, digest):
    shutil.copyfile(finished, self.path(digest))
    finished.unlink()

BlobDirectory.adopt = adopt
"""
_ROW_FIRST = """
from kstore.blobs import BlobDirectory
from kstore.store.leases import Lease

late = []
stat, commit = BlobDirectory.stat, Lease._commit

def adopt(self, finished, digest):
    late.append((self, finished, digest))

def stat_of_late(self, digest):
    found = [finished for _, finished, other in late if other == digest]
    return found[0].lstat() if found else stat(self, digest)

def commit_first(self, blobs, origin):
    commit(self, blobs, origin)
    while late:
        directory, finished, digest = late.pop()
        finished.replace(directory.path(digest))

BlobDirectory.adopt, BlobDirectory.stat, Lease._commit = adopt, stat_of_late, commit_first
"""
_FILES_FIRST = """
from kstore.store import removal
from kstore.store.session import Session
init, delete = Session.__init__, removal.delete_unused_blobs
blobs = []

def remember(self, *args, **kwargs):
    init(self, *args, **kwargs)
    blobs.append(self.blobs)

def at_once(writer, candidates):
    gone = delete(writer, candidates)
    for digest in gone:
        blobs[-1].delete(digest)
    return gone

Session.__init__, removal.delete_unused_blobs = remember, at_once
"""
_NO_LOCK = """
from kstore.store.locks import HeldLock, LockClass, LockFile
try_lock = LockFile.try_lock

def without(self, kind, key=0, *, shared=False):
    if kind is LockClass.{kind}:
        return HeldLock(None)
    return try_lock(self, kind, key, shared=shared)

LockFile.try_lock = without
"""
_NO_LEASE = """
from kstore.store.leases import Lease
Lease.hold = lambda self, writer, digests: None
"""
_NO_SECOND_LOOK = """
from kstore.store import sweep
sweep.has_row = lambda session, digest: False
"""
_LOCK_OF_WRITER_FOR_READING = """
from kstore.store import queries
from kstore.store.locks import LockClass
select = queries.select_images

def locked(session, conditions):
    with session.locks.lock(LockClass.WRITER, wait_seconds=0.2, what="the store"):
        return select(session, conditions)

queries.select_images = locked
"""
_REPLY_FIRST = """
import sys
from kstore.store import Store
tag = Store.tag

def tag_later(self, found, names):
    print("done", flush=True)
    tag(self, found, names)

Store.tag = tag_later
"""
_REBUILD_IN_PLACE = """
import shutil
from kstore.store import rebuild
begin = rebuild._begin

def in_place(draft, base):
    begin(draft, base)
    shutil.copyfile(draft, draft.with_name("kstore.db"))

rebuild._begin = in_place
"""
#: By what is wrong with them.
DEFECTS = {
    "files are not synced": _NO_SYNC,
    "directories are not synced": _NO_DIRECTORY_SYNC,
    "index.json is not synced": _NO_SYNC_OF_INDEX,
    "index.json is written in place": _INDEX_IN_PLACE,
    "blobs are written in place": _BLOB_IN_PLACE,
    "rows before files": _ROW_FIRST,
    "files are removed before rows": _FILES_FIRST,
    "no object lock": _NO_LOCK.format(kind="OBJECT"),
    "no lock of the writer": _NO_LOCK.format(kind="WRITER"),
    "no lease": _NO_LEASE,
    "no second look before a removal": _NO_SECOND_LOOK,
    "reading waits for writers": _LOCK_OF_WRITER_FOR_READING,
    "the reply comes first": _REPLY_FIRST,
    "the database is rebuilt in place": _REBUILD_IN_PLACE,
}
