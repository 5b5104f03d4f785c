"""A deterministic streaming tar writer.

Source: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Extended Header".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from kstore.errors import InvalidInputError
from kstore.formats.tar_headers import (
    BLOCK,
    KINDS,
    EntryKind,
    Header,
    TarLimits,
    encode_header,
    padding,
    split_name,
)
from kstore.formats.tar_pax import encode_records, encode_text, from_nanoseconds

__all__ = ["TarWriter"]

_NONE: Final[Mapping[str, str]] = MappingProxyType({})
_TYPES: Final = {kind: flag for flag, kind in KINDS.items() if flag not in (b"\0", b"7")}
_LIMITS: Final = TarLimits()  # what our own reader accepts
_SECOND: Final = 1_000_000_000
_SHORT: Final = 8**7  # numbers of the 8-byte fields are below this
_LONG: Final = 8**11  # and of the 12-byte ones
_LINK_ROOM: Final = 100
_OWNER_ROOM: Final = 32
#: Records that arguments of ``add`` express.
_OWN: Final = frozenset(
    {"path", "linkpath", "size", "uid", "gid", "mtime", "uname", "gname", "hdrcharset"}
)
_BINARY: Final = {"hdrcharset": "BINARY"}


class TarWriter:
    """Writes an archive whose bytes depend on the calls alone.

    ``write`` gets every piece and must take all of it.  Headers are USTAR; PAX records are added
    only where USTAR cannot say it.  Calls in the wrong order, or content that is not of the
    announced size, are a RuntimeError: a defect of the caller.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._write = write
        self._position = 0
        self._rest = 0  # bytes of the current file still to come
        self._pad = 0
        self._finished = False

    @property
    def position(self) -> int:
        """Bytes written so far."""
        return self._position

    def add(
        self,
        name: str,
        *,
        kind: EntryKind = "file",
        size: int = 0,
        mode: int = 0o644,
        uid: int = 0,
        gid: int = 0,
        mtime_ns: int = 0,
        link: str = "",
        uname: str = "",
        gname: str = "",
        device: tuple[int, int] | None = None,
        pax: Mapping[str, str] = _NONE,
    ) -> None:
        """Begin a member; the ``size`` bytes of a file follow through :meth:`write`.

        A directory's name gets its final ``/``.  ``pax`` is for extended attributes and the like:
        records that another argument expresses are ignored.  Raises InvalidInputError for a name
        or record that no archive can hold.
        """
        self._require_complete()
        if min(size, mode, uid, gid, *(device or ())) < 0 or (size and kind != "file"):
            raise RuntimeError(f"impossible numbers for the tar entry {name!r}")
        if max(device or (0,)) >= _SHORT:
            raise InvalidInputError(f"the device number of {name!r} does not fit into an archive")
        if kind == "dir" and not name.endswith("/"):
            name += "/"
        records = {key: text for key, text in pax.items() if key not in _OWN}
        _check(name, link, uname, gname, records)
        header = Header(
            type=_TYPES[kind],
            name=_name(records, name),
            size=_number(records, "size", size, _LONG),
            mode=mode & 0o7777,
            uid=_number(records, "uid", uid, _SHORT),
            gid=_number(records, "gid", gid, _SHORT),
            mtime=_time(records, mtime_ns),
            link=_text(records, "linkpath", link, _LINK_ROOM),
            uname=_text(records, "uname", uname, _OWNER_ROOM),
            gname=_text(records, "gname", gname, _OWNER_ROOM),
            device=device,
        )
        if records:
            self._extend(name, records)
        self._put(encode_header(header))
        self._rest = size
        self._pad = padding(size)

    def write(self, view: bytes | memoryview) -> None:
        """Content of the file added last."""
        count = len(view)
        if count > self._rest or self._finished:
            raise RuntimeError(f"{count} bytes for a tar entry that lacks only {self._rest}")
        if count == 0:
            return
        self._put(view)
        self._rest -= count
        if self._rest == 0 and self._pad:
            self._put(bytes(self._pad))

    def write_again(self, position: int, size: int) -> None:
        """The file added last, of ``size`` bytes, has its content once more from ``position`` on,
        where it began; the caller has cut off what was written behind."""
        self._position = position
        self._rest = size

    def add_bytes(self, name: str, data: bytes, *, mode: int = 0o644, mtime_ns: int = 0) -> None:
        """A whole file at once."""
        self.add(name, size=len(data), mode=mode, mtime_ns=mtime_ns)
        self.write(data)

    def finish(self) -> None:
        """Write the end marker, two blocks of zeros; required, and the last call."""
        self._require_complete()
        self._put(bytes(2 * BLOCK))
        self._finished = True

    def _require_complete(self) -> None:
        if self._finished:
            raise RuntimeError("the tar archive is finished already")
        if self._rest:
            raise RuntimeError(f"the last tar entry lacks {self._rest} bytes")

    def _extend(self, name: str, records: Mapping[str, str]) -> None:
        binary = any(_is_binary(records.get(key, "")) for key in _OWN)
        ordered = {**(_BINARY if binary else {}), **dict(sorted(records.items()))}
        data = encode_records(ordered)
        if len(data) > _LIMITS.max_pax:
            raise InvalidInputError(f"the attributes of {name!r} are too long for an archive")
        self._put(encode_header(Header(type=b"x", name=b"././@PaxHeader", size=len(data))))
        self._put(data + bytes(padding(len(data))))

    def _put(self, data: bytes | memoryview) -> None:
        self._write(data)
        self._position += len(data)


def _check(name: str, link: str, uname: str, gname: str, records: Mapping[str, str]) -> None:
    try:
        lengths = [len(encode_text(text)) for text in (name, link, uname, gname)]
        encode_records(records)
    except UnicodeEncodeError as exc:
        raise InvalidInputError(f"{name!r} does not fit into an archive: {exc.reason}") from exc
    if not name or any("\0" in text for text in (name, link, uname, gname, *records)):
        raise InvalidInputError(f"{name!r} does not fit into an archive: empty, or a zero byte")
    if max(lengths) > _LIMITS.max_name:
        raise InvalidInputError(f"{name[:40]!r}... is too long for an archive")
    if any(not key or "=" in key for key in records):
        raise InvalidInputError(f"an attribute of {name!r} has a name that no archive can hold")


def _name(records: dict[str, str], name: str) -> bytes:
    data = encode_text(name)
    if not data.isascii() or split_name(data) is None:
        records["path"] = name
        return name.encode("ascii", "replace")
    return data


def _text(records: dict[str, str], key: str, text: str, room: int) -> bytes:
    if not text.isascii() or len(text) > room:
        records[key] = text
        return text.encode("ascii", "replace")
    return text.encode()


def _number(records: dict[str, str], key: str, value: int, room: int) -> int:
    if value < room:
        return value
    records[key] = str(value)
    return 0


def _time(records: dict[str, str], mtime_ns: int) -> int:
    units, rest = divmod(mtime_ns, _SECOND)
    fits = 0 <= units < _LONG
    if rest or not fits:
        records["mtime"] = from_nanoseconds(mtime_ns)
    return units if fits else 0


def _is_binary(text: str) -> bool:
    """Whether ``text`` stands for bytes that are not UTF-8."""
    return not text.isascii() and any("\udc80" <= sign <= "\udcff" for sign in text)
