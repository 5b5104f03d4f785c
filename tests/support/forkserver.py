"""kstore commands as forked processes of one warm interpreter, under strace if wanted.

::

    with ForkServer() as server:
        server.run("--root", root, "images").out
        run = server.run("--root", root, "tag", "a", "b", trace=CALLS)          # run.trace: lines
        run = server.run(..., trace="fsync", inject="fsync:error=EIO:when=2")   # the second fsync
        run.code, run.err                                                       # -9: killed
        runs = server.run_many(50, "--root", root, "pull", name)                # all at once

A fork costs milliseconds where a start costs a tenth of a second, and strace counts calls from
where the command begins, so ordinals do not move with what is imported.  Blobs move one at a time
and a server is given up soon.  ``prelude`` is Python that runs in the fork before the command: it
makes a build with a defect, or one that waits somewhere.  The other half is
:mod:`tests.support.forking`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.support.programs import require_program
from tests.support.scripts import environment

__all__ = ["ForkServer", "Run"]


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended (-9: by SIGKILL), what it wrote, and the calls that were traced."""

    code: int
    out: str
    err: str
    trace: tuple[str, ...]

    @property
    def injected(self) -> bool:
        """Whether the planned fault happened."""
        return any("(INJECTED)" in line or "+++ killed" in line for line in self.trace) or any(
            line.partition("--- ")[2].startswith("SIG") and "si_code=SI_" in line
            for line in self.trace
        )


class ForkServer:
    """See the module's text."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        """``prefix`` is a command that runs the interpreter."""
        self._prefix = list(prefix)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [*self._prefix, sys.executable, "-m", "tests.support.forking"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.communicate(timeout=10)  # it ends with its input
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(
        self,
        *args: object,
        trace: str = "",
        inject: str = "",
        prelude: str = "",
        limits: Mapping[str, int] | None = None,
    ) -> Run:
        """One command; ``trace`` and ``inject`` are expressions of strace, ``limits`` are rlimits
        by their names in :mod:`resource`."""
        request = {
            "strace": require_program("strace") if trace or inject else "",
            "trace": trace,
            "inject": inject,
            "prelude": textwrap.dedent(prelude),
            "limits": dict(limits or {}),
        }
        return self._ask(args, request, 1)[0]

    def run_many(self, count: int, *args: object) -> list[Run]:
        """The same command in ``count`` processes at once."""
        request = {"strace": "", "trace": "", "inject": "", "prelude": "", "limits": {}}
        return self._ask(args, request, count)

    def _ask(self, args: Sequence[object], request: Mapping[str, Any], count: int) -> list[Run]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        line = json.dumps({"args": [str(arg) for arg in args], "count": count, **request})
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the fork server died"
        told = json.loads(answer)
        assert "failure" not in told, told["failure"]
        return [Run(r["code"], r["out"], r["err"], tuple(r["trace"])) for r in told["runs"]]
