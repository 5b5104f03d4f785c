"""Unfinished uploads: blobs that the server takes in, whose digest is told at their end.

An upload is kept as a partial download (see ``partials``) is, under a random digest: that is its
ID, which nobody can guess, and the repository remembered beside its bytes tells it from a download.
So it survives the process that took it in, and is listed and collected with the others.
"""

from __future__ import annotations

import secrets

from kstore.blobs import storage_errors
from kstore.digest import ALGORITHMS, Digest
from kstore.errors import BlobNotFoundError, InUseError, InvalidDigestError
from kstore.store.ingest import Ingest, Workshop
from kstore.store.locks import HeldLock, LockClass, digest_key
from kstore.store.partials import Part, Side, parts
from kstore.values import dataclass

__all__ = ["RestingUpload", "UploadFiles"]

_ALGORITHM_BY_LENGTH = {length: name for name, length in ALGORITHMS.items()}


@dataclass(frozen=True, slots=True)
class RestingUpload:
    """An upload that nobody needs to have open: ``offset`` bytes of it can be relied on.

    ``age_seconds`` is the time since it last grew.
    """

    key: Digest
    repository: str
    offset: int
    age_seconds: float


class UploadFiles:
    """The uploads of a store, as files.  No SQL, so usable in any thread.

    All methods raise StorageError.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop

    def begin(self, repository: str, algorithm: str) -> Ingest:
        """A new upload, hashed by ``algorithm``, that others find by its ID from now on."""
        lock: HeldLock | None = None
        while lock is None:
            key = Digest(algorithm, secrets.token_hex(ALGORITHMS[algorithm] // 2))
            lock = self._lock(key)
        return self._open(key, Part.of(self._workshop.ingest, key), lock, repository)

    def begin_whole(self, digest: Digest) -> Ingest:
        """An upload that is sent at once: a private file, garbage when its lease's owner dies."""
        return self._open(digest, Part(self._workshop.private_file()), None, None)

    def find(self, upload_id: str) -> RestingUpload | None:
        """The upload of that ID, None if there is none."""
        try:
            key = Digest(_ALGORITHM_BY_LENGTH.get(len(upload_id), ""), upload_id)
        except InvalidDigestError:
            return None
        with storage_errors("look for an upload"):
            return _resting(key, Part.of(self._workshop.ingest, key))

    def all(self) -> list[RestingUpload]:
        """Every upload there is, also those that another process is taking in."""
        with storage_errors("look for uploads"):
            found = [_resting(key, part) for key, part in parts(self._workshop.ingest)]
        return [upload for upload in found if upload is not None]

    def resume(self, key: Digest, repository: str) -> Ingest:
        """Go on with an upload; what is held of it is hashed first.

        Raises BlobNotFoundError if it is gone, InUseError while another process takes it in.
        """
        lock = self._lock(key)
        if lock is None:
            raise InUseError(f"another process takes upload {key.hex} in")
        part = Part.of(self._workshop.ingest, key)
        if part.size() is None or part.read_side().upload != repository:
            lock.release()
            raise BlobNotFoundError(f"there is no upload {key.hex} to {repository}")
        return self._open(key, part, lock, repository)

    def drop(self, key: Digest) -> None:
        """Forget an upload, unless another process is taking it in."""
        lock = self._lock(key)
        if lock is not None:
            with lock, storage_errors(f"drop upload {key.hex}"):
                Part.of(self._workshop.ingest, key).remove()

    def _lock(self, key: Digest) -> HeldLock | None:
        return self._workshop.locks.try_lock(LockClass.INGEST, digest_key(key))

    def _open(
        self, key: Digest, part: Part, lock: HeldLock | None, repository: str | None
    ) -> Ingest:
        side = Side(upload=repository)
        ingest = Ingest(self._workshop, key, part, lock, side, resumable=lock is not None)
        try:
            ingest.open(None)
        except BaseException:
            ingest.close()
            raise
        return ingest


def _resting(key: Digest, part: Part) -> RestingUpload | None:
    size, age, side = part.size(), part.age(), part.read_side()
    if size is None or age is None or side.upload is None:
        return None
    return RestingUpload(key, side.upload, side.trusted(size), max(age, 0.0))
