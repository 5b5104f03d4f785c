"""Reading blobs to their end, several at once: do their bytes hash to their names?

A layer is unpacked in the same pass, so that its file is read once.  No SQL here: workers see
files only.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from kstore.blobs import BlobDirectory
from kstore.compression import decompressor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, IntegrityError, StorageError
from kstore.store.fingerprints import BlobReader
from kstore.streams import Cancel, pump
from kstore.values import dataclass

__all__ = ["Examined", "Reading", "examine"]

#: A layer that unpacks to more bytes is not unpacked any further.
_MAX_LAYER = 1 << 40
_MOST_WORKERS = 4
#: Seconds between two looks at whether the user asked to stop.
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class Reading:
    """A blob to read; a layer is unpacked as ``kind`` and its diffID made with ``algorithm``."""

    digest: Digest
    kind: str | None = None
    algorithm: str = "sha256"


@dataclass(frozen=True, slots=True)
class Examined:
    """What reading a blob showed.

    ``facts``: those of the file, None unless its bytes are good; ``problem`` says what is wrong
    then.  ``diff_id``: what the layer unpacks to; where it cannot be unpacked, ``unpack_problem``.
    """

    digest: Digest
    facts: os.stat_result | None
    problem: StorageError | BlobNotFoundError | None = None
    diff_id: Digest | None = None
    unpack_problem: str | None = None


def examine(
    blobs: BlobDirectory,
    readings: Sequence[Reading],
    *,
    progress: Callable[[int], None],
    cancel: Cancel,
    deadline: float | None = None,
) -> Iterator[Examined]:
    """Read blobs, in this order but side by side; their results as they come.

    ``progress`` is told sizes, in the calling thread.  After ``deadline`` (of the monotonic clock)
    nothing more is begun; what was begun is finished, so that every call gets somewhere.  Raises
    CancelledError.
    """
    stop = Cancel(cancel)
    read: deque[int] = deque()
    workers = min(os.cpu_count() or 1, _MOST_WORKERS)
    waiting = iter(readings)
    pending: set[Future[Examined]] = set()
    with ThreadPoolExecutor(workers, thread_name_prefix="examine") as pool:
        try:
            begun = 0
            while True:
                while len(pending) < workers and (
                    begun == 0 or deadline is None or time.monotonic() < deadline
                ):
                    reading = next(waiting, None)
                    if reading is None:
                        break
                    begun += 1
                    pending.add(pool.submit(_examine, blobs, reading, read.append, stop))
                if not pending:
                    return
                # A finite wait keeps the main thread open to signals.
                done, pending = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
                _tell(progress, read)
                for future in done:
                    yield future.result()
                cancel.check()
        finally:
            stop.cancel()


def _tell(progress: Callable[[int], None], read: deque[int]) -> None:
    while read:
        progress(read.popleft())


def _examine(
    blobs: BlobDirectory, reading: Reading, counter: Callable[[int], None], cancel: Cancel
) -> Examined:
    digest, kind = reading.digest, reading.kind
    diff_id, unpack_problem = None, None
    try:
        with BlobReader(blobs, digest, counter=counter, cancel=cancel) as reader:
            if kind is not None:
                diff_id, unpack_problem = _unpack(reader, kind, reading.algorithm)
            facts = reader.finish()
    except (BlobNotFoundError, StorageError) as problem:
        return Examined(digest, None, problem)
    return Examined(digest, facts, None, diff_id, unpack_problem)


def _unpack(reader: BlobReader, kind: str, algorithm: str) -> tuple[Digest | None, str | None]:
    """The diffID of a layer, or why it has none."""
    if kind == "none" and algorithm == reader.digest.algorithm:
        return reader.digest, None
    hasher = Digest.new_hasher(algorithm)
    try:
        pump(decompressor(kind, reader, max_output=_MAX_LAYER), hasher.update)
    except IntegrityError as exc:
        return None, exc.message
    return Digest.from_hasher(hasher, algorithm), None
