"""A bounded streaming tar reader.

Understands the headers of v7, USTAR, GNU tar (long names, base-256 numbers) and PAX (local and
global).  Sources: POSIX.1-2017 pax; GNU tar manual, "Basic Tar Format".

Where readers in the field disagree about an archive, and the same bytes could mean two things
(two extended headers of one sort for one member, a name given twice), it is refused.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from typing import Final, Self

from kstore.errors import IntegrityError, UnsupportedError
from kstore.formats.tar_headers import (
    BLOCK,
    KINDS,
    MAX_NUMBER,
    Header,
    HeaderError,
    TarEntry,
    TarLimits,
    decode_header,
    padding,
)
from kstore.formats.tar_input import TarInput
from kstore.formats.tar_pax import decode_records, decode_text, encode_text, seconds, whole
from kstore.streams import Readable
from kstore.values import dataclass

__all__ = ["TarReader"]

_ZEROS: Final = bytes(BLOCK)
_SECOND: Final = 1_000_000_000
_DEFAULT: Final = TarLimits()
_MAX_GLOBALS: Final = 1000  # every one of them copies the records so far
_DEVICES: Final = frozenset({"char", "block"})
_LINKS: Final = frozenset({"symlink", "hardlink"})
_SHOWN: Final = 200  # characters of a name in a message
_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_EXTENSIONS: Final = frozenset({_PAX, _GLOBAL, _LONG_NAME, _LONG_LINK})
_SPARSE: Final = "GNU.sparse."
_UNSUPPORTED: Final[Mapping[bytes, str]] = {
    b"S": "a sparse file",
    b"M": "a part of a file that began in another volume",
    b"D": "a directory dump",
    b"V": "a volume label",
}


@dataclass(slots=True)
class _Pending:
    """What the headers before a member's own one said about it."""

    pax: dict[str, str] | None = None
    name: bytes | None = None
    link: bytes | None = None


