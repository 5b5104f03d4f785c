"""Coverage-guided fuzzing of one target, in a process of its own.

::

    python -m tests.faults.fuzzing tar 100000 [SEED]     # executions
    fuzzed("tar", 100000).finding                        # the same, from a program

Ends with status 0 and the number of executions on standard output, or with the finding and what
led to it, in base64, on standard error.
"""

from __future__ import annotations

import base64
import importlib
import re
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.scripts import environment

__all__ = ["Fuzzed", "fuzz", "fuzzed"]

_MEMORY = 1 << 31  # bytes; sanitizers are not used, so the address space can be limited
_MODULES = (
    *("kstore.strictjson", "kstore.reference", "kstore.digest", "kstore.descriptor"),
    *("kstore.manifest.raw", "kstore.manifest.documents", "kstore.manifest.imageconfig"),
    *("kstore.manifest.schema1", "kstore.manifest.jws", "kstore.platforms", "kstore.compression"),
    *("kstore.formats.tar_headers", "kstore.formats.tar_pax", "kstore.formats.tar_input"),
    *("kstore.formats.tar_reader", "kstore.formats.oci_layout", "kstore.formats.archive"),
    *("kstore.formats.docker_tar", "kstore.formats.docker_image", "kstore.formats.docker_legacy"),
    *("kstore.registry.challenge", "kstore.registry.credentials", "kstore.registry.authfiles"),
    *("kstore.registry.authdocument", "kstore.registry.hosts", "kstore.registry.plaintoml"),
    *("kstore.registry.registriesfiles", "kstore.registry.registriesconf"),
    *("kstore.signing.policyfile", "kstore.signing.requirements", "kstore.signing.identities"),
    *("kstore.cli.template_tokens", "kstore.cli.template_syntax"),
    *("kstore.cli.templates", "kstore.cli.template_functions"),
)


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """How often a target ran, how many inputs led to code that none before had reached, and what
    was found, "" for nothing."""

    executions: int
    discoveries: int
    finding: str


def fuzzed(name: str, executions: int) -> Fuzzed:
    """Fuzz one target in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, name, str(executions)],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    counts = dict(re.findall(r"stat::(\w+): +(\d+)", done.stderr))
    if done.returncode or not counts:
        return Fuzzed(0, 0, done.stderr[-3000:] or f"{name} ended with {done.returncode}")
    return Fuzzed(int(counts["number_of_executed_units"]), int(counts["new_units_added"]), "")


def fuzz(name: str, executions: int, seed: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=[*_MODULES], enable_loader_override=False):
        for module in _MODULES:
            importlib.import_module(module)
        from tests.faults.fuzztargets import TARGETS
    target = TARGETS[name]
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))

    def once(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            sys.stderr.write(f"{name}: {base64.b64encode(data).decode()}\n")
            raise

    with tempfile.TemporaryDirectory() as directory:
        for number, data in enumerate(target.seeds):
            Path(directory, f"seed-{number}").write_bytes(data)
        options = [f"-runs={executions}", f"-seed={seed}", "-max_len=4096", "-timeout=20"]
        quiet = ["-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={directory}/"]
        atheris.Setup([sys.argv[0], *options, *quiet, directory], once)
        atheris.Fuzz()


if __name__ == "__main__":
    fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
