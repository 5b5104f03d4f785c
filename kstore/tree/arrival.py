"""Files on their way into a writable layer.

They are gathered in a directory beside it, under the paths they will have, with what is above them
as the layers below have it.  Then they move in by renames, so that a failure while something is
read changes nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal

from kstore.blobs import storage_errors
from kstore.errors import ConflictError, InvalidInputError
from kstore.formats.layer_tar import TarReader
from kstore.formats.spool import file_errors
from kstore.streams import CHUNK
from kstore.tree import xattrs
from kstore.tree.contents import Contents
from kstore.tree.descent import Descent
from kstore.tree.layer import LayerTar, TreeRules
from kstore.tree.resolve import Spot, resolve
from kstore.tree.whiteouts import WHITEOUT

__all__ = ["Arrival"]

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_DIRECTORY_MODE: Final = 0o755
_XATTR: Final = "SCHILY.xattr."
_SECOND: Final = 1_000_000_000
_Parts = tuple[str, ...]


class Arrival:
    """Gathers files in ``staging``, a new directory, for a tree that shows ``contents``.

    ``owner`` (user and group) and ``mode`` are what the files get: by default root's, and the mode
    they have.  What this user cannot give to a file is noted in its ``override_stat``.  ``warn``
    hears of what cannot be kept.
    """

    def __init__(
        self,
        contents: Contents,
        staging: Path,
        *,
        owner: tuple[int, int] = (0, 0),
        mode: int | None = None,
        warn: Callable[[str], None],
    ) -> None:
        self._contents = contents
        self._staging = staging
        self._owner = owner
        self._mode = mode
        self._warn = warn
        self._warned: set[str] = set()
        self._is_root = os.geteuid() == 0
        self._links: dict[tuple[int, int], Path] = {}
        self._directories: dict[_Parts, Callable[[int], None]] = {}
        with storage_errors(f"make {staging}"):
            staging.mkdir(mode=0o755)

    def add(self, source: Path, destination: str, *, inside: bool = False) -> None:
        """Take a file, or what is in a directory, to ``destination``.

        A file goes into ``destination`` if that is a directory, ends in ``/``, or is meant to be
        one (``inside``).  Raises NotFoundError, StorageError; ConflictError for a file where a
        directory is, and the reverse, or one that changes meanwhile; InvalidInputError.
        """
        with file_errors(f"read {source}"):
            info = source.stat()
        if stat.S_ISDIR(info.st_mode):
            self._add_tree(source, destination)
        elif stat.S_ISREG(info.st_mode):
            self._add_file(source, destination, inside=inside)
        else:
            raise InvalidInputError(f"{source} is neither a file nor a directory")
        self._finish_directories()
        with LayerTar(self._staging, TreeRules(hollow=True), warn=lambda _: None) as tar:
            self._contents.add_layer(TarReader(tar), "added")

    # ---- where things go

    def _add_file(self, source: Path, destination: str, *, inside: bool) -> None:
        spot = resolve(self._contents, destination)
        if inside or destination.endswith(("/", "/.")) or spot.kind == "dir":
            place = f"{destination}/{source.name}"
        else:
            place = destination
        spot = self._place(place)
        real = source.resolve()
        with Descent(real.parent) as tree:
            self._copy(tree, real.name, spot)

    def _add_tree(self, source: Path, destination: str) -> None:
        top = self._enter(destination)
        with Descent(source) as tree:
            self._directory(tree, "", top)
            pending: list[tuple[str, _Parts]] = [("", top.parts)]
            while pending:
                name, into = pending.pop()
                for child in tree.children(name):
                    below = f"{name}/{child.name}" if name else child.name
                    target = f"{'/'.join(into)}/{child.name}"
                    if stat.S_ISDIR(child.info.st_mode):
                        spot = self._enter(target)
                        pending.append((below, spot.parts))
                        self._directory(tree, below, spot)
                    else:
                        self._member(tree, below, child.info, self._place(target))

    def _enter(self, path: str) -> Spot:
        """Where a directory will be: the one that is there, also through a link, or a new one."""
        spot = resolve(self._contents, path)
        if spot.kind not in (None, "dir"):
            raise ConflictError(f"/{'/'.join(spot.parts)} is not a directory")
        self._refuse_whiteouts(spot.parts)
        self._make(spot.parts)
        return spot

    def _place(self, path: str) -> Spot:
        """Where a file will be; its directory is made."""
        spot = resolve(self._contents, path, follow=False)
        if spot.kind == "dir" or not spot.parts:
            raise ConflictError(f"/{'/'.join(spot.parts)} is a directory")
        self._refuse_whiteouts(spot.parts)
        self._make(spot.parts[:-1])
        return spot

    def _refuse_whiteouts(self, parts: _Parts) -> None:
        for part in parts:
            if part.startswith(WHITEOUT):
                raise InvalidInputError(
                    f"{part!r} cannot be in a layer, where its name means that something was"
                    " removed"
                )

    def _make(self, parts: _Parts) -> None:
        """The directories that lead to ``parts``, with the facts they have below."""
        for count in range(1, len(parts) + 1):
            path = self._staged(parts[:count])
            with storage_errors(f"make {path}"):
                try:
                    path.mkdir(mode=0o700)
                except FileExistsError:
                    continue
            facts = resolve(self._contents, "/".join(parts[:count]), follow=False).facts
            if facts is None:
                self._note(parts[:count], _NEW_DIRECTORY_MODE, (0, 0), None, {})
                continue
            attributes = {
                key.removeprefix(_XATTR): text.encode("utf-8", "surrogateescape")
                for key, text in facts.xattrs
            }
            time = facts.mtime * _SECOND
            self._note(parts[:count], facts.mode, (facts.uid, facts.gid), time, attributes)

    def _directory(self, tree: Descent, name: str, spot: Spot) -> None:
        """A directory that is new gets the facts of its source."""
        if spot.kind is not None or not spot.parts:
            return
        descriptor = tree.directory(name)
        with file_errors(f"read {tree.place(name)}"):
            info = os.fstat(descriptor)
            attributes = xattrs.carried(xattrs.read(descriptor))
        mode = stat.S_IMODE(info.st_mode) if self._mode is None else self._mode
        self._note(spot.parts, mode, self._owner, info.st_mtime_ns, attributes)

    def _note(
        self,
        parts: _Parts,
        mode: int,
        owner: tuple[int, int],
        mtime_ns: int | None,
        attributes: Mapping[str, bytes],
    ) -> None:
        """Remember the facts of a directory; they are set when nothing is put into it any more."""

        def settle(descriptor: int) -> None:
            self._settle(descriptor, "dir", "/".join(parts), mode, owner, attributes)
            if mtime_ns is not None:
                os.utime(descriptor, ns=(mtime_ns, mtime_ns))

        self._directories[parts] = settle

    def _finish_directories(self) -> None:
        for parts in sorted(self._directories, key=len, reverse=True):
            path = self._staged(parts)
            with storage_errors(f"write {path}"):
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    self._directories[parts](descriptor)
                finally:
                    os.close(descriptor)

    # ---- the files

    def _member(self, tree: Descent, name: str, info: os.stat_result, spot: Spot) -> None:
        target = self._staged(spot.parts)
        what = f"write {target}"
        if stat.S_ISREG(info.st_mode):
            first = self._links.get((info.st_dev, info.st_ino)) if info.st_nlink > 1 else None
            if first is None:
                self._copy(tree, name, spot)
                self._links[info.st_dev, info.st_ino] = target
                return
            with storage_errors(what):
                target.unlink(missing_ok=True)
                target.hardlink_to(first)
            return
        with storage_errors(what):
            target.unlink(missing_ok=True)
            if stat.S_ISLNK(info.st_mode):
                target.symlink_to(tree.read_link(name))
            elif stat.S_ISFIFO(info.st_mode):
                os.mkfifo(target, 0o600)
            elif stat.S_ISSOCK(info.st_mode) or not self._is_root:
                kind = "socket" if stat.S_ISSOCK(info.st_mode) else "device"
                self._warn(f"{tree.place(name)} is a {kind}, which cannot be added: left out")
                return
            else:
                os.mknod(target, stat.S_IFMT(info.st_mode) | 0o600, info.st_rdev)
            if self._is_root:
                os.chown(target, *self._owner, follow_symlinks=False)
            if not stat.S_ISLNK(info.st_mode):
                target.chmod(stat.S_IMODE(info.st_mode) if self._mode is None else self._mode)
            times = (info.st_mtime_ns, info.st_mtime_ns)
            os.utime(target, ns=times, follow_symlinks=False)

    def _copy(self, tree: Descent, name: str, spot: Spot) -> None:
        target = self._staged(spot.parts)
        source = tree.open_file(name)
        try:
            with file_errors(f"read {tree.place(name)}"):
                info = os.fstat(source)
                attributes = xattrs.carried(xattrs.read(source))
            if not stat.S_ISREG(info.st_mode):
                raise ConflictError(f"{tree.place(name)} changed while it was read")
            with storage_errors(f"write {target}"):
                target.unlink(missing_ok=True)
                made = os.open(target, _NEW_FILE, 0o600)
                try:
                    copied = _send(source, made)
                    mode = stat.S_IMODE(info.st_mode) if self._mode is None else self._mode
                    shown = "/".join(spot.parts)
                    self._settle(made, "file", shown, mode, self._owner, attributes)
                    os.utime(made, ns=(info.st_mtime_ns, info.st_mtime_ns))
                finally:
                    os.close(made)
            after = os.fstat(source)
        finally:
            os.close(source)
        if (copied, after.st_mtime_ns) != (info.st_size, info.st_mtime_ns):
            raise ConflictError(f"{tree.place(name)} changed while it was read")

    def _settle(
        self,
        descriptor: int,
        kind: Literal["file", "dir"],
        shown: str,
        mode: int,
        owner: tuple[int, int],
        attributes: Mapping[str, bytes],
    ) -> None:
        """Attributes, owner and mode, in this order: each may forbid, or undo, the one before."""
        for key, value in attributes.items():
            if not xattrs.write(descriptor, key, value):
                self._warn_once(f"the attribute {key} of /{shown} cannot be kept here")
        if self._is_root:
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            return
        # What an unprivileged user cannot give, or could not live with, is noted instead.
        needed = 0o700 if kind == "dir" else 0o600
        if owner != (0, 0) or mode != mode & 0o777 | needed:
            override = xattrs.Override(*owner, mode)
            if not xattrs.note_override(descriptor, override, kind):
                self._warn_once(f"owner and mode of /{shown} cannot be kept here")
        os.fchmod(descriptor, mode & 0o777 | needed)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < 10:
            self._warned.add(text)
            self._warn(text)

    def _staged(self, parts: _Parts) -> Path:
        return self._staging.joinpath(*parts)


def _send(source: int, target: int) -> int:
    """Copy all bytes of one file to another; how many there were.  Raises OSError."""
    total = 0
    while sent := os.sendfile(target, source, None, 64 * CHUNK):
        total += sent
    return total
