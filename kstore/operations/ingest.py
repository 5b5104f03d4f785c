"""Partial downloads: what is there, and forgetting some of it."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.errors import (
    AmbiguousNameError,
    BlobNotFoundError,
    InUseError,
    InvalidInputError,
    KstoreError,
)
from kstore.store import PartialDownload, Store
from kstore.values import dataclass

__all__ = ["Dropped", "drop_partials", "list_partials"]

_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was dropped, what could not be, and how many downloads were left because they run."""

    partials: tuple[PartialDownload, ...]
    errors: tuple[KstoreError, ...]
    busy: int = 0


def list_partials(store: Store) -> list[PartialDownload]:
    """Downloads that were begun and not finished, the one that grew last first.

    Raises StorageError.
    """
    return sorted(store.partial_downloads(), key=lambda partial: partial.age_seconds)


def drop_partials(store: Store, texts: Sequence[str], *, everything: bool = False) -> Dropped:
    """Forget the partial downloads of the digests ``texts``, or of all blobs.

    A text is a digest, or as much of one (with or without its algorithm) as only one partial
    download begins with.  A failure does not stop the rest; it is reported in ``errors``: an
    InUseError while somebody is writing the download.  ``everything`` leaves those alone.
    """
    if everything == bool(texts):
        raise InvalidInputError(
            "--all takes no digests" if texts else "say which partial download to drop, or --all"
        )
    if everything:
        return _drop_all(store)
    dropped: list[PartialDownload] = []
    errors: list[KstoreError] = []
    for text in texts:
        try:
            partial = _the_one(store.partial_downloads(), text)
            store.drop_partial(partial.digest)
            dropped.append(partial)
        except KstoreError as error:
            errors.append(error)
    return Dropped(tuple(dropped), tuple(errors))


def _drop_all(store: Store) -> Dropped:
    dropped: list[PartialDownload] = []
    busy = 0
    for partial in list_partials(store):
        try:
            store.drop_partial(partial.digest)
            dropped.append(partial)
        except InUseError:
            busy += 1
        except BlobNotFoundError:
            continue  # finished or dropped by somebody else since it was listed
    return Dropped(tuple(dropped), (), busy)


def _the_one(partials: Sequence[PartialDownload], text: str) -> PartialDownload:
    digits = text.rpartition(":")[2]
    if not digits or not _HEX.issuperset(digits):
        raise InvalidInputError(f"{text[:200]!r} is not the beginning of a digest")
    found = [p for p in partials if str(p.digest).startswith(text) or p.digest.hex.startswith(text)]
    if not found:
        raise BlobNotFoundError(
            f"no partial download begins with {text[:200]}", hint="kstore ingest ls"
        )
    if len(found) > 1:
        which = ", ".join(partial.digest.short for partial in found)
        raise AmbiguousNameError(f"{len(found)} partial downloads begin with {text}: {which}")
    return found[0]
