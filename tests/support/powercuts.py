"""A file system in a file whose power can be cut: what was not synced is gone.

::

    template = make_disk("ext4", directory)              # an empty file system, in a file
    with mounted_disk(template, directory) as disk:      # root only; a skip where it cannot be
        (disk.mount / "file").write_bytes(b"...")
        disk.cut()                                       # and it is mounted again
        (disk.mount / "file").exists()

The file system is shut down by an ioctl without its log being flushed, which is what a power cut
does to it.  Source: linux/fs/ext4/ioctl.c and linux/fs/xfs/xfs_fs.h, *GOINGDOWN.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.programs import require_program

__all__ = [
    "DISKS",
    "Disk",
    "make_disk",
    "make_squashfs",
    "mounted_disk",
    "mounted_read_only",
]

_GOING_DOWN = 0x8004587D  # _IOR('X', 125, u32)
_NO_LOG_FLUSH = 2
_SIZES = {"ext4": 48 << 20, "xfs": 320 << 20}  # bytes; holes are not stored
_MAKERS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
#: The kinds of file systems that can be cut.
DISKS = tuple(_MAKERS)


def make_disk(kind: str, directory: Path) -> Path:
    """A file with an empty file system in it."""
    image = directory / f"empty.{kind}"
    program, *options = _MAKERS[kind]
    with image.open("wb") as file:
        file.truncate(_SIZES[kind])
    subprocess.run([require_program(program), *options, str(image)], check=True, timeout=60)
    return image


@dataclass(slots=True)
class Disk:
    """A mounted file system."""

    image: Path
    mount: Path
    mounted: bool = False

    def cut(self) -> None:
        """Lose what is not on the disk, and mount it again; its log is played back."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, struct.pack("I", _NO_LOG_FLUSH))
        except OSError as exc:
            if exc.errno in (errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP):
                pytest.skip(f"the file system cannot be shut down: {exc.strerror}")
            raise
        finally:
            os.close(descriptor)
        self.detach()
        # A copy: a mount namespace made by somebody else meanwhile keeps the old one in use.
        old = self.image.rename(self.image.with_suffix(".old"))
        _copy(old, self.image)
        old.unlink()
        self.attach()

    def attach(self) -> None:
        _mount(self.image, self.mount, "loop,nouuid" if self.image.suffix == ".xfs" else "loop")
        self.mounted = True

    def detach(self) -> None:
        if self.mounted:
            self.mounted = False
            _unmount(self.mount)


def _mount(image: Path, mount: Path, options: str) -> None:
    done = subprocess.run(
        [require_program("mount"), "-o", options, str(image), str(mount)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no loop mounts: {done.stderr.decode().strip()}")


def _unmount(mount: Path) -> None:
    subprocess.run([require_program("umount"), "-l", str(mount)], check=True, timeout=60)


def _copy(image: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", str(image), str(target)], check=True, timeout=60)


@contextlib.contextmanager
def mounted_disk(template: Path, directory: Path) -> Iterator[Disk]:
    """A copy of the file system in ``template``, mounted inside the block."""
    image, mount = directory / f"disk{template.suffix}", directory / "mount"
    mount.mkdir(parents=True)
    _copy(template, image)
    disk = Disk(image, mount)
    disk.attach()
    try:
        yield disk
    finally:
        disk.detach()
        shutil.rmtree(directory)


def make_squashfs(content: Path, image: Path) -> None:
    """A file with a file system that can only be read, and holds what ``content`` does."""
    words = [require_program("mksquashfs"), str(content), str(image), "-quiet", "-no-progress"]
    subprocess.run(words, check=True, capture_output=True, timeout=60)


@contextlib.contextmanager
def mounted_read_only(image: Path, mount: Path) -> Iterator[Path]:
    """The file system in ``image``, mounted read-only at the new directory ``mount``."""
    mount.mkdir()
    _mount(image, mount, "loop,ro")
    try:
        yield mount
    finally:
        _unmount(mount)
