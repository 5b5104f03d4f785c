"""What in an OCI layout is attached to something else: whose it is, and what goes with an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from kstore import strictjson
from kstore.digest import Digest
from kstore.errors import InvalidDigestError, InvalidManifestError
from kstore.formats.oci_layout import LayoutIndex
from kstore.manifest import MAX_MANIFEST_SIZE
from kstore.manifest.attached import listed_subject, tagged_subject
from kstore.mediatypes import IMAGE_CONFIGS
from kstore.values import dataclass

__all__ = ["attached_entries", "falling_with", "subjects_of"]

#: Bytes of a manifest by its digest, None if it is not there.
Read = Callable[[Digest], bytes | None]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of index.json: its manifest, the members of that, and what it is attached to."""

    digest: Digest
    members: tuple[Digest, ...]
    subject: Digest | None
    is_image: bool


def subjects_of(index: LayoutIndex, read: Read) -> Sequence[Digest | None]:
    """What each entry is attached to: by what it says, or by its name."""
    return [entry.subject for entry in _entries(index, read)]


def attached_entries(index: LayoutIndex, read: Read) -> frozenset[int]:
    """The positions of what is no image, but attached to something that the layout lists."""
    entries = _entries(index, read)
    listed = {entry.digest: entry.members for entry in entries}
    there = {digest for own, members in listed.items() for digest in (own, *members)}
    return frozenset(
        n for n, entry in enumerate(entries) if entry.subject in there and not entry.is_image
    )


def falling_with(index: LayoutIndex, position: int, read: Read) -> set[int]:
    """The positions of an entry and of those that nothing but it has a use for.

    What was attached to nothing before stays.
    """
    entries = _entries(index, read)
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


def _entries(index: LayoutIndex, read: Read) -> list[_Entry]:
    known: dict[Digest, _Entry] = {}  # a thousand entries may name one manifest
    found = []
    for each, ref in zip(index.entries, index.refs, strict=True):
        if each.digest not in known:
            known[each.digest] = _entry(each.digest, read(each.digest))
        entry = known[each.digest]
        tagged = None if ref is None else tagged_subject(ref) or listed_subject(ref)
        if tagged is not None:
            entry = replace(entry, subject=entry.subject or tagged, is_image=False)
        found.append(entry)
    return found


def _entry(digest: Digest, data: bytes | None) -> _Entry:
    """An entry as its manifest alone tells it."""
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
    return _Entry(
        digest,
        tuple(each for each in members if each is not None),
        _digest(document.get("subject")),
        is_image=_is_image(document),
    )


def _is_image(document: dict[str, Any]) -> bool:
    """Whether this is an image or an index of images, also where it refers to another one."""
    if isinstance(document.get("manifests"), list):
        return document.get("artifactType") is None
    config = document.get("config")
    return isinstance(config, dict) and config.get("mediaType") in IMAGE_CONFIGS


def _digest(value: Any) -> Digest | None:
    if not isinstance(value, dict):
        return None
    try:
        return Digest.parse(value.get("digest", ""))
    except InvalidDigestError:
        return None
