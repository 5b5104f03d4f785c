"""How far one long piece of work got: a line on a terminal that is drawn over and over, and off a
terminal a line every few seconds."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kstore.cli.output import is_terminal
from kstore.cli.progress import moving_text
from kstore.cli.session import Session, tell
from kstore.cli.text import printable, shorten

__all__ = ["metered"]

#: Seconds before the first line: what is done by then needs none.
_PATIENCE = 0.5
#: Seconds between two lines, on a terminal and off it.
_REDRAW, _LINE_INTERVAL = 0.12, 5.0
_WIPE = "\r\x1b[K"


@contextmanager
def metered(session: Session, doing: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how much of ``total`` bytes (None: unknown) is done; the function given is told the size
    of every piece.  Messages of the session stand between the lines meanwhile."""
    meter = _Meter(doing, total, live=is_terminal(sys.stderr))
    before = session.show

    def show(text: str) -> None:
        meter.wipe()
        before(text)

    session.show = show
    try:
        yield meter.advance
    finally:
        session.show = before
        meter.wipe()


class _Meter:
    def __init__(self, doing: str, total: int | None, *, live: bool) -> None:
        self._doing = doing
        self._total = total
        self._live = live
        self._done = 0
        self._begun = time.monotonic()
        self._next = self._begun + (_PATIENCE if live else _LINE_INTERVAL)
        self._drawn = False

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (_REDRAW if self._live else _LINE_INTERVAL)
        if self._live:
            self._draw(self._amounts(now))
        else:
            tell(f"{self._doing}: {self._amounts(now)}")

    def _amounts(self, now: float) -> str:
        # What grew meanwhile (a file, a store) has no end that could be foretold.
        total = None if self._total is None or self._done > self._total else self._total
        speed = self._done / max(now - self._begun, 0.001)
        return moving_text(self._done, total, speed)

    def _draw(self, amounts: str) -> None:
        # A line that is wrapped could not be wiped.
        room = shutil.get_terminal_size().columns - 1
        doing = shorten(printable(self._doing), max(room - len(amounts) - 2, 0))
        sys.stderr.write(f"{_WIPE}{doing}: {amounts}"[: room + len(_WIPE)])
        sys.stderr.flush()
        self._drawn = True

    def wipe(self) -> None:
        if self._drawn:
            sys.stderr.write(_WIPE)
            sys.stderr.flush()
            self._drawn = False