class TarReader:
    """The members of an uncompressed tar, one after the other; also the content of the current one.

    A loop over the reader that ends without an exception has seen the whole archive, to its end
    marker.  Content nobody read is skipped, by seeking where ``stream`` is a plain file.  ``what``
    names the archive in messages.  Raises IntegrityError for an archive that is damaged, cut off
    or beyond ``limits`` and UnsupportedError for a member that cannot be expressed (sparse files,
    multi-volume parts); errors of ``stream`` pass through.
    """

    def __init__(
        self, stream: Readable, *, limits: TarLimits = _DEFAULT, what: str = "archive"
    ) -> None:
        self._input = TarInput(stream, what)
        self._limits = limits
        self._what = what
        self._headers = 0
        self._globals: dict[str, str] = {}
        self._global_headers = 0
        self._rest = 0  # bytes of the current content nobody has read
        self._pad = 0  # zeros behind it
        self._done = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> TarEntry:
        if self._done:
            raise StopIteration
        self.skip()
        start = self._input.position
        try:
            entry = self._next()
        except HeaderError as exc:
            raise IntegrityError(
                f"{self._what} cannot be read at the entry at byte {start}: {exc}"
            ) from exc
        if entry is None:
            self._done = True
            raise StopIteration
        return entry

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the start of ``buffer`` with content of the current entry; 0 at its end."""
        if not self._rest or not len(buffer):
            return 0
        count = self._input.readinto(buffer[: self._rest])
        self._rest -= count
        return count

    def skip(self) -> None:
        """Leave out the rest of the current entry's content."""
        self._input.skip(self._rest + self._pad)
        self._rest = self._pad = 0

    def finish(self) -> None:
        """Go to the end of the archive; only zeros may follow its two blocks of zeros."""
        for _ in self:
            pass

    def _next(self) -> TarEntry | None:
        pending = _Pending()
        while (block := self._input.block()) != _ZEROS:
            self._headers += 1
            if self._headers > self._limits.max_entries:
                raise HeaderError(f"there are more than {self._limits.max_entries} entries")
            header = decode_header(block)
            if header.type not in _EXTENSIONS:
                return self._entry(header, pending)
            self._extension(header, pending)
        if pending != _Pending():
            raise HeaderError("an extended header describes no entry")
        self._end()
        return None

    def _extension(self, header: Header, pending: _Pending) -> None:
        if header.type == _LONG_NAME:
            _once(pending.name)
            pending.name = self._long_text(header.size)
        elif header.type == _LONG_LINK:
            _once(pending.link)
            pending.link = self._long_text(header.size)
        elif header.type == _PAX:
            _once(pending.pax)
            pending.pax = self._records(header.size)
        else:
            self._apply_globally(self._records(header.size))

    def _long_text(self, size: int) -> bytes:
        text, _, rest = self._extended(size, self._limits.max_name + 1).partition(b"\0")
        if rest.strip(b"\0"):
            raise HeaderError("a long name has a zero byte in it")
        return text

    def _records(self, size: int) -> dict[str, str]:
        records = decode_records(self._extended(size, self._limits.max_pax))
        if any(key.startswith(_SPARSE) for key in records):
            raise self._unsupported("a sparse file", records.get("GNU.sparse.name"))
        return records

    def _extended(self, size: int, limit: int) -> bytes:
        if size > limit:
            raise HeaderError(f"an extended header of {size} bytes is over the limit of {limit}")
        data = self._input.read(size)
        self._input.skip(padding(size))
        return data

    def _apply_globally(self, records: dict[str, str]) -> None:
        self._global_headers += 1
        self._globals = {**self._globals, **records}
        total = sum(len(key) + len(text) for key, text in self._globals.items())
        if total > self._limits.max_pax or self._global_headers > _MAX_GLOBALS:
            raise HeaderError("there are too many global extended headers")

    def _entry(self, header: Header, pending: _Pending) -> TarEntry:
        pax = self._in_force(pending.pax)
        name = self._text(pending.name, header.name, pending.pax, pax, "path")
        link = self._text(pending.link, header.link, pending.pax, pax, "linkpath")
        kind = KINDS.get(header.type)
        if kind is None:
            sort = _UNSUPPORTED.get(header.type, f"an entry of the unknown type {header.type!r}")
            raise self._unsupported(sort, name)
        if header.type == b"\0" and name.endswith("/"):
            kind = "dir"  # as v7 wrote directories
        size = whole("size", text) if (text := pax.get("size")) else header.size
        if kind != "file":
            size = 0  # the number, if there is one, is not that of any bytes
        self._accept(name, size)
        return TarEntry(
            name=name,
            kind=kind,
            size=size,
            mode=header.mode,
            uid=whole("uid", text) if (text := pax.get("uid")) else header.uid,
            gid=whole("gid", text) if (text := pax.get("gid")) else header.gid,
            mtime_ns=seconds(text) if (text := pax.get("mtime")) else header.mtime * _SECOND,
            link=link if kind in _LINKS else "",
            offset=self._input.position,
            uname=pax.get("uname") or decode_text(header.uname),
            gname=pax.get("gname") or decode_text(header.gname),
            device=header.device if kind in _DEVICES else None,
            pax=pax,
        )

    def _in_force(self, local: dict[str, str] | None) -> Mapping[str, str]:
        if local and self._globals:
            return ChainMap(local, self._globals)
        return local or self._globals

    def _text(
        self,
        long: bytes | None,
        short: bytes,
        local: dict[str, str] | None,
        pax: Mapping[str, str],
        key: str,
    ) -> str:
        """A name or link target: the GNU long one, the PAX one, or that of the header itself."""
        if long is not None:
            if local and key in local:
                raise HeaderError(f"the {key} of an entry is given twice")
            return decode_text(long)
        text = pax.get(key)
        if not text:
            return decode_text(short)
        if "\0" in text:
            raise HeaderError(f"the {key} of an entry has a zero byte in it")
        if len(encode_text(text)) > self._limits.max_name:
            raise HeaderError(
                f"the {key} of an entry is over the limit of {self._limits.max_name} bytes"
            )
        return text

    def _accept(self, name: str, size: int) -> None:
        limit = self._limits.max_entry_size
        if limit is not None and size > limit:
            raise HeaderError(f"{_shown(name)} has {size} bytes, over the limit of {limit}")
        if self._input.position + size > MAX_NUMBER - BLOCK:
            raise HeaderError(f"{_shown(name)} has an impossible size of {size} bytes")
        self._rest, self._pad = size, padding(size)

    def _end(self) -> None:
        if self._input.block() != _ZEROS:
            raise HeaderError("a block of zeros stands alone where two mark the end")
        seen = 0
        while data := self._input.padding():
            if data.count(0) != len(data):
                at = self._input.position - len(data.lstrip(b"\0"))
                raise IntegrityError(f"{self._what} has trailing garbage at byte {at}")
            seen += len(data)
            if seen > self._limits.max_padding:
                raise HeaderError(
                    f"more than {self._limits.max_padding} bytes of zeros follow the end"
                )

    def _unsupported(self, sort: str, name: str | None) -> UnsupportedError:
        named = f" ({_shown(name)})" if name else ""
        return UnsupportedError(f"{self._what} holds {sort}{named}, which kstore does not read")


def _once(seen: object) -> None:
    if seen is not None:
        raise HeaderError("an entry has two extended headers of one sort")


def _shown(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
