"""What goes from an OCI layout together with an image: whatever is attached to it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kstore import strictjson
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError
from kstore.formats.oci_layout import LayoutIndex
from kstore.manifest import MAX_MANIFEST_SIZE
from kstore.manifest.attached import tagged_subject
from kstore.values import dataclass

__all__ = ["falling_with"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of index.json: its manifest, the members of that, and what it is attached to."""

    digest: Digest
    members: tuple[Digest, ...]
    subject: Digest | None


def falling_with(
    index: LayoutIndex, position: int, read: Callable[[Digest], bytes | None]
) -> set[int]:
    """The positions of an entry and of those that nothing but it has a use for.

    ``read`` gives the bytes of a manifest, None if it is not there.  What was attached to nothing
    before stays.
    """
    entries = [
        _entry(entry.digest, ref, read(entry.digest))
        for entry, ref in zip(index.entries, index.refs, strict=True)
    ]
    before = _alive(range(len(entries)), entries)
    after = _alive((n for n in range(len(entries)) if n != position), entries)
    return {position, *(before - after)}


def _alive(positions: Iterable[int], entries: list[_Entry]) -> set[int]:
    """Those of ``positions`` that are attached to nothing, or to what is there."""
    waiting = set(positions)
    alive: set[int] = set()
    there: set[Digest | None] = {None}
    while found := {n for n in waiting if entries[n].subject in there}:
        waiting -= found
        alive |= found
        for n in found:
            there |= {entries[n].digest, *entries[n].members}
    return alive


def _entry(digest: Digest, ref: str | None, data: bytes | None) -> _Entry:
    document: dict[str, Any] = {}
    if data is not None:
        try:
            what = f"manifest {digest}"
            value = strictjson.loads(data, what, cap=MAX_MANIFEST_SIZE)
            document = strictjson.as_object(value, what)
        except InvalidManifestError:
            document = {}  # what cannot be understood is attached to nothing, and stays
    listed = document.get("manifests")
    members = map(_digest, listed if isinstance(listed, list) else ())
    subject = _digest(document.get("subject"))
    if subject is None and ref is not None:
        subject = tagged_subject(ref)
    return _Entry(digest, tuple(each for each in members if each is not None), subject)


def _digest(value: Any) -> Digest | None:
    if not isinstance(value, dict):
        return None
    try:
        return Digest.parse(value.get("digest", ""))
    except InvalidDigestError:
        return None
