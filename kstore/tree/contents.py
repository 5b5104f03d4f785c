"""The files of an image, merged from a stack of layers without unpacking one of them.

Source: OCI image specification, "Image Layer Filesystem Changeset" (whiteouts, opaque directories);
a layer hides what is below it as an overlay mount does: symbolic links on the way are not followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

from kstore.digest import Digest
from kstore.errors import IntegrityError
from kstore.formats.layer_tar import EntryKind, TarEntry, TarReader
from kstore.streams import CHUNK, Cancel, pump
from kstore.tree.whiteouts import OPAQUE, is_reserved, removed_name
from kstore.values import dataclass

__all__ = ["MAX_FILES", "Change", "Contents", "FileFacts", "changes"]

#: Files of one image, hidden ones included; what bounds the memory a merged list takes.
MAX_FILES: Final = 1_000_000
_MAX_DEPTH: Final = 400  # directories within directories
_XATTR: Final = "SCHILY.xattr."
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known about one file.

    ``mtime`` is in whole seconds since 1970, all that every tar keeps; ``content`` is None where
    nobody asked for a digest of the bytes.
    """

    kind: EntryKind
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: str
    device: tuple[int, int] | None
    xattrs: tuple[tuple[str, str], ...]
    content: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: ``A`` added, ``C`` changed, ``D`` removed; ``path`` begins with ``/``."""

    kind: Literal["A", "C", "D"]
    path: str


@dataclass(slots=True)
class _Node:
    """A file; ``facts`` is None for a directory no layer describes, ``children`` for a file that
    is none.  ``turn`` counts the layers of one stack, ``origin`` is the layer's own name."""

    facts: FileFacts | None
    origin: str
    turn: int
    children: dict[str, _Node] | None


class Contents:
    """The files that a container of an image would see; layers are added base first."""

    def __init__(self) -> None:
        self._turn = 0
        self._count = 0
        self._root = _Node(None, "", 0, {})

    @property
    def root(self) -> _Node:
        """The top directory; to be looked at only."""
        return self._root

    def copy(self) -> Contents:
        """The same files, to add other layers to."""
        twin = Contents()
        twin._turn, twin._count = self._turn, self._count
        todo = [(self._root, twin._root)]
        while todo:
            old, new = todo.pop()
            new.facts, new.origin, new.turn = old.facts, old.origin, old.turn
            for name, child in (old.children or {}).items():
                made = _Node(None, "", 0, None if child.children is None else {})
                assert new.children is not None
                new.children[name] = made
                todo.append((child, made))
        return twin

    def add_layer(
        self, tar: TarReader, origin: str, *, hashed: bool = False, cancel: Cancel | None = None
    ) -> None:
        """Put a layer on top.

        ``origin`` names the layer: files of the same one are the same.  With ``hashed``, contents
        are read for their digests.  Raises IntegrityError for names that no file can have, and
        what ``tar`` raises.
        """
        self._turn += 1
        for entry in tar:
            if cancel is not None:
                cancel.check()
            *parents, name = _parts(entry.name) or [""]
            if name == OPAQUE:
                self._hide_below(parents)
            elif (removed := removed_name(name)) is not None:
                self._remove(parents, removed)
            elif not is_reserved(name):
                self._put(parents, name, entry, origin, self._facts(entry, tar, hashed))

    def _facts(self, entry: TarEntry, tar: TarReader, hashed: bool) -> FileFacts:
        if entry.kind == "hardlink":
            linked = self._find(_parts(entry.link))
            if linked is not None and linked.facts is not None:
                return linked.facts
        return FileFacts(
            kind=entry.kind,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            size=entry.size,
            mtime=entry.mtime_ns // _SECOND,
            link=entry.link,
            device=entry.device,
            xattrs=tuple(sorted(pair for pair in entry.pax.items() if pair[0].startswith(_XATTR))),
            content=_content(tar, entry) if hashed else None,
        )

    def _put(
        self, parents: list[str], name: str, entry: TarEntry, origin: str, facts: FileFacts
    ) -> None:
        is_directory = entry.kind == "dir"
        if not name:
            if not is_directory:
                raise IntegrityError(f"an entry of the layer {origin} takes the place of /")
            self._root.facts, self._root.origin = facts, origin
            return
        siblings = self._directory(parents, origin)
        node = siblings.get(name)
        if node is None or not is_directory or node.children is None:
            siblings[name] = _Node(facts, origin, self._turn, {} if is_directory else None)
            self._counted(origin)
        else:
            node.facts, node.origin, node.turn = facts, origin, self._turn

    def _directory(self, path: Iterable[str], origin: str) -> dict[str, _Node]:
        """The entries of a directory, which is made where it is not one yet."""
        node = self._root
        for name in path:
            assert node.children is not None
            child = node.children.get(name)
            if child is None or child.children is None:
                child = _Node(None, origin, self._turn, {})
                node.children[name] = child
                self._counted(origin)
            node = child
        assert node.children is not None
        return node.children

    def _counted(self, origin: str) -> None:
        self._count += 1
        if self._count > MAX_FILES:
            raise IntegrityError(f"with layer {origin}, there are more than {MAX_FILES} files")

    def _find(self, path: Iterable[str]) -> _Node | None:
        node: _Node | None = self._root
        for name in path:
            if node is None or node.children is None:
                return None
            node = node.children.get(name)
        return node

    def _hide_below(self, path: list[str]) -> None:
        node = self._find(path)
        if node is not None:
            self._keep_own(node)

    def _remove(self, parents: list[str], name: str) -> None:
        node = self._find(parents)
        siblings = node.children if node is not None else None
        if siblings is not None and name in siblings and not self._keep_own(siblings[name]):
            del siblings[name]

    def _keep_own(self, node: _Node) -> bool:
        """Take away what lower layers put into ``node``; whether anything of this layer is left.

        A mark of removal speaks of lower layers only, wherever it stands among its own entries.
        """
        if node.children is not None:
            for name, child in list(node.children.items()):
                if not self._keep_own(child):
                    del node.children[name]
        return node.turn == self._turn or bool(node.children)


