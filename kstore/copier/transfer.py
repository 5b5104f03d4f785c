"""Moving blobs: in parallel, verified, and never the same one twice.

Workers see streams and HTTP; the calling thread alone touches records (``reuse_blobs``, ``settle``,
facts), so that no SQL ever runs in a worker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol, TypeVar

from kstore.copier.blobs import MadeBytes, MadeFeed, OtherBytesError, SourceFeed
from kstore.copier.jobs import BlobJob, Key, Moved
from kstore.copier.packing import Crew
from kstore.copier.progress import Event, ProgressSink
from kstore.copier.recompress import Spool, make_spool
from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import CancelledError, IntegrityError, KstoreError, StorageError
from kstore.interfaces import ImageDestination, ImageSource
from kstore.mediatypes import layer_compression
from kstore.store import LayerFact
from kstore.streams import Cancel, Closing

__all__ = ["Facts", "Transfer"]

#: Seconds between two looks at whether the user asked to stop.
_POLL = 0.1
#: Seconds between two commits of finished blobs: many small ones share one.
_SETTLE_INTERVAL = 0.25

T = TypeVar("T")


class Facts(Protocol):
    """What is known about layers; see :class:`kstore.store.FactTable`."""

    def about(self, digest: Digest) -> LayerFact | None:
        """What is known about a layer blob."""
        ...

    def packed(
        self, diff_id: Digest, compression: str, level: int | None = None
    ) -> tuple[LayerFact, ...]:
        """Blobs that unpack to ``diff_id`` and were compressed so."""
        ...

    def record(self, facts: Iterable[LayerFact]) -> None:
        """Remember what was found out."""


class Transfer(Closing):
    """The blobs of one copy; ``results`` tells of every job that was moved.

    At most ``parallel`` blobs move at once, the largest first; an ordered destination gets one at a
    time, by digest.  The first failure stops the others at their next chunk; blobs that are
    finished stay finished.
    """

    def __init__(
        self,
        source: ImageSource,
        destination: ImageDestination,
        *,
        parallel: int,
        directory: Path,
        facts: Facts | None,
        progress: ProgressSink,
        cancel: Cancel,
    ) -> None:
        self.results: dict[Key, Moved] = {}
        self._source = source
        self._destination = destination
        self._parallel = parallel
        self._directory = directory
        self._facts = facts
        self._progress = progress
        self._stop = Cancel(cancel)
        self._crew = Crew()
        self._slots = threading.Semaphore(self._crew.size)
        self._spools: dict[Key, Spool] = {}
        self._offers: dict[Key, tuple[Descriptor, ...]] = {}
        self._planned: set[Key] = set()
        self._origins: dict[Digest, tuple[str, ...]] = {}
        self._found: list[LayerFact] = []
        self._lock = threading.Lock()

    # ---- before anything moves

    def prepare(self, jobs: Sequence[BlobJob]) -> None:
        """Change the layers that are to be changed, and find out their diffIDs."""
        todo = [job for job in self._new(jobs) if job.change and job.key not in self._spools]
        concurrent = self._source.traits.concurrent
        self._run(self._spool, todo, self._parallel if concurrent else 1, lambda job, spool: None)

    def diff_id(self, job: BlobJob) -> Digest:
        """What a prepared layer unpacks to."""
        if (spool := self._spools.get(job.key)) is not None:
            return spool.diff_id
        diff_id = self.results[job.key].diff_id
        assert diff_id is not None, "changed layers were read"
        return diff_id

    def prepared(self, job: BlobJob) -> Descriptor:
        """What a layer that was prepared, or is moved as it is, will be at the destination."""
        if job.key in self.results:
            return self.results[job.key].blob
        return self._spools[job.key].blob if job.key in self._spools else job.blob

    # ---- moving

    def move(self, jobs: Sequence[BlobJob]) -> None:
        """Bring every blob to the destination; those that were brought already stay there."""
        todo = self._new(jobs)
        missing = self._absent(todo)
        ordered = self._destination.traits.ordered
        both = self._source.traits.concurrent and self._destination.traits.concurrent
        if ordered:
            missing.sort(key=lambda job: str(self.prepared(job).digest))
        else:
            missing.sort(key=lambda job: -job.blob.size)
        workers = self._parallel if both and not ordered else 1
        self._run(self._move, missing, workers, self._moved)

    def _new(self, jobs: Sequence[BlobJob]) -> list[BlobJob]:
        """Jobs not done yet, each once; all are announced."""
        todo = {job.key: job for job in jobs if job.key not in self.results}
        for key, job in todo.items():
            if key not in self._planned:
                self._planned.add(key)
                blob = job.blob
                if job.data is None:  # asked here: workers must not touch the source's records
                    self._origins[blob.digest] = self._source.origins(blob.digest)
                self._progress(Event("plan", digest=blob.digest, size=blob.size, blob=job.kind))
        return list(todo.values())

    def _absent(self, jobs: Sequence[BlobJob]) -> list[BlobJob]:
        """The jobs whose result the destination does not have yet."""
        asked = [(job, blob) for job in jobs for blob in self._outcomes(job)]
        there = self._destination.reuse_blobs([self._hint(job, blob) for job, blob in asked])
        for (job, blob), present in zip(asked, there, strict=True):
            if present and job.key not in self.results:
                known = self._facts.about(blob.digest) if self._facts and job.change else None
                self._moved(job, Moved(blob, "present", known.diff_id if known else None))
        return [job for job in jobs if job.key not in self.results]

    def _outcomes(self, job: BlobJob) -> tuple[Descriptor, ...]:
        """Blobs that would do as the job's result, as far as that is known yet."""
        change = job.change
        if change is None or job.key in self._spools:
            return (self.prepared(job),)
        if change.compression is None or self._facts is None:
            return ()
        if layer_compression(job.blob.media_type) == "none":
            diff_id: Digest | None = job.blob.digest
        else:
            about = self._facts.about(job.blob.digest)
            diff_id = about.diff_id if about else None
        if diff_id is None or diff_id != change.diff_id:
            return ()  # a claim alone never decides which bytes take the layer's place
        self._offers[job.key] = tuple(
            Descriptor(change.media_type(fact.compression), fact.digest, fact.size)
            for fact in self._facts.packed(diff_id, change.compression, change.level)
        )
        return self._offers[job.key]

    def _hint(self, job: BlobJob, blob: Descriptor) -> BlobHint:
        return BlobHint(
            digest=blob.digest,
            size=blob.size,
            media_type=blob.media_type,
            kind=job.kind,
            index=job.index,
            origins=self._origins.get(blob.digest, ()),
        )

    def _moved(self, job: BlobJob, moved: Moved) -> None:
        self.results[job.key] = moved
        self._progress(
            Event(
                "finish",
                digest=job.blob.digest,
                size=job.blob.size,
                done=None if moved.how == "present" else job.blob.size,
                how=moved.how,
            )
        )
        if (spool := self._spools.pop(job.key, None)) is not None:
            spool.close()

    # ---- in workers

    def _move(self, job: BlobJob) -> Moved:
        self._stop.check()
        if job.change is not None:
            return self._move_changed(job)
        if job.data is not None:
            made = MadeBytes(job.blob, job.data)
            with MadeFeed(lambda: made, job.blob, self._progress, self._stop) as feed:
                written = self._destination.write_blob(feed, self._hint(job, job.blob))
        else:
            with SourceFeed(self._source, job.blob, self._progress, self._stop) as source:
                written = self._destination.write_blob(source, self._hint(job, job.blob))
        return Moved(job.blob, written.how)

    def _move_changed(self, job: BlobJob) -> Moved:
        for blob in self._offers.get(job.key, ())[:1]:
            # The likely result: if the destination has it, nothing is compressed at all.
            try:
                return self._write_made(job, blob)
            except OtherBytesError:
                continue  # an older compressor made that one
        return self._write_made(job, self._spool(job).blob)

    def _write_made(self, job: BlobJob, blob: Descriptor) -> Moved:
        with MadeFeed(lambda: self._spool(job), blob, self._progress, self._stop) as feed:
            written = self._destination.write_blob(feed, self._hint(job, blob))
        spool = self._spools.get(job.key)
        changed = spool is not None and blob.digest != job.blob.digest
        how = "converted" if changed and written.how == "copied" else written.how
        return Moved(blob, how, spool.diff_id if spool else None)

    def _spool(self, job: BlobJob) -> Spool:
        """The changed layer; made now if nobody did before."""
        if (spool := self._spools.get(job.key)) is not None:
            return spool
        assert job.change is not None, "only changed layers are spooled"
        with self._slots, SourceFeed(self._source, job.blob, self._progress, self._stop) as feed:
            spool = None
            while spool is None:
                feed.start()
                try:
                    spool = make_spool(feed, job.blob, job.change, self._directory, self._crew)
                except IntegrityError:
                    if not feed.refute():
                        raise
        self._note(job, spool)
        self._spools[job.key] = spool
        return spool

    def _note(self, job: BlobJob, spool: Spool) -> None:
        assert job.change is not None
        before = LayerFact(job.blob.digest, job.blob.size, spool.diff_id, spool.source_kind)
        after = LayerFact(
            spool.blob.digest, spool.blob.size, spool.diff_id, spool.kind, job.change.level
        )
        with self._lock:
            self._found += [before] if before.digest == after.digest else [before, after]

    # ---- running

    def _run(
        self,
        work: Callable[[BlobJob], T],
        jobs: Sequence[BlobJob],
        workers: int,
        keep: Callable[[BlobJob, T], None],
    ) -> None:
        if not jobs:
            return
        with ThreadPoolExecutor(max(1, min(workers, len(jobs))), thread_name_prefix="blob") as pool:
            pending = {pool.submit(work, job): job for job in jobs}
            try:
                self._collect(pending, keep)
            except BaseException as cause:
                self._stop.cancel()
                for future in pending:
                    future.cancel()
                self._keep_finished(pending, cause)
                raise

    def _collect(
        self, pending: dict[Future[T], BlobJob], keep: Callable[[BlobJob, T], None]
    ) -> None:
        settled = time.monotonic()
        while pending:
            # A finite wait keeps the main thread open to signals.
            done, _ = wait(pending, timeout=_POLL, return_when=FIRST_COMPLETED)
            finished = [(future, pending.pop(future)) for future in done]
            failed = [error for future, _ in finished if (error := future.exception()) is not None]
            for future, job in finished:
                if future.exception() is None:
                    keep(job, future.result())
            if failed:
                raise _first_cause(failed)
            if not pending or time.monotonic() - settled >= _SETTLE_INTERVAL:
                self._settle()
                settled = time.monotonic()
            self._stop.check()

    def _keep_finished(self, pending: dict[Future[T], BlobJob], cause: BaseException) -> None:
        """Wait until every worker has noticed, and keep what was finished."""
        wait(pending)
        try:
            self._settle()
        except KstoreError as second:
            cause.add_note(f"finished blobs could not be kept: {second}")

    def _settle(self) -> None:
        self._destination.settle()
        with self._lock:
            found, self._found = self._found, []
        if self._facts is None or not found:
            return
        try:
            self._facts.record(found)
        except StorageError as error:  # knowing less is no reason to fail
            self._progress(Event("note", text=f"nothing was remembered about layers: {error}"))

    def close(self) -> None:
        """Give up all temporary files."""
        self._crew.close()
        for spool in self._spools.values():
            spool.close()
        self._spools.clear()


def _first_cause(errors: Sequence[BaseException]) -> BaseException:
    """The error that started it; a cancelled sibling is a consequence, not a cause."""
    causes = [error for error in errors if not isinstance(error, CancelledError)]
    return (causes or list(errors))[0]
