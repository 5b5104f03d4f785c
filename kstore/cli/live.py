"""The live board: one line for every blob that moves, and one for the whole.

The only module that imports rich, and only a terminal gets here.
"""

from __future__ import annotations

import threading
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kstore.cli.progress import (
    Display,
    finish_text,
    moving_text,
    retry_text,
    totals_text,
    waiting_text,
)
from kstore.cli.text import human_size, printable, rough_size
from kstore.cli.transfers import Board, Transfer, Words
from kstore.copier.progress import Event

__all__ = ["LiveBoard"]

#: More blobs than this, and only those that move are shown.
_CALM = 8
_REFRESHES = 8.0
_BAR = 24
_LABEL = len("config 0123456789ab")
_NARROW = 72


class LiveBoard(Display):
    """Draws the board over and over until it is closed; starts with the first event."""

    def __init__(self, words: Words) -> None:
        self._words = words
        self._board = Board()
        self._lock = threading.Lock()
        self._console = Console(stderr=True, force_terminal=True, highlight=False)
        self._live: Live | None = None
        self._closed = False

    def __call__(self, event: Event, /) -> None:
        blob = self._board.apply(event, time.monotonic())
        self._start()
        if event.kind == "note" and event.text:
            self.show(event.text)
        elif event.kind == "retry" and blob is not None:
            self.show(f"{blob.label}: {retry_text(event)}")

    def show(self, text: str) -> None:
        self._console.print(Text(printable(text)), soft_wrap=True)

    def summary(self) -> str | None:
        return self._board.summary(self._words, time.monotonic())

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._live is not None:
                self._live.stop()
                self._live = None

    def _start(self) -> None:
        if self._live is not None or self._closed:
            return
        with self._lock:
            if self._live is None and not self._closed:
                self._live = Live(
                    console=self._console,
                    get_renderable=self._render,
                    refresh_per_second=_REFRESHES,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
                self._live.start()

    def _render(self) -> RenderableType:
        now = time.monotonic()
        blobs = self._board.transfers()
        shown = blobs if len(blobs) <= _CALM else [blob for blob in blobs if blob.active]
        # The total and one line for the prompt must fit as well.
        shown = shown[: max(self._console.height - 3, 1)]
        wide = self._console.width >= _NARROW
        grid = Table.grid(padding=(0, 2))
        grid.add_column(no_wrap=True, min_width=_LABEL)
        if wide:
            grid.add_column(no_wrap=True, min_width=_BAR)
        grid.add_column(no_wrap=True, overflow="ellipsis")
        for blob in shown:
            cells: list[RenderableType] = [Text(blob.label, style="dim" if blob.how else "")]
            if wide:
                cells.append(_bar(blob))
            grid.add_row(*cells, self._state(blob, now))
        total = Text(totals_text(self._board.totals(now)), style="bold", no_wrap=True)
        return Group(grid, total) if len(blobs) > 1 else grid

    def _state(self, blob: Transfer, now: float) -> Text:
        if blob.how is not None:
            return Text(finish_text(blob, self._words), style="dim")
        if blob.waiting:
            return Text(waiting_text(blob), style="yellow")
        if blob.started is None:
            return Text(f"{human_size(blob.size)}, in line", style="dim")
        return Text(_moving(blob, now))


def _moving(blob: Transfer, now: float) -> str:
    text = moving_text(blob.done, blob.size, blob.speed(now))
    if blob.resumed_at:
        text += f", resumed at {rough_size(blob.resumed_at)}"
    return text


def _bar(blob: Transfer) -> RenderableType:
    if blob.how is not None or blob.size is None:
        return Text("")
    return ProgressBar(total=blob.size or 1, completed=blob.done, width=_BAR, complete_style="cyan")
