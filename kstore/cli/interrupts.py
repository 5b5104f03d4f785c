"""Ctrl-C and SIGTERM.

The first signal raises the cancel flag, so that every worker stops at its next chunk, and
KeyboardInterrupt in the main thread; a second one ends the process at once.  Both are safe, because
the store survives a stop at any point.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["Interrupts"]

_SHOW_CURSOR = b"\x1b[?25h\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Watches for the signals while :meth:`installed`; ``received`` is the first one."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self.received: signal.Signals | None = None
        self._cancel = cancel

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.received or signal.SIGINT)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals inside the block; does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number in _SIGNALS:
            # A program that was started with a signal ignored (nohup, "&" in scripts) keeps that.
            if before[number] != signal.SIG_IGN:
                signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            if sys.stderr.isatty():
                os.write(2, _SHOW_CURSOR)
            os._exit(128 + number)
        self.received = signal.Signals(number)
        self._cancel()
        raise KeyboardInterrupt
