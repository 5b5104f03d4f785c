"""What the progress events of a copy add up to: the state of every blob, and the totals."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import field

from kstore.cli.text import human_duration, human_size, plural
from kstore.copier.progress import Event, How
from kstore.digest import Digest
from kstore.values import dataclass

__all__ = [
    "COPYING",
    "LOADING",
    "PULLING",
    "PUSHING",
    "SAVING",
    "Board",
    "Totals",
    "Transfer",
    "Words",
]

#: Seconds of the past that the shown speed is the average of.
_WINDOW = 5.0


@dataclass(frozen=True, slots=True)
class Words:
    """How this copy speaks of its blobs."""

    moved: str
    present: str


PULLING = Words("fetched", "already here")
PUSHING = Words("sent", "already there")
COPYING = Words("copied", "already there")
LOADING = Words("loaded", "already here")
SAVING = Words("saved", "already in it")


@dataclass(slots=True)
class Transfer:
    """One blob; sizes in bytes, times in seconds of a monotonic clock.

    ``resumed_at`` is where a partial download went on; ``waiting`` is true while another process
    (``pid``, where it is known) fetches the same blob.
    """

    digest: Digest
    kind: str
    size: int | None
    done: int = 0
    resumed_at: int = 0
    started: float | None = None
    how: How | None = None
    waiting: bool = False
    pid: int | None = None
    samples: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def label(self) -> str:
        """``layer 3f4a90bd1c22``."""
        return f"{self.kind} {self.digest.short}"

    @property
    def active(self) -> bool:
        """Whether it moves, or waits for another process, right now."""
        return self.how is None and (self.started is not None or self.waiting)

    def speed(self, now: float) -> float | None:
        """Bytes a second over the last few seconds; None while that means nothing."""
        if len(self.samples) < 2 or now - self.samples[0][0] < 0.5:
            return None
        since, held = self.samples[0]
        return (self.done - held) / (now - since)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a board; ``moved`` counts the bytes that flowed, ``done`` also those held before
    or found; ``speed`` in bytes a second, None where it means nothing."""

    layers: int
    present: int
    size: int
    done: int
    moved: int
    speed: float | None


class Board:
    """Collects events; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._transfers: dict[Digest, Transfer] = {}
        self._moved = 0
        self._first: float | None = None

    def apply(self, event: Event, now: float) -> Transfer | None:
        """Take an event in; return the blob it is about."""
        with self._lock:
            if self._first is None:
                self._first = now
            if event.digest is None or event.kind in ("manifest", "note"):
                return None
            blob = self._transfers.setdefault(
                event.digest, Transfer(event.digest, event.blob or "layer", event.size)
            )
            if blob.how is None:
                self._change(blob, event, now)
            return blob

    def _change(self, blob: Transfer, event: Event, now: float) -> None:
        match event.kind:
            case "wait":
                blob.waiting, blob.pid = True, event.pid
            case "start":
                blob.waiting, blob.started = False, now
                blob.done = blob.resumed_at = event.done or 0
                blob.samples.clear()
                blob.samples.append((now, blob.done))
            case "advance" | "retry" if blob.started is not None and event.done is not None:
                self._moved += max(event.done - blob.done, 0)
                blob.done = event.done
                blob.samples.append((now, blob.done))
                while len(blob.samples) > 2 and now - blob.samples[0][0] > _WINDOW:
                    blob.samples.popleft()
            case "finish":
                blob.how, blob.waiting = event.how or "copied", False
                if blob.how == "copied" and blob.size is not None:
                    self._moved += max(blob.size - blob.done, 0)
                blob.done = blob.size or blob.done

    def transfers(self) -> list[Transfer]:
        """The blobs in the order they were planned."""
        with self._lock:
            return list(self._transfers.values())

    def totals(self, now: float) -> Totals:
        """The sums at ``now``."""
        with self._lock:
            blobs = list(self._transfers.values())
            size = sum(blob.size or 0 for blob in blobs)
            done = sum(blob.done for blob in blobs)
            speeds = [s for blob in blobs if blob.active and (s := blob.speed(now)) is not None]
            speed = sum(speeds) if speeds else None
            layers = [blob for blob in blobs if blob.kind == "layer"]
            return Totals(
                layers=len(layers),
                present=sum(blob.how in ("present", "mounted") for blob in layers),
                size=size,
                done=done,
                moved=self._moved,
                speed=speed,
            )

    def summary(self, words: Words, now: float) -> str:
        """The whole copy in half a sentence: ``3 layers, 31.2 MB fetched in 4.1 s``."""
        totals = self.totals(now)
        parts = [plural(totals.layers, "layer")]
        if totals.moved:
            took = human_duration(now - (now if self._first is None else self._first))
            parts.append(f"{human_size(totals.moved)} {words.moved} in {took}")
        if totals.present:
            count = "all" if totals.present == totals.layers else str(totals.present)
            parts.append(f"{count} {words.present}")
        return ", ".join(parts)
