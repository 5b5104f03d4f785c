"""What is made durable before what, as the kernel sees it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.digest import Digest
from tests.support.scripts import finished

CODE = """
    import sys
    from pathlib import Path
    from kstore.digest import Digest
    from kstore.store import Store
    with Store.open(Path(sys.argv[1])) as store, store.lease("pull") as lease:
        for name in ("one", "two"):
            data = name.encode() * 4000
            with lease.ingest(Digest.of(data), len(data)) as ingest:
                ingest.write(data)
                staged = ingest.stage(Digest.of(data), len(data))
            lease.commit_blobs([staged])
"""
CALLS = "fsync,fdatasync,fchmod,rename,renameat,renameat2,unlink,unlinkat"


@pytest.mark.peer
def test_a_blob_is_durable_before_its_name_and_its_name_before_its_row(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    trace, root = tmp_path / "trace", tmp_path / "store"
    strace = [
        require_program("strace"),
        "-f",
        "-y",
        "-qq",
        "-o",
        str(trace),
        "-e",
        f"trace={CALLS}",
    ]
    finished(CODE, str(root), prefix=strace)
    lines = trace.read_text().splitlines()
    for data in (b"one" * 4000, b"two" * 4000):
        hex_digest = Digest.of(data).hex
        steps = [
            rf"fsync\(\d+<[^>]*{hex_digest}\.part>",
            rf"fchmod\(\d+<[^>]*{hex_digest}\.part>, 0444",
            rf"rename[^ ]*\(.*{hex_digest}\.part\".*blobs/sha256/{hex_digest}\"",
            r"fsync\(\d+<[^>]*/blobs/sha256>",
            r"fdatasync\(\d+<[^>]*kstore\.db-wal>",
        ]
        position = 0
        for step in steps:
            matches = [n for n in range(position, len(lines)) if re.search(step, lines[n])]
            assert matches, f"{step} does not follow in order:\n" + "\n".join(lines)
            position = matches[0] + 1
