"""An archive that takes one image after the other, from its first byte to its last."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from kstore.descriptor import BlobHint
from kstore.digest import Digest
from kstore.errors import CancelledError, IntegrityError
from kstore.interfaces import BlobFeed, WrittenBlob
from kstore.streams import Closing
from kstore.transports.base import stated_blob

__all__ = ["ArchiveSession"]


class BlobTar(Protocol):
    """The tar that an archive's blobs are written into."""

    def has(self, digest: Digest, size: int) -> bool:
        """Whether this blob is in it."""
        ...

    def add_blob(
        self,
        digest: Digest,
        size: int,
        stream: BlobFeed,
        again: Callable[[int, IntegrityError], bool],
    ) -> None:
        """Append a blob; after wrong bytes ``again`` is asked for another try."""
        ...


class ArchiveSession(Closing):
    """An archive that is being written, called ``what`` in messages; equal blobs go in once.

    Leaving without an exception finishes it; leaving with one removes what there is of it.
    """

    def __init__(self, what: str, blobs: BlobTar, cut: Callable[[int], bool]) -> None:
        """``cut`` takes back all but so many bytes of the archive; False if they are gone."""
        self.what = what
        self._blobs = blobs
        self._cut = cut
        self._broken = False

    def has(self, hint: BlobHint) -> bool:
        """Whether this blob is in the archive."""
        return (
            hint.digest is not None
            and hint.size is not None
            and self._blobs.has(hint.digest, hint.size)
        )

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        """Append a blob, unless it is there; once that fails, nothing more can be written."""
        blob = stated_blob(hint, self.what)
        if self._blobs.has(blob.digest, blob.size):
            return WrittenBlob(blob, "present")
        if self._broken:
            # The cause is on its way to the caller already, and must not be hidden by this.
            raise CancelledError(f"{self.what} lacks a blob that failed before")
        self._broken = True
        feed.start()
        self._blobs.add_blob(
            blob.digest,
            blob.size,
            feed,
            lambda position, error: _begin_again(feed, self._cut, position, error),
        )
        self._broken = False
        return WrittenBlob(blob, "copied")

    def require_whole(self) -> None:
        """Raise IntegrityError if a blob failed, after which nothing more can be written."""
        if self._broken:
            raise IntegrityError(f"{self.what} cannot be completed: one of its blobs failed")

    @abstractmethod
    def finish(self) -> None:
        """Write the end, and make the archive durable and visible."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()


def _begin_again(
    feed: BlobFeed, cut: Callable[[int], bool], position: int, error: IntegrityError
) -> bool:
    """Start ``feed``, whose wrong bytes began at ``position``, again, if its source may have better
    ones and ``cut`` can take these back.  Where only that stands in the way, ``error`` says what
    helps."""
    if not feed.refute():
        return False
    if not cut(position):
        error.hint = error.hint or (
            "another answer may bring the right bytes, but nothing can be taken back from a pipe:"
            " try again, or go by way of the store or a file, where a blob is begun once more"
        )
        return False
    feed.start()
    return True
