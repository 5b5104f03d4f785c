"""Real images in OCI layouts, made with the standard library only.

Each builder writes one image into a layout directory of its own and returns the manifest's digest.
A finished layout is kept: a second call with the same directory returns at once. kstore's own code
has no part in this, so that what it is measured and tested with does not depend on it::

    digest = tiny(cache / "tiny", layers=60)
    digest = debian(cache / "debian", root_tar(cache / "debian.tar"))

Names of package indexes and mirrors come from the machine's own configuration of apt and pip.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from contrib.bench.layout import LayerWriter, build, renamed_when_done

_CHUNK = 1 << 20


class BuildError(Exception):
    """An image could not be made; the message says which program failed and how."""


# --- the builders ------------------------------------------------------------------------------


def debian(layout: Path, root: Path, *, level: int = 6) -> str:
    """One layer: the root file system in the tar ``root`` (see :func:`root_tar`)."""
    return build(layout, [_from_tar(root)], level=level)


def pyapp(layout: Path, root: Path, wheels: Sequence[Sequence[str]], *, level: int = 6) -> str:
    """A root file system, Python, one layer for each group of pip-installed ``wheels``, an app."""
    with tempfile.TemporaryDirectory(prefix="kstore-wheels-") as place:
        groups = [_pip_install(Path(place) / str(n), names) for n, names in enumerate(wheels)]
        layers: list[LayerWriter] = [_from_tar(root), standard_library()]
        layers += [_from_tree(group, "usr/lib/python3/site-packages") for group in groups]
        layers.append(generated(0, files=40, size=4000, prefix="srv/app"))
        return build(layout, layers, level=level)


def many_files(layout: Path, *, files: int = 50_000, size: int = 12_000, level: int = 6) -> str:
    """Three layers of many small text files of about ``size`` bytes, as an application with its
    modules has: 600 MB that compress to about half."""
    share = files // 3
    counts = (files - 2 * share, share, share)
    layers = [
        generated(n, files=count, size=size, prefix=f"srv/modules-{n}")
        for n, count in enumerate(counts)
    ]
    return build(layout, layers, level=level)


def tiny(layout: Path, *, layers: int = 60, seed: int = 0) -> str:
    """``layers`` layers of one short file each."""
    writers = [
        generated(seed * 1000 + n, files=1, size=200, prefix=f"etc/tiny-{n}") for n in range(layers)
    ]
    return build(layout, writers)


def numbered(layout: Path, number: int) -> str:
    """One layer of one short file, and the label ``bench.number``: one of many small images."""

    def write(output: BinaryIO) -> None:
        text = f"{number}\n".encode()
        with _tar(output) as tar:
            tar.addfile(_entry("etc/number", len(text)), io.BytesIO(text))

    return build(layout, [write], labels={"bench.number": str(number)})


def incompressible(layout: Path, *, size: int = 2 << 30) -> str:
    """One layer that holds one file of ``size`` random bytes."""

    def write(output: BinaryIO) -> None:
        chance = random.Random(size)
        with _tar(output) as tar:
            tar.addfile(_entry("data/random", size), _RandomFile(chance))

    return build(layout, [write], level=1)


#: About how many bytes :func:`writable_layer` holds.
LAYER_SIZE = 300_000_000


def writable_layer(path: Path) -> Path:
    """The directory ``path`` with 300 MB of files, made once: half of it many small texts, half
    one binary file."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    layers = (
        generated(7, files=LAYER_SIZE // 24_000, size=12_000, prefix="srv/app"),
        binary(7, size=LAYER_SIZE // 2, path="srv/data"),
    )
    with renamed_when_done(path) as unfinished:
        for write in layers:
            with tempfile.TemporaryFile() as file:
                write(file)
                file.seek(0)
                with tarfile.open(fileobj=file) as tar:
                    tar.extractall(unfinished, filter="data")
    return path


def root_tar(path: Path, *, timeout: float = 600) -> Path:
    """The tar ``path``: a minimal Debian root file system, made once by mmdebstrap.

    Packages come from the machine's own apt sources. Raises :class:`BuildError` where mmdebstrap
    is missing or fails (without root it needs subordinate user IDs).
    """
    if path.exists():
        return path
    program = shutil.which("mmdebstrap")
    if program is None:
        raise BuildError("mmdebstrap is not installed")
    sources = [
        str(file)
        for pattern in ("sources.list", "sources.list.d/*.list", "sources.list.d/*.sources")
        for file in sorted(Path("/etc/apt").glob(pattern))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with renamed_when_done(path) as unfinished:
        command = [program, "--quiet", "--variant=minbase", "--format=tar", _suite()]
        _run([*command, str(unfinished), *sources], timeout)
        unfinished.chmod(0o644)
    return path


# --- layers ------------------------------------------------------------------------------------


def standard_library() -> LayerWriter:
    """The running interpreter's standard library, without caches and tests."""
    library = Path(sysconfig.get_paths()["stdlib"])
    return _from_tree(library, "usr/lib/python3", {"site-packages", "dist-packages", "test"})


def site_packages() -> LayerWriter:
    """Everything that is installed beside the running interpreter."""
    return _from_tree(Path(sysconfig.get_paths()["purelib"]), "usr/lib/python3/site-packages")


def generated(seed: int, *, files: int, size: int, prefix: str) -> LayerWriter:
    """``files`` text files of about ``size`` bytes that compress as program text does."""

    def write(output: BinaryIO) -> None:
        chance = random.Random(seed)
        words = [f"{chance.randrange(1 << 32):x}" for _ in range(20_000)]
        with _tar(output) as tar:
            for number in range(files):
                text = " ".join(chance.choices(words, k=max(1, size // 9))).encode()
                name = f"{prefix}/{number // 100:04d}/{number:06d}.js"
                tar.addfile(_entry(name, len(text)), io.BytesIO(text))

    return write


def binary(seed: int, *, size: int, path: str) -> LayerWriter:
    """One file of ``size`` bytes, a mixture that compresses to about half, made fast."""

    def write(output: BinaryIO) -> None:
        with _tar(output) as tar:
            tar.addfile(_entry(path, size), _RandomFile(random.Random(seed), half=True))

    return write


def _from_tar(source: Path) -> LayerWriter:
    def write(output: BinaryIO) -> None:
        with source.open("rb") as file:
            shutil.copyfileobj(file, output, _CHUNK)

    return write


def _from_tree(directory: Path, prefix: str, without: set[str] | None = None) -> LayerWriter:
    """The files and links below ``directory``, as root's, sorted by name."""
    skipped = {"__pycache__", *(without or ())}

    def write(output: BinaryIO) -> None:
        with _tar(output) as tar:
            for here, folders, files in os.walk(directory):
                folders[:] = sorted(set(folders) - skipped)
                for name in sorted(files):
                    path = Path(here, name)
                    if (path.is_file() or path.is_symlink()) and os.access(path, os.R_OK):
                        arcname = f"{prefix}/{path.relative_to(directory).as_posix()}"
                        tar.add(path, arcname, recursive=False, filter=_as_root)

    return write


def _pip_install(target: Path, names: Sequence[str]) -> Path:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps"]
    _run([*pip, "--only-binary=:all:", "--target", str(target), *names], 600)
    return target


class _RandomFile(io.RawIOBase):
    """Endless bytes from ``chance``; with ``half`` every second block is zeros."""

    def __init__(self, chance: random.Random, *, half: bool = False) -> None:
        self._chance = chance
        self._half = half
        self._turn = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        self._turn += 1
        if self._half and self._turn % 2:
            return bytes(size)
        return self._chance.randbytes(size)


def _tar(output: BinaryIO) -> tarfile.TarFile:
    return tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info


def _as_root(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    return info


def _suite() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise BuildError("/etc/os-release names no suite (VERSION_CODENAME)")


def _run(command: Sequence[str], timeout: float) -> None:
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{command[0]} did not end within {timeout:g} s") from error
    if run.returncode:
        lines = (run.stderr or run.stdout).strip().splitlines()
        raise BuildError(f"{command[0]} failed: {'; '.join(lines[-3:])}")
