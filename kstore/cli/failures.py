"""How a run that failed ends: one sentence on standard error, and an exit code.

===  =======================================================================
  1  any other failure, also a defect of kstore itself
  2  the command line is wrong
3-10 see ``kstore.errors``
130  Ctrl-C
141  the reader of standard output went away (nothing is said)
143  SIGTERM
===  =======================================================================
"""

from __future__ import annotations

import contextlib
import errno
import sys

import click

from kstore.cli.interrupts import Interrupts
from kstore.cli.session import Session, tell
from kstore.errors import CancelledError, KstoreError, StorageError

__all__ = ["exit_code_of"]

_BROKEN_PIPE = 141
_OUTPUT_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_GLOBAL_OPTIONS = (
    *("--root", "--additional-store", "--unsafe-network-fs"),
    *("--log-level", "--offline", "--version"),
)


def exit_code_of(error: BaseException, session: Session, interrupts: Interrupts) -> int:
    """Tell the user about ``error``; return the exit code it means."""
    if interrupts.received is not None and isinstance(
        error, (KeyboardInterrupt, CancelledError, click.Abort)
    ):
        return _interrupted(session, interrupts)
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case KeyboardInterrupt() | click.Abort():
            return _interrupted(session, interrupts)
        case click.UsageError():
            return _usage(error)
        case click.ClickException():
            return _failed(error.format_message(), None, error.exit_code)
        case BrokenPipeError():
            return _BROKEN_PIPE
        case StorageError() if isinstance(error.__cause__, BrokenPipeError):
            return _BROKEN_PIPE  # an archive that was written there
        case KstoreError():
            return _failed(error.message, error.hint, error.exit_code)
    return _internal(error, session)


def _say(text: str) -> None:
    # Whether anybody still listens changes nothing about how the run ended.
    with contextlib.suppress(BrokenPipeError):
        tell(text)


def _interrupted(session: Session, interrupts: Interrupts) -> int:
    _say(f"kstore: stopped{f'; {session.on_interrupt}' if session.on_interrupt else ''}")
    return interrupts.exit_code


def _failed(message: str, hint: str | None, code: int) -> int:
    _say(f"kstore: {message}")
    if hint:
        _say(f"hint: {hint}")
    return code


def _usage(error: click.UsageError) -> int:
    context = error.ctx
    if context is not None:
        for line in context.get_usage().splitlines():
            _say(line)
    command = context.command_path if context is not None else "kstore"
    message, hint = error.format_message().rstrip("."), f"{command} --help"
    if isinstance(error, click.NoSuchOption):
        message = error.message.rstrip(".")
        if error.option_name in _GLOBAL_OPTIONS:
            hint = f"{error.option_name} goes before the command: kstore {error.option_name} ..."
        elif meant := _meant_by(error):
            message += f"; here that is {meant}"
        elif error.possibilities:
            message += f"; did you mean {' or '.join(map(repr, error.possibilities))}?"
    # click lists the choices of an argument in lines, and a sentence, of their own
    message = " ".join(message.split()).replace(". Choose from:", ", choose from")
    if not message[:2].isupper():  # an argument's name stays as it is
        message = message[:1].lower() + message[1:]
    return _failed(message, hint, error.exit_code)


def _meant_by(error: click.NoSuchOption) -> str | None:
    """What another tool's option is called here, if the command has such a thing."""
    from kstore.cli.spellings import option_meant

    if error.ctx is None:
        return None
    options = {text for parameter in error.ctx.command.params for text in parameter.opts}
    return option_meant(error.option_name, options)


def _internal(error: BaseException, session: Session) -> int:
    if session.log_level == "debug":
        import traceback

        sys.stderr.write("".join(traceback.format_exception(error)))
    # What files of the store and the user can do is translated where it happens; what is left is
    # the output itself.
    if isinstance(error, OSError) and error.errno in _OUTPUT_FAILED and error.filename is None:
        return _failed(f"standard output cannot be written: {error.strerror}", None, 1)
    words = str(error).strip() or "no details"
    return _failed(
        f"internal error, please report it: {type(error).__name__}: {words}",
        None if session.log_level == "debug" else "kstore --log-level debug ... shows where",
        1,
    )
