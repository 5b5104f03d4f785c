"""Whether a blob's file is still the one whose bytes were good."""

from __future__ import annotations

import os
from collections.abc import Callable

from kstore.blobs import BlobDirectory, storage_errors
from kstore.digest import Digest
from kstore.errors import StoreDamagedError
from kstore.streams import CHUNK, Cancel, Closing

__all__ = ["BlobReader", "hash_file", "same_file"]

_HINT = "kstore check --repair"


def same_file(facts: os.stat_result, ino: int | None, mtime_ns: int | None, size: int) -> bool:
    """Whether the file is unchanged since its row was written, judged by inode, time and size."""
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size) == (ino, mtime_ns, size)


class BlobReader(Closing):
    """A blob's file, hashed while it is read.

    ``counter`` is told of every piece's size.  Raises BlobNotFoundError, and StoreDamagedError
    where the bytes cannot be read.
    """

    def __init__(
        self,
        blobs: BlobDirectory,
        digest: Digest,
        *,
        counter: Callable[[int], None] | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        self.digest = digest
        self._counter = counter
        self._cancel = cancel
        self._hasher = Digest.new_hasher(digest.algorithm)
        self._file = blobs.open(digest)

    def readinto(self, buffer: memoryview, /) -> int:
        if self._cancel is not None:
            self._cancel.check()
        try:
            count = self._file.readinto(buffer) or 0
        except OSError as exc:
            raise StoreDamagedError(
                f"blob {self.digest} cannot be read: {exc.strerror}", hint=_HINT
            ) from exc
        self._hasher.update(buffer[:count])
        if count and self._counter is not None:
            self._counter(count)
        return count

    def finish(self, *, sync: bool = False) -> os.stat_result:
        """Read the rest; the facts of the file whose bytes hash to the digest, else
        StoreDamagedError.  With ``sync`` they are durable on return."""
        buffer = memoryview(bytearray(CHUNK))
        while self.readinto(buffer):
            pass
        with storage_errors(f"make blob {self.digest} durable"):
            if sync:
                os.fsync(self._file.fileno())
            facts = os.fstat(self._file.fileno())
        if Digest.from_hasher(self._hasher, self.digest.algorithm) != self.digest:
            raise StoreDamagedError(
                f"the bytes of blob {self.digest} are not the ones that were stored", hint=_HINT
            )
        return facts

    def close(self) -> None:
        self._file.close()


def hash_file(blobs: BlobDirectory, digest: Digest, *, sync: bool = False) -> os.stat_result:
    """Read a blob to its end; the facts of the file whose bytes hash to ``digest``.

    With ``sync`` they are durable on return.  Raises BlobNotFoundError, or StoreDamagedError if
    the bytes are wrong or cannot be read.
    """
    with BlobReader(blobs, digest) as reader:
        return reader.finish(sync=sync)
