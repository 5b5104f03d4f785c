"""Pulls as processes of their own, that can be stopped in the middle.

::

    with pulling(root, name) as running:          # killed at the end, whatever happens
        wait_until(lambda: held(root, layer) > 1_000_000)
        running.send(signal.SIGINT)
        result = running.ended()                  # code, out, err
    result = pull(root, name)                     # from its start to its end

Such a process gives servers and other processes less time than kstore does, and fetches each blob
over one connection: see ``_PROGRAM``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from kstore.digest import Digest
from kstore.store.partials import Part
from tests.support.cli import Result, environment

__all__ = ["STALL_SECONDS", "Pull", "dying_at", "held", "pull", "pulling", "wait_until"]

#: Seconds after which these processes take another one that fetches the same blob for stuck.
STALL_SECONDS = 1.0
_LIMIT = 30.0

_PROGRAM = f"""
import dataclasses, os, sys
from kstore import app
from kstore.store import lanes

lanes.STALL_SECONDS = {STALL_SECONDS}
as_usual = app.App.registry_settings

def hasty(self, options):
    return dataclasses.replace(
        as_usual(self, options),
        response_timeout=3.0, idle_timeout=1.0, attempts=3, backoff_base=0.05, backoff_cap=0.5,
        connections=1,
    )

app.App.registry_settings = hasty
exec(os.environ["KSTORE_TEST_PRELUDE"])

from kstore.cli.main import main
sys.exit(main())
"""

_DYING = """
import os, signal
from kstore.store.ingest import Ingest
write = Ingest.write

def write_and_die(self, view):
    write(self, view)
    if self.offset >= {size}:
        os.kill(os.getpid(), signal.SIGKILL)

Ingest.write = write_and_die
"""


def dying_at(size: int) -> str:
    """Python that lets a process kill itself as soon as a download has so many bytes."""
    return _DYING.format(size=size)


class Pull:
    """A running ``kstore pull``."""

    def __init__(self, process: subprocess.Popen[bytes], messages: IO[bytes]) -> None:
        self.process = process
        self._messages = messages

    @property
    def pid(self) -> int:
        return self.process.pid

    def told(self) -> str:
        """What it has written to standard error so far."""
        size = os.fstat(self._messages.fileno()).st_size
        return os.pread(self._messages.fileno(), size, 0).decode()

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def ended(self) -> Result:
        """How it ends, and what it wrote."""
        out, _ = self.process.communicate(timeout=_LIMIT)
        return Result(self.process.returncode, out.decode(), self.told())


@contextlib.contextmanager
def pulling(
    root: Path, *args: object, progress: str = "plain", die_at: int | None = None
) -> Iterator[Pull]:
    """A running ``kstore pull``; with ``die_at`` it kills itself once a blob has so many bytes."""
    command = [sys.executable, "-c", _PROGRAM, "--root", str(root), "pull", "--tls-verify=false"]
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(
            [*command, "--progress", progress, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=messages,
            env=environment({"KSTORE_TEST_PRELUDE": "" if die_at is None else dying_at(die_at)}),
            # The test runner may itself have been started with the signal ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process,
    ):
        try:
            yield Pull(process, messages)
        finally:
            process.kill()  # also ends one that is stopped


def pull(root: Path, *args: object, progress: str = "plain", die_at: int | None = None) -> Result:
    """A pull from its start to its end."""
    with pulling(root, *args, progress=progress, die_at=die_at) as running:
        return running.ended()


def held(root: Path, digest: Digest) -> int:
    """Bytes in the partial download of a blob."""
    return Part.of(root / "ingest", digest).size() or 0


def wait_until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for something that another process does; fails the test when it never happens."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
