"""Log records on standard error, for ``--log-level``."""

from __future__ import annotations

import logging

from kstore.cli.text import printable

__all__ = ["configure"]

_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


class _OneLine(logging.Formatter):
    """A record on one line, harmless on a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def configure(level: str) -> None:
    """Show records of ``level`` and above; other packages' records only from warnings up.

    Their lower levels may speak of request headers, and credentials do not belong in a log.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("kstore: %(levelname)s %(name)s: %(message)s"))
    top = logging.getLogger()
    top.handlers[:] = [handler]
    top.setLevel(max(_LEVELS[level], logging.WARNING))
    logging.getLogger("kstore").setLevel(_LEVELS[level])
