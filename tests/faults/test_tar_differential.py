"""What GNU tar lists and what kstore reads are the same, where both accept an archive."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.errors import KstoreError
from kstore.formats.tar_reader import TarReader
from kstore.streams import BytesStream
from tests.support.scripts import environment

_KINDS = {
    "file": "-",
    "dir": "d",
    "fifo": "p",
    "symlink": "l",
    "hardlink": "h",
    "char": "c",
    "block": "b",
}
#: Kind, size and name.
Listed = tuple[str, int, bytes]
_LINE = re.compile(rb"(.)\S+ +\S+ +(\d+|\d+,\d+) +\S+ \S+ (.*)")


def made(tar: str, directory: Path, form: str) -> bytes:
    """An archive of GNU tar's own, with most kinds of entries."""
    tree = directory / "tree"
    if not tree.exists():
        (tree / "d" / ("n" * 90)).mkdir(parents=True)
        (tree / "d" / "f").write_bytes(b"hello")
        (tree / "d" / ("n" * 90) / "g").write_bytes(b"x" * 1000)
        (tree / "s").symlink_to("d/f")
        (tree / "h").hardlink_to(tree / "d" / "f")
        (tree / "ä").write_bytes(b"")
    command = [tar, "-C", str(tree), f"--format={form}", "--sort=name", "--mtime=@0", "-cf", "-"]
    options = ["--blocking-factor=1", "--owner=0", "--group=0", "--numeric-owner", "."]
    return subprocess.run([*command, *options], capture_output=True, check=True).stdout


def gnu(tar: str, data: bytes, directory: Path) -> list[Listed] | None:
    """What GNU tar lists, None if it complains about anything."""
    path = directory / "it.tar"
    path.write_bytes(data)
    done = subprocess.run(
        [
            tar,
            "-tvPf",
            str(path),
            "--numeric-owner",
            "--quoting-style=literal",
            "--record-size=512",
        ],
        capture_output=True,
        check=False,
        env={**environment(), "LC_ALL": "C"},
    )
    if done.returncode != 0 or done.stderr:
        return None
    matches = [_LINE.fullmatch(line) for line in done.stdout.split(b"\n")[:-1]]
    if None in matches:
        return None  # a name with a line break in it
    found = [listed(m[1].decode(), m[2], m[3]) for m in matches if m is not None]
    # A link that states a size: GNU tar skips so many bytes, others (archive/tar of Go, and this
    # one) do not.  A file whose name ends in a slash: a directory to GNU tar, as it was in 1979.
    odd = any(
        kind != "-" and int(m[2].split(b",")[0])
        for (kind, _, _), m in zip(found, matches, strict=True)
    )
    return None if odd else found


def ours(data: bytes) -> list[Listed] | None:
    """What kstore reads, None if it refuses."""
    try:
        entries = list(TarReader(BytesStream(data)))
    except KstoreError:
        return None
    if any(entry.kind == "file" and entry.name.endswith("/") for entry in entries):
        return None
    return [
        listed(
            _KINDS.get(entry.kind, entry.kind),
            str(entry.size).encode(),
            entry.name.encode("utf-8", "surrogateescape"),
        )
        for entry in entries
    ]


def listed(kind: str, size: bytes, name: bytes) -> Listed:
    """The size counts for files only; a link's line goes on with its target."""
    short = re.split(rb" -> | link to ", name)[0]
    kind = "-" if kind == "C" else kind  # contiguous: a file to everybody today
    return kind, int(size) if kind == "-" else 0, short.rstrip(b"/")


def with_checksums(data: bytes) -> bytes:
    """``data`` with the checksums of what looks like headers made right again."""
    blocks = bytearray(data)
    for start in range(0, len(blocks) - 511, 512):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            total = sum(blocks[start : start + 512])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


@pytest.mark.peer
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_what_both_accept_both_read_alike(
    form: str, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    tar, chance = require_program("tar"), random.Random(form)
    whole = made(tar, tmp_path, form)
    assert ours(whole) == gnu(tar, whole, tmp_path) is not None
    both = 0
    for _ in range(300):
        changed = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.choice(b"0179/x \0\xff")
        data = with_checksums(bytes(changed))
        mine, theirs = ours(data), gnu(tar, data, tmp_path)
        if mine is not None and theirs is not None:
            both += 1
            assert mine == theirs, data
    assert both > 20
