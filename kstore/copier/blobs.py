"""Moving blobs: in parallel, verified, and never the same one twice.

Workers see streams and HTTP; the calling thread alone touches the destination's records
(``reuse_blobs``, ``settle``), so that no SQL ever runs in a worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from kstore.copier.progress import Event, EventKind, ProgressSink
from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Hasher
from kstore.errors import CancelledError, KstoreError
from kstore.interfaces import BlobFeed, BlobSource, ImageDestination, ImageSource, WrittenBlob
from kstore.manifest import Manifest
from kstore.streams import Cancel, VerifiedStream

__all__ = ["move_blobs"]

#: Seconds between two progress events of one blob.
_REPORT_INTERVAL = 0.1
#: Seconds between two commits of finished blobs: many small ones share one.
_SETTLE_INTERVAL = 0.25


def move_blobs(
    source: ImageSource,
    destination: ImageDestination,
    manifest: Manifest,
    *,
    parallel: int,
    progress: ProgressSink,
    cancel: Cancel,
) -> None:
    """Bring every blob of ``manifest`` to ``destination``.

    At most ``parallel`` blobs move at once, the largest first.  The first failure stops the others
    at their next chunk; blobs that are finished stay finished.
    """
    wanted = [(blob, _hint(source, manifest, blob)) for blob in manifest.blobs]
    for blob, hint in wanted:
        progress(Event("plan", digest=blob.digest, size=blob.size, blob=hint.kind))
    there = destination.reuse_blobs([hint for _, hint in wanted])
    missing = []
    for (blob, hint), present in zip(wanted, there, strict=True):
        if present:
            progress(Event("finish", digest=blob.digest, size=blob.size, how="present"))
        else:
            missing.append((blob, hint))
    if missing:
        missing.sort(key=lambda item: -item[0].size)
        both = source.traits.concurrent and destination.traits.concurrent
        _Mover(source, destination, progress, cancel).run(missing, parallel if both else 1)


def _hint(source: ImageSource, manifest: Manifest, blob: Descriptor) -> BlobHint:
    is_config = blob.digest == manifest.config.digest
    position = next((n for n, layer in enumerate(manifest.layers) if layer == blob), None)
    return BlobHint(
        digest=blob.digest,
        size=blob.size,
        media_type=blob.media_type,
        kind="config" if is_config else "layer",
        index=None if is_config else position,
        origins=source.origins(blob.digest),
    )


class _Mover:
    """Runs the transfers of one copy and collects their outcome."""

    def __init__(
        self,
        source: ImageSource,
        destination: ImageDestination,
        progress: ProgressSink,
        cancel: Cancel,
    ) -> None:
        self._source = source
        self._destination = destination
        self._progress = progress
        self._stop = Cancel(cancel)

    def run(self, blobs: Sequence[tuple[Descriptor, BlobHint]], parallel: int) -> None:
        workers = max(1, min(parallel, len(blobs)))
        with ThreadPoolExecutor(workers, thread_name_prefix="blob") as pool:
            pending = {pool.submit(self._move, blob, hint) for blob, hint in blobs}
            try:
                self._collect(pending)
            except BaseException as cause:
                self._stop.cancel()
                for future in pending:
                    future.cancel()
                self._keep_finished(pending, cause)
                raise

    def _collect(self, pending: set[Future[None]]) -> None:
        settled = time.monotonic()
        while pending:
            # A finite wait keeps the main thread open to signals.
            done, _ = wait(pending, timeout=_REPORT_INTERVAL, return_when=FIRST_COMPLETED)
            pending -= done
            failed = [error for future in done if (error := future.exception()) is not None]
            if failed:
                raise _first_cause(failed)
            if not pending or time.monotonic() - settled >= _SETTLE_INTERVAL:
                self._destination.settle()
                settled = time.monotonic()
            self._stop.check()

    def _keep_finished(self, pending: set[Future[None]], cause: BaseException) -> None:
        """Wait until every worker has noticed, and keep what was finished."""
        wait(pending)
        try:
            self._destination.settle()
        except KstoreError as second:
            cause.add_note(f"finished blobs could not be kept: {second}")

    def _move(self, blob: Descriptor, hint: BlobHint) -> None:
        self._stop.check()
        with _Feed(self._source, blob, self._progress, self._stop) as feed:
            written = self._destination.write_blob(feed, hint)
        self._report(blob, written)

    def _report(self, blob: Descriptor, written: WrittenBlob) -> None:
        self._progress(
            Event("finish", digest=blob.digest, size=blob.size, done=blob.size, how=written.how)
        )


def _first_cause(errors: Sequence[BaseException]) -> BaseException:
    """The error that started it; a cancelled sibling is a consequence, not a cause."""
    causes = [error for error in errors if not isinstance(error, CancelledError)]
    return (causes or list(errors))[0]


class _Feed(BlobFeed):
    """One blob of the source, verified on the way to the destination."""

    def __init__(
        self, source: ImageSource, blob: Descriptor, progress: ProgressSink, cancel: Cancel
    ) -> None:
        self._source = source
        self._blob = blob
        self._progress = progress
        self._cancel = cancel
        self._opened: BlobSource | None = None
        self._stream: VerifiedStream | None = None
        self._done = 0
        self._reported = 0.0

    def start(
        self, offset: int = 0, prefix: Hasher | None = None, validator: str | None = None
    ) -> int:
        self.close()
        self._cancel.check()
        self._done = offset
        opened = self._source.open_blob(self._blob, offset, validator, self._retrying)
        self._opened = opened
        resumed = offset > 0 and opened.offset == offset
        self._done = offset if resumed else 0
        self._stream = VerifiedStream(
            opened,
            self._blob,
            offset=self._done,
            prefix=prefix if resumed else None,
            cancel=self._cancel,
        )
        self._emit("start")
        return self._done

    @property
    def validator(self) -> str | None:
        return self._opened.validator if self._opened else None

    def waiting(self, pid: int | None) -> None:
        self._cancel.check()
        self._progress(Event("wait", digest=self._blob.digest, size=self._blob.size, pid=pid))

    def readinto(self, buffer: memoryview, /) -> int:
        assert self._stream is not None, "start() comes first"
        count = self._stream.readinto(buffer)
        self._done += count
        now = time.monotonic()
        if now - self._reported >= _REPORT_INTERVAL:
            self._reported = now
            self._emit("advance")
        return count

    def _retrying(self, why: str) -> None:
        self._emit("retry", why)

    def _emit(self, kind: EventKind, text: str | None = None) -> None:
        blob = self._blob
        self._progress(Event(kind, blob.digest, size=blob.size, done=self._done, text=text))

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def __enter__(self) -> _Feed:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
