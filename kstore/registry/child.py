"""Running a small program of somebody else: bounded in time and output, and never left behind."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import field
from typing import IO

from kstore.errors import AuthError
from kstore.streams import Cancel
from kstore.values import dataclass

__all__ = ["Done", "run_bounded"]

_SLICE = 0.1  # seconds: how late a cancel may be noticed


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended; its output may be a secret."""

    code: int
    out: bytes = field(repr=False)
    err: bytes = field(repr=False)


def run_bounded(
    command: Sequence[str], text: bytes, *, limit: float, cap: int, cancel: Cancel
) -> Done:
    """Run ``command`` with ``text`` as its input, in the root directory.

    After ``limit`` seconds, or ``cap`` bytes of output, it is killed with all it has started.
    Raises AuthError for that and for a program that cannot be run, CancelledError.
    """
    with _input(text) as stdin:
        try:
            process = subprocess.Popen(  # noqa: S603 - an absolute path, found by the caller
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
        except OSError as exc:
            raise AuthError(f"{command[0]} cannot be run: {exc.strerror}") from exc
    try:
        return _listen(process, command[0], time.monotonic() + limit, limit, cap, cancel)
    finally:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def _input(text: bytes) -> IO[bytes]:
    """``text`` as a file in memory: a program that reads nothing cannot make anybody wait."""
    file = os.fdopen(os.memfd_create("input"), "w+b")
    file.write(text)
    file.seek(0)
    return file


def _listen(
    process: subprocess.Popen[bytes],
    name: str,
    until: float,
    limit: float,
    cap: int,
    cancel: Cancel,
) -> Done:
    received = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as selector:
        for pipe in received:
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            cancel.check()
            if time.monotonic() >= until:
                raise AuthError(f"{name} did not finish within {limit:g} s")
            for key, _ in selector.select(_SLICE):
                data = os.read(key.fd, 64 * 1024)
                if not data:
                    selector.unregister(key.fileobj)
                into = received[key.fileobj]  # type: ignore[index]
                into += data
                if len(into) > cap:
                    raise AuthError(f"{name} wrote more than {cap} bytes")
    while process.poll() is None:
        cancel.check()
        if time.monotonic() >= until:
            raise AuthError(f"{name} did not finish within {limit:g} s")
        time.sleep(0.005)
    return Done(
        process.returncode, bytes(received[process.stdout]), bytes(received[process.stderr])
    )
