"""Extended attributes, and the owner and mode that rootless tools note in one of them.

Sources: xattr(7); containers/storage, ``user.containers.override_stat``: ``UID:GID:MODE[:TYPE]``,
the mode octal, the type ``file``, ``dir``, ``symlink``, ``pipe``, ``socket``, or
``char-MAJOR-MINOR`` and ``block-MAJOR-MINOR``.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Literal

import xattr  # type: ignore[import-untyped]

from kstore.errors import IntegrityError
from kstore.values import dataclass

__all__ = ["Override", "carried", "is_opaque", "note_override", "override_of", "read", "write"]

_OVERRIDE = "user.containers.override_stat"
_OPAQUE = ("user.overlay.opaque", "trusted.overlay.opaque")
#: What tools note for themselves: true for this machine alone.
_PRIVATE = ("user.containers.", "user.overlay.", "user.rootlesscontainers", "user.fuseoverlayfs.")
_NONE = {errno.ENOTSUP, errno.ENODATA, errno.EACCES, errno.EPERM}
_REFUSED = {errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.E2BIG, errno.ENOSPC}
_STAT = re.compile(
    r"(\d{1,10}):(\d{1,10}):([0-7]{1,7})(?::(file|dir|symlink|pipe|socket|(char|block)-(\d{1,7})-(\d{1,7})))?",
    re.ASCII,
)

_Special = Literal["char", "block", "fifo"]
_SPECIAL: Mapping[str, _Special] = {"char": "char", "block": "block", "pipe": "fifo"}


@dataclass(frozen=True, slots=True)
class Override:
    """Owner and permission bits a file has in truth; ``kind`` and ``device`` (major and minor)
    where it stands for something that only root can make."""

    uid: int
    gid: int
    mode: int
    kind: _Special | None = None
    device: tuple[int, int] | None = None


def read(descriptor: int) -> dict[str, bytes]:
    """All attributes of an open file; empty where the file system has none.  Raises OSError."""
    found: dict[str, bytes] = {}
    try:
        for name in xattr.listxattr(descriptor):
            try:
                found[name] = xattr.getxattr(descriptor, name)
            except OSError as exc:  # gone meanwhile, or not for this user
                if exc.errno not in _NONE:
                    raise
    except OSError as exc:
        if exc.errno not in _NONE:
            raise
    return found


def write(descriptor: int, name: str, value: bytes) -> bool:
    """Set an attribute; False where the file system, or the user, cannot.  Raises OSError."""
    try:
        xattr.setxattr(descriptor, name, value)
    except OSError as exc:
        if exc.errno in _REFUSED:
            return False
        raise
    return True


def carried(attributes: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those attributes that belong into a layer, sorted."""
    return {
        name: value
        for name, value in sorted(attributes.items())
        if name == "security.capability"
        or (name.startswith("user.") and not name.startswith(_PRIVATE))
    }


def is_opaque(attributes: Mapping[str, bytes]) -> bool:
    """Whether an overlay file system noted that nothing below this directory shows."""
    return any(attributes.get(name) == b"y" for name in _OPAQUE)


def override_of(attributes: Mapping[str, bytes], what: str) -> Override | None:
    """The true owner and mode, None where none are noted; IntegrityError names ``what``."""
    value = attributes.get(_OVERRIDE)
    if value is None:
        return None
    match = _STAT.fullmatch(value.decode("ascii", "replace"))
    if match is None or max(int(match[1]), int(match[2])) >= 1 << 32:
        raise IntegrityError(f"{what} has an attribute {_OVERRIDE} that cannot be read")
    uid, gid, mode, kind, special, major, minor = match.groups()
    return Override(
        uid=int(uid),
        gid=int(gid),
        mode=int(mode, 8) & 0o7777,
        kind=_SPECIAL.get(special or kind or ""),
        device=(int(major), int(minor)) if special else None,
    )


def note_override(descriptor: int, override: Override, kind: Literal["file", "dir"]) -> bool:
    """Note an owner and a mode that this user cannot give; False where that is not possible."""
    text = f"{override.uid}:{override.gid}:0{override.mode:o}:{kind}"
    return write(descriptor, _OVERRIDE, text.encode())
