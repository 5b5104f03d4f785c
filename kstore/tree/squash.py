"""A stack of layers as one, merged without unpacking them.

The layers are read twice: first to learn which file of which layer shows in the end, then for the
contents of those.  Directories come first, with the facts the topmost layer gives them.

Source: OCI image specification 1.1 ``layer.md``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence

from kstore.errors import UnsupportedError
from kstore.formats.layer_tar import TarEntry, TarReader
from kstore.streams import ByteStream
from kstore.tree.contents import Contents, FileFacts
from kstore.tree.made_tar import MadeTar
from kstore.tree.whiteouts import WHITEOUT

__all__ = ["LayerOpener", "SquashedTar"]

#: Opens the uncompressed tar of a layer, from its start.
LayerOpener = Callable[[], ByteStream]

_XATTR = "SCHILY.xattr."
_SECOND = 1_000_000_000


class _Noting(TarReader):
    """Remembers the hard links that were read, and the file of the same layer they link to."""

    def __init__(self, stream: ByteStream, *, what: str) -> None:
        super().__init__(stream, what=what)
        self.links: dict[str, str] = {}
        self._seen: set[str] = set()

    def __next__(self) -> TarEntry:
        entry = super().__next__()
        name = plain_name(entry.name)
        if entry.kind == "hardlink":
            target = plain_name(entry.link)
            if target in self._seen:
                self.links[name] = self.links.get(target, target)
        self._seen.add(name)
        return entry


class SquashedTar(MadeTar):
    """The tar of what ``layers``, base first, show together.

    ``newest`` and ``hollow``: see :class:`kstore.tree.layer.TreeRules`.  Reading raises what
    reading a layer does, and UnsupportedError for a link to what another layer hides.
    """

    def __init__(
        self, layers: Sequence[LayerOpener], *, newest: int | None = None, hollow: bool = False
    ) -> None:
        super().__init__()
        self._layers = layers
        self._newest = newest
        self._hollow = hollow
        self._contents = Contents()
        self._links: list[dict[str, str]] = []

    def _archive(self) -> Generator[None, None, None]:
        for number in range(len(self._layers)):
            with self._opened(number) as reader:
                self._contents.add_layer(reader, str(number))
                self._links.append(reader.links)
            yield
        yield from self._directories()
        for number in range(len(self._layers)):
            with self._opened(number) as reader:
                yield from self._files(number, reader)
        self._writer.finish()
        yield

    @contextlib.contextmanager
    def _opened(self, number: int) -> Iterator[_Noting]:
        with contextlib.closing(self._layers[number]()) as stream:
            yield _Noting(stream, what=f"layer {number + 1}")

    def _directories(self) -> Generator[None, None, None]:
        pending = [("", self._contents.root)]
        while pending:
            name, node = pending.pop()
            if node.children is None:
                continue
            if name and node.facts is not None:
                self._add_directory(name, node.facts)
                yield
            prefix = f"{name}/" if name else ""
            below = sorted(node.children, reverse=True)
            pending += [(prefix + child, node.children[child]) for child in below]

    def _files(self, number: int, reader: TarReader) -> Generator[None, None, None]:
        """The files of one layer that show, and those that only links to them still show."""
        links = self._links[number]
        stand_in: dict[str, str] = {}
        for name, target in links.items():
            if self._shows(name, number) and not self._shows(target, number):
                stand_in.setdefault(target, name)
        for entry in reader:
            name = plain_name(entry.name)
            if entry.kind == "dir" or name.rpartition("/")[2].startswith(WHITEOUT):
                continue
            shown = name if self._shows(name, number) else stand_in.get(name)
            if shown is None:
                continue
            if entry.kind != "hardlink":
                yield from self._copy(entry, shown, reader)
            elif shown == name:
                target = links.get(name) or self._foreign(name, entry, number)
                target = stand_in.get(target, target)
                if target != name:  # else it was written as the file itself
                    self._writer.add(name, kind="hardlink", mode=entry.mode, link=target)
                    yield

    def _foreign(self, name: str, entry: TarEntry, number: int) -> str:
        """The file of a layer below that ``name`` links to, if it is still what shows there."""
        target = plain_name(entry.link)
        owner = self._owner(target)
        if owner is None or int(owner) >= number:
            raise UnsupportedError(
                f"{name!r} links to {target!r} of another layer, which is hidden by now"
            )
        return target

    def _copy(self, entry: TarEntry, name: str, reader: TarReader) -> Generator[None, None, None]:
        self._writer.add(
            name,
            kind=entry.kind,
            size=0 if self._hollow else entry.size,
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime_ns=self._time(entry.mtime_ns),
            link=entry.link,
            device=entry.device,
            pax={key: text for key, text in entry.pax.items() if key.startswith(_XATTR)},
        )
        yield
        while not self._hollow and (count := reader.readinto(self._buffer)):
            self._writer.write(self._buffer[:count])
            yield

    def _add_directory(self, name: str, facts: FileFacts) -> None:
        self._writer.add(
            name,
            kind="dir",
            mode=facts.mode,
            uid=facts.uid,
            gid=facts.gid,
            mtime_ns=self._time(facts.mtime * _SECOND),
            pax=dict(facts.xattrs),
        )

    def _time(self, mtime_ns: int) -> int:
        return mtime_ns if self._newest is None else min(mtime_ns, self._newest * _SECOND)

    def _owner(self, name: str) -> str | None:
        """The layer whose file shows under ``name``, None where none does."""
        node = self._contents.root
        for part in name.split("/"):
            below = node.children.get(part) if node.children is not None else None
            if below is None:
                return None
            node = below
        return node.origin

    def _shows(self, name: str, number: int) -> bool:
        return self._owner(name) == str(number)


def plain_name(name: str) -> str:
    """The name without what means nothing: a leading ``/``, ``.`` and doubled slashes."""
    return "/".join(part for part in name.split("/") if part not in ("", "."))
