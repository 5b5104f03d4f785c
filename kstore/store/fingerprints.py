"""Whether a blob's file is still the one whose bytes were good."""

from __future__ import annotations

import os
from collections.abc import Callable

from kstore.blobs import BlobDirectory, storage_errors
from kstore.digest import Digest
from kstore.errors import StoreDamagedError
from kstore.streams import CHUNK, Cancel

__all__ = ["hash_file", "same_file"]


def same_file(facts: os.stat_result, ino: int | None, mtime_ns: int | None, size: int) -> bool:
    """Whether the file is unchanged since its row was written, judged by inode, time and size."""
    return (facts.st_ino, facts.st_mtime_ns, facts.st_size) == (ino, mtime_ns, size)


def hash_file(
    blobs: BlobDirectory,
    digest: Digest,
    *,
    sync: bool = False,
    counter: Callable[[int], None] | None = None,
    cancel: Cancel | None = None,
) -> os.stat_result:
    """Read a blob to its end; the facts of the file whose bytes hash to ``digest``.

    With ``sync`` they are durable on return.  ``counter`` is told of every chunk's size.  Raises
    BlobNotFoundError, or StoreDamagedError if the bytes are wrong or cannot be read.
    """
    hasher = Digest.new_hasher(digest.algorithm)
    buffer = memoryview(bytearray(CHUNK))
    with blobs.open(digest) as file:
        try:
            while count := file.readinto(buffer):
                if cancel is not None:
                    cancel.check()
                hasher.update(buffer[:count])
                if counter is not None:
                    counter(count)
        except OSError as exc:
            raise StoreDamagedError(
                f"blob {digest} cannot be read: {exc.strerror}", hint="kstore check --deep"
            ) from exc
        with storage_errors(f"make blob {digest} durable"):
            if sync:
                os.fsync(file.fileno())
            facts = os.fstat(file.fileno())
    if Digest.from_hasher(hasher, digest.algorithm) != digest:
        raise StoreDamagedError(
            f"the bytes of blob {digest} are not the ones that were stored",
            hint="kstore check --deep",
        )
    return facts
