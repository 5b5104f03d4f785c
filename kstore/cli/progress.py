"""Where progress events go: a live board on a terminal, plain lines, NDJSON, or nowhere.

Everything is written to standard error; standard output carries results only.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from kstore.cli.output import is_terminal, json_line
from kstore.cli.session import Session, tell
from kstore.cli.text import human_duration, human_size, rough_size
from kstore.cli.transfers import Board, Totals, Transfer, Words
from kstore.copier.progress import Event

__all__ = ["Display", "PlainLines", "displayed", "totals_text"]

#: Seconds between two lines about bytes that flow, off a terminal.
_LINE_INTERVAL = 5.0


class Display(Protocol):
    """Shows a copy; events may come from several threads."""

    def __call__(self, event: Event, /) -> None: ...

    def show(self, text: str) -> None:
        """Show a message for a human between the progress."""
        ...

    def summary(self) -> str | None:
        """What happened, in half a sentence; None where nobody wants to know."""
        ...

    def close(self) -> None:
        """Stop showing; what was drawn over and over is wiped."""
        ...


@contextmanager
def displayed(session: Session, mode: str, words: Words, *, quiet: bool) -> Iterator[Display]:
    """The display for ``mode`` (one of PROGRESS_MODES); the session's messages go through it."""
    display = _make(_resolved(mode, quiet=quiet), words)
    before = session.show
    session.show = display.show
    try:
        yield display
    finally:
        session.show = before
        display.close()


def _resolved(mode: str, *, quiet: bool) -> str:
    if quiet:
        return "none"
    if mode == "auto":
        return "tty" if is_terminal(sys.stderr) else "plain"
    return mode


def _make(mode: str, words: Words) -> Display:
    if mode == "tty":
        from kstore.cli.live import LiveBoard

        return LiveBoard(words)
    if mode == "plain":
        return PlainLines(words)
    return JsonLines() if mode == "json" else Silence()


class Silence(Display):
    """Shows messages only."""

    def __call__(self, event: Event, /) -> None:
        pass

    def show(self, text: str) -> None:
        tell(text)

    def summary(self) -> str | None:
        return None

    def close(self) -> None:
        pass


class JsonLines(Silence):
    """One JSON object a line for every event."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        with self._lock:
            sys.stderr.write(f"{json_line(event.to_json())}\n")
            sys.stderr.flush()


class PlainLines(Silence):
    """One line for every finished blob, and one every few seconds while bytes flow."""

    def __init__(self, words: Words) -> None:
        self.board = Board()
        self._words = words
        self._lock = threading.Lock()
        self._spoke = time.monotonic()
        self._waits: set[str] = set()
        self._finished: set[str] = set()

    def __call__(self, event: Event, /) -> None:
        now = time.monotonic()
        with self._lock:
            blob = self.board.apply(event, now)
            line = self._line(event, blob, now)
            if line is not None:
                tell(line)
                self._spoke = now

    def summary(self) -> str | None:
        return self.board.summary(self._words, time.monotonic())

    def _line(self, event: Event, blob: Transfer | None, now: float) -> str | None:
        if blob is None:
            return event.text if event.kind == "note" else None
        match event.kind:
            case "start" if blob.resumed_at:
                return f"{blob.label}: resumed at {rough_size(blob.resumed_at)}"
            case "wait" if blob.label not in self._waits:
                self._waits.add(blob.label)
                return f"{blob.label}: {waiting_text(blob)}"
            case "retry":
                return f"{blob.label}: {retry_text(event)}"
            case "advance" if now - self._spoke >= _LINE_INTERVAL:
                return totals_text(self.board.totals(now))
            case "finish" if blob.label not in self._finished:  # other images may need it too
                self._finished.add(blob.label)
                return f"{blob.label}: {finish_text(blob, self._words)}"
        return None


def totals_text(totals: Totals) -> str:
    """``12.3 MB of 31.2 MB, 3.1 MB/s, 6.1 s left``."""
    return moving_text(totals.done, totals.size, totals.speed)


def moving_text(done: int, size: int | None, speed: float | None) -> str:
    """Bytes held, bytes in all, bytes a second, and the time that follows from them."""
    parts = [rough_size(done) if size is None else f"{rough_size(done)} of {rough_size(size)}"]
    if speed is not None:
        parts.append(f"{rough_size(speed)}/s")
        if speed > 0 and size is not None:
            parts.append(f"{human_duration(math.ceil((size - done) / speed))} left")
    return ", ".join(parts)


def waiting_text(blob: Transfer) -> str:
    """Who is fetching the blob meanwhile."""
    who = "another process" if blob.pid is None else f"process {blob.pid}"
    return f"waiting for {who}, which is fetching it"


def retry_text(event: Event) -> str:
    """Why a transfer was interrupted, and that it goes on."""
    why = event.text or "connection lost"
    after = "trying again" if event.done is None else f"going on at {rough_size(event.done)}"
    return f"{why}; {after}"


def finish_text(blob: Transfer, words: Words) -> str:
    """How a blob came to be there."""
    if blob.how == "mounted":
        return "linked by the registry"
    return f"{words.present if blob.how == 'present' else words.moved}, {human_size(blob.size)}"
