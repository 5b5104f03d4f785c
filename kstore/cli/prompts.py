"""Questions to the user, on the terminal and never on standard output."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Sequence

from kstore.errors import AuthError, InvalidInputError

__all__ = ["MAX_SECRET", "ask", "ask_secret", "choose", "read_secret"]

#: Bytes of the longest password read from standard input (tokens of cloud registries are long).
MAX_SECRET = 64 * 1024


def ask(prompt: str, default: str | None = None) -> str:
    """Ask for a line; an empty answer means ``default``.

    Raises AuthError where there is no terminal to ask on.
    """
    _require_terminal(prompt)
    shown = f"{prompt} ({default}): " if default else f"{prompt}: "
    sys.stderr.write(shown)
    sys.stderr.flush()
    return sys.stdin.readline(MAX_SECRET).strip() or default or ""


def ask_secret(prompt: str) -> str:
    """Ask for a password without echo; AuthError where there is no terminal."""
    _require_terminal(prompt)
    try:
        return getpass.getpass(prompt, stream=sys.stderr)
    except EOFError:
        raise AuthError("no password was given") from None


def choose(question: str, answers: Sequence[str]) -> str:
    """Ask for one of ``answers``, by its number; an empty answer means the first.

    Raises InvalidInputError for what is none of them, AuthError where there is no terminal.
    """
    _require_terminal(question)
    lines = [f"{question}:", *(f"  {number}  {text}" for number, text in enumerate(answers, 1))]
    sys.stderr.write("\n".join(lines) + "\n")
    said = ask("Which one", "1")
    if not (said.isascii() and said.isdigit() and 1 <= int(said[:6]) <= len(answers)):
        raise InvalidInputError(f"{said[:100]!r} is not a number from 1 to {len(answers)}")
    return answers[int(said) - 1]


def read_secret() -> str:
    """The password on standard input, without its final line break.

    Raises InvalidInputError if there is none or it is longer than MAX_SECRET bytes.
    """
    data = sys.stdin.buffer.read(MAX_SECRET + 1)
    if len(data) > MAX_SECRET:
        raise InvalidInputError(f"the password on standard input exceeds {MAX_SECRET} bytes")
    try:
        secret = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise InvalidInputError("the password on standard input is not UTF-8") from None
    if not secret:
        raise InvalidInputError("there is no password on standard input")
    return secret


def _require_terminal(question: str) -> None:
    if sys.stdin.isatty():
        return
    asked = question.strip(": ")
    if asked.startswith("Passphrase"):
        hint = "an option names a file with it: --sign-passphrase-file or --passphrase-file"
    else:
        hint = "kstore login takes --username and --password-stdin, other commands --creds"
    what = asked[:1].lower() + asked[1:]
    raise AuthError(f"cannot ask for the {what}: standard input is not a terminal", hint=hint)
