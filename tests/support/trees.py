"""Directory trees and the tars made of them.

::

    make_tree(root, {"etc/motd": b"hello", "bin/": None, "lib": "usr/lib"})   # see there
    members(made(LayerTar(root, warn=said.append)))                           # name -> TarInfo
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

from kstore.streams import Readable, pump
from kstore.tree import xattrs

#: The time of everything in a tree that was made, in seconds since 1970.
WHEN = 1_700_000_000


def make_tree(root: Path, files: Mapping[str, bytes | str | None]) -> Path:
    """A tree of files (bytes), symbolic links (texts) and directories (None), all of one time."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, str):
            path.symlink_to(content)
        else:
            path.write_bytes(content)
    settle(root)
    return root


def settle(root: Path) -> None:
    """Give everything in a tree the same time."""
    for path in (*root.rglob("*"), root):
        os.utime(path, (WHEN, WHEN), follow_symlinks=False)


def made(tar: Readable) -> bytes:
    """All bytes of a tar that is made while it is read."""
    data = bytearray()
    pump(tar, data.extend, chunk=10_000)
    return bytes(data)


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    """What is in a tar, in its order, as the standard library sees it."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def content(data: bytes, name: str) -> bytes:
    """The content of a file in a tar; links are followed."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        file = archive.extractfile(name)
        assert file is not None, f"{name} is no file"
        return file.read()


def set_attribute(path: Path, name: str, value: bytes) -> bool:
    """Set an extended attribute; whether the file system could."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return xattrs.write(descriptor, name, value)
    finally:
        os.close(descriptor)