def changes(old: Contents, new: Contents) -> Iterator[Change]:
    """What it takes to get from ``old`` to ``new``, by path, a directory before what is in it.

    A file counts as changed when a layer wrote it anew, unless facts and content are known to be
    the same; a directory when its own facts differ, or something in it was added or removed.  What
    was in a removed directory is not told one by one.
    """
    todo: list[tuple[str, _Node | None, _Node | None]] = [("", old._root, new._root)]
    while todo:
        path, before, after = todo.pop()
        if after is None:
            yield Change("D", path)
            continue
        if before is None:
            yield Change("A", path)
        elif path and _differs(before, after):
            yield Change("C", path)
        was = before.children or {} if before is not None else {}
        now = after.children or {}
        names = {*now, *was} if after.children is not None else ()
        for name in sorted(names, reverse=True):
            todo.append((f"{path}/{name}", was.get(name), now.get(name)))


def _differs(old: _Node, new: _Node) -> bool:
    if old.children is None or new.children is None:
        return (old.children is None) is not (new.children is None) or not _same_file(old, new)
    if old.children.keys() != new.children.keys():
        return True
    if old.facts is None or new.facts is None or old.origin == new.origin:
        return False
    return old.facts != new.facts


def _same_file(old: _Node, new: _Node) -> bool:
    if old.origin == new.origin:
        return True
    known = old.facts is not None and old.facts.content is not None
    return known and old.facts == new.facts


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or len(parts) > _MAX_DEPTH:
        why = "leads out of the image" if ".." in parts else "is too deep"
        raise IntegrityError(f"the name {name[:200]!r} in a layer {why}")
    return parts


def _content(tar: TarReader, entry: TarEntry) -> str:
    if entry.kind != "file":
        return ""
    hasher = Digest.new_hasher()
    pump(tar, hasher.update, chunk=max(1, min(entry.size, CHUNK)))
    return Digest.from_hasher(hasher).hex
