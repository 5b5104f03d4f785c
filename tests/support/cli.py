"""Running the command line: in this process, as a process, and on a terminal.

::

    result = run("--root", root, "images")        # in this process, streams captured
    result.code, result.out, result.err
    result = run_process("--root", root, "images")
    screen = run_on_terminal("--root", root, "images")   # what a terminal would receive
"""

from __future__ import annotations

import io
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from kstore.cli.main import main

PROGRAM = (sys.executable, "-m", "kstore")
REPOSITORY = Path(__file__).resolve().parents[2]
_LIMIT = 30.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended and what it wrote."""

    code: int
    out: str
    err: str


def run(*args: object, stdin: bytes | None = None) -> Result:
    """Run ``kstore args`` in this process."""
    out, err = _text_stream(b""), _text_stream(b"")
    before = sys.stdin
    sys.stdin = _text_stream(stdin or b"")
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = main([str(arg) for arg in args])
    finally:
        sys.stdin.close()
        sys.stdin = before
    return Result(code, _written(out), _written(err))


def run_process(
    *args: object, env: dict[str, str] | None = None, stdin: bytes | None = None
) -> Result:
    """Run ``python -m kstore args``."""
    done = subprocess.run(
        [*PROGRAM, *map(str, args)],
        input=stdin if stdin is not None else b"",
        capture_output=True,
        env=environment(env),
        timeout=_LIMIT,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This process's environment, able to find the package."""
    path = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **(extra or {})}


def run_on_terminal(
    *args: object,
    program: tuple[str, ...] = PROGRAM,
    env: dict[str, str] | None = None,
    answers: Sequence[tuple[str, str]] = (),
) -> tuple[int, str]:
    """Run ``kstore args`` with all streams on a terminal of 100 columns; exit code and screen.

    ``answers``: prompts in the order they appear, each with what is typed then; ``program`` is what
    to run instead of kstore.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    size = {"TERM": "xterm", "COLUMNS": "100", "LINES": "40", **(env or {})}
    process = subprocess.Popen(
        [*program, *map(str, args)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(size),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        screen = _converse(ours, answers)
        return process.wait(_LIMIT), screen
    finally:
        process.kill()
        process.wait(_LIMIT)
        os.close(ours)


def _converse(terminal: int, answers: Sequence[tuple[str, str]]) -> str:
    """Everything the program shows, to its end; prompts are answered when they appear."""
    seen, waiting = bytearray(), list(answers)
    asked_from = 0
    deadline = time.monotonic() + _LIMIT
    while (left := deadline - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # how a terminal ends when its last user is gone
                break
            if not data:
                break
            seen += data
            if waiting and (found := seen.find(waiting[0][0].encode(), asked_from)) >= 0:
                asked_from = found + 1
                os.write(terminal, f"{waiting.pop(0)[1]}\n".encode())
    return seen.decode(errors="replace")


def _text_stream(data: bytes) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


def _written(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    text = buffer.getvalue().decode()
    stream.close()
    return text
