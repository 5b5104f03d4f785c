"""Copy many images, and only those that are not there as they are."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from kstore.copier import CopyOptions
from kstore.copier.progress import ProgressSink, ignore
from kstore.digest import Digest
from kstore.errors import (
    CancelledError,
    ConflictError,
    ImageNotFoundError,
    KstoreError,
)
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.manifest.attached import is_referrers_tag
from kstore.operations.attached import Place
from kstore.operations.copy import copy, parse_end
from kstore.operations.referrer_places import open_place, shared_place
from kstore.operations.sync_changes import ask, held_digest, lacks_anything, wanted_digest
from kstore.operations.sync_places import SyncItem, destination_text, find_images, make_parents
from kstore.operations.tag_filters import TagFilter
from kstore.signing.policy import ACCEPT_ANYTHING
from kstore.streams import Cancel
from kstore.transports import Transports
from kstore.values import dataclass

__all__ = ["OpenTransports", "SyncOptions", "Synced", "sync_images"]

#: Opens the transports of the source and of the destination for one thread.
OpenTransports = Callable[[], AbstractContextManager[tuple[Transports, Transports]]]

Status = Literal["copied", "unchanged", "pending", "failed"]

#: Seconds between two looks at whether the user asked to stop.
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """``tags``: which are wanted; ``copying``: how each image is copied; ``scoped``: full names
    below the destination; ``suffix``: added to tags there; ``parallel``: images at once;
    ``dry_run``: only say what would be done; ``keep_going``: after a failure, go on with the rest;
    ``retries``: of each image, when the network fails; ``with_referrers``: also what is attached to
    the images, whose digests must not change then; ``policy``: which images are trusted."""

    tags: TagFilter = field(default_factory=TagFilter)
    copying: CopyOptions = field(default_factory=CopyOptions)
    scoped: bool = False
    suffix: str = ""
    parallel: int = 2
    dry_run: bool = False
    keep_going: bool = False
    retries: int = 0
    with_referrers: bool = False
    policy: TrustPolicy = ACCEPT_ANYTHING


@dataclass(frozen=True, slots=True)
class Synced:
    """What became of one image; ``digest`` is that of the manifest at the destination, None where
    ``error`` tells why there is none.  ``pending`` is what a dry run would copy.  It is ``copied``
    as well if only a signature of it, or what is attached to it, was not there."""

    source: str
    destination: str
    status: Status
    digest: Digest | None
    error: KstoreError | None = None

    def to_json(self) -> dict[str, Any]:
        """The result with the keys of ``--format``."""
        return {
            "Source": self.source,
            "Destination": self.destination,
            "Digest": None if self.digest is None else str(self.digest),
            "Status": self.status,
            "Error": None if self.error is None else self.error.message,
        }


def sync_images(
    open_transports: OpenTransports,
    source: str,
    destination: str,
    options: SyncOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> Iterator[Synced]:
    """Bring the images at ``source`` to ``destination``; each result in the order of the source.

    ``sync_places`` tells which images these are, and what they are called there.  One whose
    manifest is there already is not copied; the policy is asked about it all the same, and where it
    looks at signatures, or with referrers, signatures that the destination lacks are brought.  A
    failure is a result; it is the last one, but for images that were on their way, unless
    ``options.keep_going``.

    Raises what ``find_images`` and ``destination_text`` raise, ImageNotFoundError if no tag is
    wanted, ConflictError if two images would get one name, and UnsupportedError if what is attached
    to images cannot go from or to such a place.
    """
    options = options or SyncOptions()
    with open_transports() as (here, there):
        pairs = _pairs(here, there, source, destination, options)
    yield from _Team(open_transports, options, progress, Cancel(cancel)).carry_out(pairs)


_Pair = tuple[str, str]


def _pairs(
    here: Transports, there: Transports, source: str, destination: str, options: SyncOptions
) -> Sequence[_Pair]:
    items = [item for item in find_images(here, source) if _is_wanted(item, options)]
    if not items:
        raise ImageNotFoundError(f"no image at {source[:200]} has a tag that is wanted")
    claimed: dict[str, str] = {}
    pairs = []
    for item in items:
        text = destination_text(item, destination, scoped=options.scoped, suffix=options.suffix)
        parse_end(there, text)  # what cannot be a name there shows before anything moves
        if text in claimed:
            raise ConflictError(
                f"{claimed[text]} and {item.source} would both become {text}",
                hint="--scoped keeps their full names",
            )
        claimed[text] = item.source
        pairs.append((item.source, text))
    if options.with_referrers:
        for transports, text in zip((here, there), pairs[0], strict=True):
            with open_place(parse_end(transports, text)):
                pass  # what cannot have attachments is refused before anything moves
    return pairs


def _is_wanted(item: SyncItem, options: SyncOptions) -> bool:
    if item.attached and options.with_referrers:
        return False  # it comes with what it is attached to
    if item.tag is not None and is_referrers_tag(item.tag) and options.copying.instances != "all":
        return False  # an index of no images, of which none can be chosen
    tags = options.tags
    return tags.wants_all if item.tag is None else tags.wants(item.tag)


class _Team:
    """Threads that copy images, each with transports (and a connection to the store) of its own."""

    def __init__(
        self,
        open_transports: OpenTransports,
        options: SyncOptions,
        progress: ProgressSink,
        cancel: Cancel,
    ) -> None:
        self._open = open_transports
        self._options = options
        self._progress = progress
        self._cancel = cancel
        self._todo: queue.SimpleQueue[tuple[int, _Pair]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Synced] | BaseException | None]
        self._done = queue.SimpleQueue()
        self._enough = threading.Event()
        self._made: list[Path] = []

    def carry_out(self, pairs: Sequence[_Pair]) -> Iterator[Synced]:
        for numbered in enumerate(pairs):
            self._todo.put(numbered)
        count = max(1, min(self._options.parallel, len(pairs)))
        threads = [
            threading.Thread(target=self._work, name=f"image-{n}", daemon=True)
            for n in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._results(count)
        except BaseException:
            self._cancel.cancel()
            raise
        finally:
            self._enough.set()
            for thread in threads:
                thread.join()
            self._remove_unused()

    def _remove_unused(self) -> None:
        """Take away directories that were made and got no image.

        Not sooner: while others work, one that is empty may be about to get one.
        """
        for path in sorted(self._made, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # it is in use, or gone already
                path.rmdir()

    def _results(self, working: int) -> Iterator[Synced]:
        """Results in order, each as soon as those before it are there."""
        early: dict[int, Synced] = {}
        following = 0
        while working:
            try:
                result = self._done.get(timeout=_POLL)  # finite: open to signals
            except queue.Empty:
                continue
            if result is None:
                working -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                early[result[0]] = result[1]
            while following in early:
                yield early.pop(following)
                following += 1
        for number in sorted(early):
            yield early[number]

    def _work(self) -> None:
        try:
            with self._open() as (here, there):
                attached: Place | None = None
                while not self._enough.is_set() and not self._todo.empty():
                    number, pair = self._todo.get_nowait()
                    if attached is None and self._options.with_referrers:
                        attached = shared_place(parse_end(here, pair[0]))  # all are in one layout
                    result = self._sync(here, there, pair, attached)
                    if result.error is not None and not self._options.keep_going:
                        self._enough.set()
                    self._done.put((number, result))
        except queue.Empty:
            pass  # somebody else took the last one
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits for it
            self._done.put(error)
        finally:
            self._done.put(None)

    def _sync(
        self, here: Transports, there: Transports, pair: _Pair, attached: Place | None
    ) -> Synced:
        try:
            return self._bring(pair, parse_end(here, pair[0]), parse_end(there, pair[1]), attached)
        except CancelledError:
            raise
        except KstoreError as error:
            return Synced(*pair, "failed", None, error)

    def _bring(
        self,
        names: _Pair,
        source: ImageReference,
        destination: ImageReference,
        attached: Place | None,
    ) -> Synced:
        self._cancel.check()
        options, copying = self._options, self._options.copying
        wanted = wanted_digest(source, copying)
        held = held_digest(destination, whole=copying.instances == "all")
        there = held == wanted
        if there and not lacks_anything(
            source,
            destination,
            copying,
            options.policy,
            with_referrers=options.with_referrers,
            attached=attached,
        ):
            return Synced(*names, "unchanged", wanted)
        if options.dry_run:
            if not there:
                ask(source, options.policy, copying)
            return Synced(*names, "pending", wanted)
        self._made.extend(make_parents(destination))
        result = copy(
            source,
            destination,
            copying,
            policy=options.policy,
            retries=options.retries,
            with_referrers=options.with_referrers,
            attached=attached,
            progress=self._progress,
            cancel=self._cancel,
        )
        # What had to be converted is the same as last time, although not what the source has.
        same = result.raw.digest == held and not there
        status: Status = "unchanged" if same else "copied"
        return Synced(*names, status, result.raw.digest)
