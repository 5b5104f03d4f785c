"""A directory tree as a layer tar whose bytes depend on the tree alone.

Names are sorted, removals first; times are whole seconds; hard links and symbolic links stay what
they are; extended attributes become PAX records ``SCHILY.xattr.NAME``.

Sources: OCI image specification 1.1 ``layer.md``; star(5) for the records; the kernel's
``overlayfs.rst`` for removals in the upper directory of an overlay.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Final, Literal

from kstore.errors import ConflictError, InvalidInputError
from kstore.formats.layer_tar import EntryKind
from kstore.formats.spool import file_errors
from kstore.streams import CHUNK
from kstore.tree import xattrs
from kstore.tree.descent import Child, Descent
from kstore.tree.made_tar import MadeTar
from kstore.tree.whiteouts import OPAQUE, WHITEOUT, removed_name
from kstore.values import dataclass

__all__ = ["LayerTar", "TreeRules"]

_KINDS: dict[int, EntryKind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}
_NO_ATTRIBUTES: Mapping[str, bytes] = {}
_XATTR: Final = "SCHILY.xattr."
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TreeRules:
    """How a tree becomes a layer.

    ``owners``: ``"root"`` gives all files to root, ``"kept"`` keeps numeric owners, ``"mapped"``
    gives to root what belongs to the calling user, as in that user's name space.  What rootless
    tools noted as the true owner counts, unless it is ``"root"``; the mode they noted always does.
    ``removals``: ``.wh.NAME`` (and what an overlay file system makes of a removal) removes NAME of
    the layers below; without, such a name is an error.  ``newest``: the latest modification time,
    in seconds since 1970, that any file may have; None for what it is.  ``hollow``: files without
    their content, for who only wants to know what there is.
    """

    owners: Literal["root", "kept", "mapped"] = "mapped"
    removals: bool = False
    newest: int | None = None
    hollow: bool = False


class LayerTar(MadeTar):
    """The tar of the tree below ``path``, as a stream; the directory itself is not in it.

    ``warn`` hears of what no tar can hold (sockets).  Reading raises NotFoundError, StorageError,
    ConflictError for a file that changes meanwhile, InvalidInputError for a tree that cannot be a
    layer, IntegrityError for an owner that was noted wrongly.
    """

    def __init__(
        self, path: Path, rules: TreeRules | None = None, *, warn: Callable[[str], None]
    ) -> None:
        super().__init__()
        self._rules = rules or TreeRules()
        self._warn = warn
        self._tree = Descent(path)
        self._links: dict[tuple[int, int], str] = {}
        self._user = os.geteuid()
        #: The time of the youngest thing seen so far, in seconds since 1970.
        self.newest = self._tree.mtime

    def close(self) -> None:
        super().close()
        self._tree.close()

    def _archive(self) -> Generator[None, None, None]:
        pending = self._named("", _NO_ATTRIBUTES)
        while pending:
            name, info = pending.pop()
            if info is None:
                self._writer.add(name, mode=0)
                continue
            kind = _KINDS.get(stat.S_IFMT(info.st_mode))
            if kind is None:
                place = self._tree.place(name)
                self._warn(f"{place} is a socket, which no image can hold: left out")
                continue
            self.newest = max(self.newest, int(info.st_mtime))
            if kind == "dir":
                pending += self._directory(name)
            elif kind == "file":
                yield from self._file(name, info)
            else:
                link = self._tree.read_link(name) if kind == "symlink" else ""
                self._add(name, kind, info, link=link)
            yield
        self._writer.finish()
        yield

    def _directory(self, name: str) -> list[tuple[str, os.stat_result | None]]:
        """Write a directory's own entry; what comes after it."""
        descriptor = self._tree.directory(name)
        with file_errors(f"read {self._tree.place(name)}"):
            info = os.fstat(descriptor)
            attributes = xattrs.read(descriptor)
        self._add(name, "dir", info, attributes)
        return self._named(name, attributes)

    def _named(
        self, name: str, attributes: Mapping[str, bytes]
    ) -> list[tuple[str, os.stat_result | None]]:
        """What is in a directory, last first, with whole names; removals have no facts."""
        removed: set[str] = set()
        kept: list[tuple[str, os.stat_result | None]] = []
        if self._rules.removals and xattrs.is_opaque(attributes):
            removed.add(OPAQUE)
        prefix = f"{name}/" if name else ""
        for child in self._tree.children(name):
            if (removal := self._removal(prefix, child)) is not None:
                removed.add(removal)
            else:
                kept.append((prefix + child.name, child.info))
        if OPAQUE in removed:
            removed = {OPAQUE}  # everything below is gone: single removals say nothing new
        first = sorted(removed, key=os.fsencode)
        return [*reversed(kept), *((prefix + text, None) for text in reversed(first))]

    def _removal(self, prefix: str, child: Child) -> str | None:
        """The whiteout that something stands for, None for an ordinary file."""
        info = child.info
        if self._rules.removals and stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            return WHITEOUT + child.name
        if not child.name.startswith(WHITEOUT):
            return None
        place = self._tree.place(prefix + child.name)
        if not self._rules.removals:
            raise InvalidInputError(
                f"{place} cannot be in a layer, where its name means that something was removed"
            )
        known = child.name == OPAQUE or removed_name(child.name) is not None
        if not known or not stat.S_ISREG(info.st_mode) or info.st_size:
            raise InvalidInputError(f"{place} is no removal: an empty file .wh.NAME would be one")
        return child.name

    def _file(self, name: str, info: os.stat_result) -> Generator[None, None, None]:
        if info.st_nlink > 1:
            first = self._links.setdefault((info.st_dev, info.st_ino), name)
            if first != name:
                self._add(name, "hardlink", info, link=first)
                return
        with os.fdopen(self._tree.open_file(name), "rb", buffering=0) as file:
            with file_errors(f"read {self._tree.place(name)}"):
                info = os.fstat(file.fileno())
                attributes = xattrs.read(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise self._changed(name)
            if self._add(name, "file", info, attributes) != "file" or self._rules.hollow:
                return
            yield
            left = info.st_size
            while left:
                with file_errors(f"read {self._tree.place(name)}"):
                    count = file.readinto(self._buffer[: min(left, CHUNK)])
                if not count:
                    raise self._changed(name)
                self._writer.write(self._buffer[:count])
                left -= count
                yield
            after = os.fstat(file.fileno())
        if (after.st_size, after.st_mtime_ns) != (info.st_size, info.st_mtime_ns):
            raise self._changed(name)

    def _add(
        self,
        name: str,
        kind: EntryKind,
        info: os.stat_result,
        attributes: Mapping[str, bytes] = _NO_ATTRIBUTES,
        link: str = "",
    ) -> EntryKind:
        """Write an entry; its kind, which is another where a file stands for a device."""
        override = xattrs.override_of(attributes, self._tree.place(name))
        device: tuple[int, int] | None = None
        if kind in ("char", "block"):
            device = (os.major(info.st_rdev), os.minor(info.st_rdev))
        if override is not None and override.kind is not None and kind == "file":
            kind, device = override.kind, override.device
        uid, gid = self._owner(info, override)
        self._writer.add(
            name,
            kind=kind,
            size=info.st_size if kind == "file" and not self._rules.hollow else 0,
            mode=stat.S_IMODE(info.st_mode) if override is None else override.mode,
            uid=uid,
            gid=gid,
            mtime_ns=self._time(info),
            link=link,
            device=device,
            pax={
                _XATTR + key: value.decode("utf-8", "surrogateescape")
                for key, value in xattrs.carried(attributes).items()
            },
        )
        return kind

    def _owner(self, info: os.stat_result, override: xattrs.Override | None) -> tuple[int, int]:
        if self._rules.owners == "root":
            return 0, 0
        if override is not None:
            return override.uid, override.gid
        if self._rules.owners == "mapped" and self._user and info.st_uid == self._user:
            return 0, 0
        return info.st_uid, info.st_gid

    def _time(self, info: os.stat_result) -> int:
        moment = info.st_mtime_ns // _SECOND
        if self._rules.newest is not None:
            moment = min(moment, self._rules.newest)
        return moment * _SECOND

    def _changed(self, name: str) -> ConflictError:
        return ConflictError(f"{self._tree.place(name)} changed while it was read")
