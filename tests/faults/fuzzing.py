"""Coverage-guided fuzzing of one target, in a process of its own.

::

    python -m tests.faults.fuzzing tar 100000 [SEED]     # executions

Ends with status 0 and the number of executions on standard output, or with the finding and what
led to it, in base64, on standard error.
"""

from __future__ import annotations

import base64
import importlib
import resource
import sys
import tempfile
from pathlib import Path

_MEMORY = 1 << 31  # bytes; sanitizers are not used, so the address space can be limited
_MODULES = (
    *("kstore.strictjson", "kstore.reference", "kstore.digest", "kstore.descriptor"),
    *("kstore.manifest.raw", "kstore.manifest.documents", "kstore.manifest.imageconfig"),
    *("kstore.formats.tar_headers", "kstore.formats.tar_pax", "kstore.formats.tar_input"),
    *("kstore.formats.tar_reader", "kstore.formats.oci_layout", "kstore.formats.archive"),
    *("kstore.formats.docker_tar", "kstore.compression", "kstore.registry.challenge"),
    *("kstore.registry.credentials", "kstore.cli.template_tokens", "kstore.cli.template_syntax"),
    *("kstore.cli.templates", "kstore.cli.template_functions", "kstore.platforms"),
)


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
