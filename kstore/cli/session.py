"""One run of the command line: what the global options said, and what every command needs.

Made by ``main``, reached by commands through ``pass_session``.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from kstore.cli.text import printable
from kstore.errors import CancelledError, KstoreError

if TYPE_CHECKING:
    from kstore.app import App, RegistryOptions
    from kstore.store import Store
    from kstore.streams import Cancel
    from kstore.transports import Transports

__all__ = ["LOG_LEVELS", "PROGRESS_MODES", "Session", "pass_session", "tell"]

P = ParamSpec("P")
R = TypeVar("R")

LOG_LEVELS = ("error", "warn", "info", "debug")
PROGRESS_MODES = ("auto", "tty", "plain", "json", "none")


def tell(text: str) -> None:
    """Write one line to standard error; what could steer a terminal is escaped.

    A reader that went away raises BrokenPipeError.
    """
    try:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        raise
    except OSError:
        # A log file on a full disk: nobody can be told, and the work that is told about goes on.
        return


class Session:
    """Global options, the app, and the ways to talk to the user beside standard output.

    ``on_interrupt`` is what Ctrl-C means to the running command, told to the user after it.
    """

    def __init__(self) -> None:
        self.root: Path | None = None
        self.additional_stores: tuple[Path, ...] = ()
        self.network_ok = False
        self.log_level = "warn"
        self.offline = False
        self.on_interrupt: str | None = None
        self.show: Callable[[str], None] = tell
        self._status = 0

    @functools.cached_property
    def cancel(self) -> Cancel:
        """The flag that Ctrl-C raises and all work of this run watches."""
        from kstore.streams import Cancel

        return Cancel()

    @functools.cached_property
    def app(self) -> App:
        """The composition root for the settings of this run."""
        from kstore import settings
        from kstore.app import App

        self._configure_logging()
        found = settings.load(
            os.environ,
            root=self.root,
            additional=self.additional_stores,
            network_ok=self.network_ok,
            offline=self.offline,
        )
        choose = self.choose if sys.stdin.isatty() and sys.stderr.isatty() else None
        return App(found, ask_secret=self.ask_secret, choose=choose, warn=self.warn)

    def open_store(self, command: str, *, read_only: bool = False, create: bool = True) -> Store:
        """The store of this run; see ``App.open_store``."""
        return self.app.open_store(command, read_only=read_only, create=create)

    @contextmanager
    def transports(
        self,
        command: str,
        registry: RegistryOptions | None = None,
        *,
        read_only: bool = False,
        create: bool = True,
    ) -> Iterator[Transports]:
        """The transports of a command that may not need the store: it is opened when it is named.

        ``command``, ``read_only`` and ``create`` as for :meth:`open_store`.  The file ``-`` is
        standard input (unless that is a terminal, where nobody types an archive) or output.
        """
        with ExitStack() as stack:
            made = self.app.transports(
                lambda: stack.enter_context(
                    self.open_store(command, read_only=read_only, create=create)
                ),
                registry,
                self.cancel,
                stdin=None if sys.stdin.isatty() else sys.stdin.buffer,
                stdout=sys.stdout.buffer,
            )
            yield stack.enter_context(made)

    def warn(self, text: str) -> None:
        """Show a warning, unless only errors are wanted."""
        if self.log_level != "error":
            self.show(f"kstore: warning: {text}")

    def ask_secret(self, prompt: str) -> str:
        """Ask for a password on the terminal, without echo."""
        from kstore.cli.prompts import ask_secret

        return ask_secret(prompt)

    def choose(self, short: str, names: Sequence[str]) -> str:
        """Ask on the terminal which image a short name means."""
        from kstore.cli.prompts import choose

        return choose(f"{short} may mean", names)

    def report(self, error: KstoreError, about: object = None) -> None:
        """Show an error (``about`` what, if it does not say) and go on.

        The run ends with the exit code of the first one.
        """
        if isinstance(error, CancelledError):
            raise error
        self.show(f"kstore: {error}" if about is None else f"kstore: {about}: {error}")
        if error.hint:
            self.show(f"hint: {error.hint}")
        self._status = self._status or error.exit_code

    def finish(self, status: int = 0) -> None:
        """End the command with the first reported error's exit code, or else with ``status``."""
        code = self._status or status
        if code:
            raise click.exceptions.Exit(code)

    def _configure_logging(self) -> None:
        # The logging package takes milliseconds to import; without it the standard library still
        # shows warnings, which is what the default level asks for.
        if self.log_level != "warn":
            from kstore.cli.logs import configure

            configure(self.log_level)


def pass_session(
    function: Callable[Concatenate[Session, P], R],
) -> Callable[P, R]:
    """Give a command the session as its first argument."""

    @functools.wraps(function)
    def with_session(*args: P.args, **kwargs: P.kwargs) -> R:
        session: Any = click.get_current_context().find_object(Session)
        return function(session, *args, **kwargs)

    return with_session
