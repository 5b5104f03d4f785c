"""The process behind :class:`tests.support.forkserver.ForkServer`: requests in, answers out, JSON.

It has everything imported that a command may need, and runs each command in a fork of itself.
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import subprocess
import sys
import tempfile
from typing import Any

import kstore
from kstore.app import App
from kstore.cli.main import main
from kstore.copier import CopyOptions

_LIMIT = 60.0  # seconds for one request
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)  # prctl(2)
_LIBC = ctypes.CDLL(None)
_THIRD_PARTIES = (
    *("isal.igzip", "isal.isal_zlib", "zstandard", "rich.progress", "sqlite_utils", "urllib3"),
    *("concurrent.futures.thread", "pwd", "queue", "shutil", "http.client", "email.parser"),
    *("difflib", "stringprep", "encodings.idna"),
)


def _import_everything() -> None:
    for module in pkgutil.walk_packages(kstore.__path__, "kstore."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for name in _THIRD_PARTIES:
        importlib.import_module(name)


def _make_hasty() -> None:
    """One blob at a time, over one connection, to a server that is given up soon."""
    settings, options = App.registry_settings, CopyOptions.__init__

    def hasty(self: App, said: Any) -> Any:
        return dataclasses.replace(
            settings(self, said),
            response_timeout=10.0,
            idle_timeout=5.0,
            attempts=2,
            backoff_base=0.01,
            backoff_cap=0.05,
            connections=1,
        )

    def one_at_a_time(self: CopyOptions, *args: Any, **kwargs: Any) -> None:
        options(self, *args, **kwargs)
        object.__setattr__(self, "parallel", 1)

    App.registry_settings = hasty  # type: ignore[method-assign]
    CopyOptions.__init__ = one_at_a_time  # type: ignore[method-assign]


class _Fork:
    """One command: its process, the gate it waits at, its tracer, what it wrote."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.out, self.err = os.memfd_create("out"), os.memfd_create("err")
        self.trace = tempfile.NamedTemporaryFile()  # noqa: SIM115
        self.strace: subprocess.Popen[bytes] | None = None
        gate, self.opener = os.pipe()
        ready, at_gate = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.opener)
                os.close(ready)
                self._run(request, gate, at_gate)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(98)
        os.close(gate)
        os.close(at_gate)
        os.read(ready, 1)  # calls are counted from the gate on
        os.close(ready)
        self.ended = os.pidfd_open(self.pid)

    def _run(self, request: dict[str, Any], gate: int, at_gate: int) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _LIBC.prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
        null = os.open(os.devnull, os.O_RDONLY)
        for ours, theirs in ((null, 0), (self.out, 1), (self.err, 2)):
            os.dup2(ours, theirs)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        exec(request["prelude"], {})
        for name, limit in request["limits"].items():
            kind = getattr(resource, name)
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
        os.close(at_gate)
        select.select([gate], [], [])  # not a call that anybody counts
        os.close(gate)
        code = main(request["args"])
        sys.stderr.flush()
        os._exit(code)

    def open(self, request: dict[str, Any]) -> None:
        """Let the command begin, under its tracer if it is to have one."""
        if request["strace"]:
            calls = ",".join(filter(None, (request["trace"], request["inject"].partition(":")[0])))
            options = ["-f", "-y", "-s", "64", "-o", self.trace.name, "-e", f"trace={calls}"]
            if request["inject"]:
                options += ["-e", f"inject={request['inject']}"]
            self.strace = subprocess.Popen(
                [request["strace"], *options, "-p", str(self.pid)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            assert self.strace.stderr is not None
            said = self.strace.stderr.readline()
            if b"attached" not in said:
                os.kill(self.pid, signal.SIGKILL)
                raise RuntimeError(f"strace: {said!r} {self.strace.stderr.read()!r}")
        os.close(self.opener)

    def finish(self, late: bool) -> dict[str, Any]:
        """How it ended; one that is ``late`` is killed."""
        if late:
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        if self.strace is not None:
            self.strace.communicate()
        with open(self.trace.name, errors="replace") as file:  # noqa: PTH123
            trace = file.read().splitlines()
        answer = {
            "code": os.waitstatus_to_exitcode(status),
            "out": _contents(self.out),
            "err": _contents(self.err),
            "trace": trace,
        }
        for descriptor in (self.out, self.err, self.ended):
            os.close(descriptor)
        self.trace.close()
        return answer


def _contents(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")


def _served(request: dict[str, Any]) -> list[dict[str, Any]]:
    forks = [_Fork(request) for _ in range(request["count"])]
    for fork in forks:
        fork.open(request)
    waiting, late = {fork.ended for fork in forks}, False
    while waiting and not late:
        ready, _, _ = select.select(list(waiting), [], [], _LIMIT)
        waiting -= set(ready)
        late = not ready
    runs = [fork.finish(late) for fork in forks]
    if late:
        raise RuntimeError(f"still running after {_LIMIT} s: {request['args']} {runs[0]['err']}")
    return runs


def serve() -> None:
    """Answer requests until there are no more."""
    _import_everything()
    _make_hasty()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's is the test runner's business
    gc.freeze()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answer: dict[str, Any]
        try:
            answer = {"runs": _served(json.loads(line))}
        except Exception as failure:
            answer = {"failure": repr(failure)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
