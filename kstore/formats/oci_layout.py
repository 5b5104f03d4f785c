"""OCI image layouts: what index.json says, apart from where its files are.

Sources: OCI image specification 1.1 ``image-layout.md`` and ``annotations.md`` (the grammar of
``org.opencontainers.image.ref.name``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import field, replace
from typing import Any, Self

from kstore import mediatypes as mt
from kstore import strictjson
from kstore.descriptor import Descriptor
from kstore.digest import ALGORITHMS, Digest
from kstore.errors import (
    AmbiguousNameError,
    InvalidDigestError,
    InvalidManifestError,
    InvalidReferenceError,
    ManifestNotFoundError,
    UnsupportedError,
)
from kstore.manifest import MAX_INDEX_ENTRIES, MAX_MANIFEST_SIZE, RawManifest, parse
from kstore.manifest.attached import artifact_type_of, is_attachment_tag
from kstore.values import dataclass

__all__ = [
    "INDEX_FILE",
    "LAYOUT_FILE",
    "LAYOUT_MARK",
    "MAX_LAYOUT_MARK",
    "REF_NAME",
    "LayoutIndex",
    "Selector",
    "blob_name",
    "check_layout_mark",
    "reachable",
]

INDEX_FILE = "index.json"
LAYOUT_FILE = "oci-layout"
#: Content of the file that makes a directory a layout.
LAYOUT_MARK = b'{"imageLayoutVersion":"1.0.0"}'
#: Bytes of that file that are read.
MAX_LAYOUT_MARK = 1 << 16
REF_NAME = "org.opencontainers.image.ref.name"

#: Indexes inside indexes that are followed.
MAX_DEPTH = 8
#: Manifests and blobs one layout may mention before it is given up.
MAX_MENTIONED = 1_000_000

_LISTED = 10
_MAX_REF = 1000
_REF = re.compile(
    r"[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
    r"(?:/[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*)*\Z",
    re.ASCII,
)
_VERSION = re.compile(r"1\.[0-9]+\.[0-9]+(?:[-+].*)?\Z", re.ASCII)
_NUMBER = re.compile(r"@(0|[1-9][0-9]{0,8})\Z", re.ASCII)
_DIGEST = re.compile(
    rb"(?<![0-9A-Za-z])(?:"
    + b"|".join(b"%s:[0-9a-f]{%d}" % (name.encode(), n) for name, n in ALGORITHMS.items())
    + rb")(?![0-9a-f])"
)


def blob_name(digest: Digest) -> str:
    """The path of a blob inside a layout."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


def check_layout_mark(data: bytes | None, where: str) -> None:
    """Check the content of ``oci-layout``, None where there is no such file.

    That it is missing or empty (somebody is making it) is no reason not to read what is there.
    Raises UnsupportedError for a version that is not 1.x, InvalidManifestError for what is no such
    file.  Source: OCI image layout, "oci-layout file".
    """
    if not data:
        return
    what = f"{LAYOUT_FILE} of {where}"
    document = strictjson.as_object(strictjson.loads(data, what, cap=MAX_LAYOUT_MARK), what)
    version = document.get("imageLayoutVersion")
    if not isinstance(version, str):
        raise InvalidManifestError(f"{what} states no imageLayoutVersion")
    if _VERSION.match(version) is None:
        raise UnsupportedError(
            f"{where} has imageLayoutVersion {version[:100]!r}, and kstore reads 1.x"
        )


@dataclass(frozen=True, slots=True)
class Selector:
    """Which image of a layout: by ``ref`` name, by ``position`` (from 0), or the only one."""

    ref: str | None = None
    position: int | None = None

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Parse ``REF`` or ``@INDEX``; None is the only image.  Raises InvalidReferenceError."""
        if text is None:
            return cls()
        if text.startswith("@"):
            match = _NUMBER.match(text)
            if match is None:
                raise InvalidReferenceError(
                    f"{text[:100]!r} is not a position in a layout (@0, @1, ...)"
                )
            return cls(position=int(match.group(1)))
        if len(text) > _MAX_REF or _REF.match(text) is None:
            raise InvalidReferenceError(
                f"{text[:100]!r} is not an image name in a layout (words of letters and digits,"
                " joined by one of - . _ : @ + /)"
            )
        return cls(ref=text)

    @classmethod
    def split(cls, text: str, what: str) -> tuple[str, Self]:
        """``(path, selector)`` of ``PATH[:REF | :@INDEX]``; the path ends at the first colon."""
        path, colon, rest = text.partition(":")
        if not path or "\0" in path:
            raise InvalidReferenceError(f"{what} reference {text[:100]!r} has no path")
        if colon and not rest:
            raise InvalidReferenceError(f"{what} reference {text[:100]!r} ends in a colon")
        return path, cls.parse(rest if colon else None)

    def within(self, path: str) -> str:
        """The text :meth:`split` reads as ``path`` and this."""
        return f"{path}:{self}" if str(self) else path

    def __str__(self) -> str:
        return f"@{self.position}" if self.position is not None else self.ref or ""


@dataclass(frozen=True, slots=True)
class LayoutIndex:
    """An index.json: its entries, and the document with every key it had.

    ``where`` names the layout in messages.
    """

    where: str
    entries: tuple[Descriptor, ...]
    document: dict[str, Any] = field(hash=False, repr=False)

    @classmethod
    def new(cls, where: str) -> Self:
        """An index without images."""
        document = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": []}
        return cls(where, (), document)

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Read the bytes of index.json (at most 4 MiB and 1,000 entries).

        Raises InvalidManifestError.
        """
        what = f"{INDEX_FILE} of {where}"
        value = strictjson.loads(data, what, cap=MAX_MANIFEST_SIZE)
        document = strictjson.as_object(value, what)
        listed = document.get("manifests")
        if document.get("schemaVersion") != 2 or not isinstance(listed, list):
            raise InvalidManifestError(f"{what} is not an OCI index")
        if document.get("mediaType", mt.OCI_INDEX) != mt.OCI_INDEX:
            raise InvalidManifestError(f"{what} states a media type that is not an OCI index's")
        if len(listed) > MAX_INDEX_ENTRIES:
            raise InvalidManifestError(
                f"{what} has {len(listed)} entries, more than the limit of {MAX_INDEX_ENTRIES}"
            )
        entries = tuple(
            Descriptor.from_json(entry, f"entry {number} of {what}")
            for number, entry in enumerate(listed)
        )
        return cls(where, entries, document)

    @property
    def refs(self) -> tuple[str | None, ...]:
        """The name of each entry, None for those without one."""
        return tuple(entry.annotations.get(REF_NAME) for entry in self.entries)

    def find(self, selector: Selector) -> int:
        """The position of the entry that ``selector`` means.

        Raises ManifestNotFoundError, or AmbiguousNameError where several fit; both list what
        there is.
        """
        if not self.entries:
            raise ManifestNotFoundError(f"{self.where} holds no image")
        if selector.position is not None:
            if selector.position >= len(self.entries):
                raise ManifestNotFoundError(
                    f"{self.where} has no image {selector}: it holds {len(self.entries)}"
                )
            return selector.position
        if selector.ref is None:
            return self._only(self._images or range(len(self.entries)), "images")
        found = [n for n, ref in enumerate(self.refs) if ref == selector.ref]
        if not found:
            raise ManifestNotFoundError(
                f"{self.where} has no image {selector.ref!r}; it has {self._listing()}"
            )
        return self._only(found, f"images called {selector.ref!r}")

    @property
    def _images(self) -> list[int]:
        """Positions of the entries that are not known to be attached to another one."""
        return [
            position
            for position, (entry, ref) in enumerate(zip(self.entries, self.refs, strict=True))
            if entry.artifact_type is None and (ref is None or not is_attachment_tag(ref))
        ]

    def _only(self, positions: Iterable[int], what: str) -> int:
        """The first of ``positions`` if all of them lead to the same manifest."""
        found = list(positions)
        if len({self.entries[n].digest for n in found}) > 1:
            raise AmbiguousNameError(
                f"{self.where} holds {len(found)} {what}: {self._listing(found)}",
                hint="choose one with PATH:NAME or PATH:@INDEX",
            )
        return found[0]

    def _listing(self, positions: Iterable[int] | None = None) -> str:
        found = list(range(len(self.entries)) if positions is None else positions)
        refs = self.refs
        shown = [f"@{n} {_shown(refs[n])}" for n in found[:_LISTED]]
        more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
        return ", ".join(shown) + more

    def declared_type(self, digest: Digest) -> str | None:
        """The media type an entry states for a manifest, None where no entry does."""
        types = (entry.media_type for entry in self.entries if entry.digest == digest)
        return next(types, None) or None

    def with_image(self, raw: RawManifest, ref: str | None) -> Self:
        """This index with one image more; an older one of that name stays, without the name.

        An entry of the same manifest without a name gets it.  Raises UnsupportedError when the
        index is full.
        """
        same = [n for n, entry in enumerate(self.entries) if entry.digest == raw.digest]
        refs = self.refs
        result = self
        if any(refs[n] == ref for n in same):
            result = self
        elif nameless := [n for n in same if refs[n] is None]:
            result = self._with_document(nameless[0], _named(self._listed[nameless[0]], ref))
        else:
            entry = _named(_described(raw).to_json(), ref)
            result = self._with_document(len(self.entries), entry)
        if ref is not None:
            result = result._without_name(ref, keep=raw.digest)
        if len(result.entries) > MAX_INDEX_ENTRIES:
            raise UnsupportedError(
                f"{self.where} holds {MAX_INDEX_ENTRIES} images already, the most a layout may have"
            )
        return result

    def without(self, *positions: int) -> Self:
        """This index without the entries at ``positions``."""
        listed = [entry for n, entry in enumerate(self._listed) if n not in positions]
        return self._of(listed)

    def render(self) -> bytes:
        """The bytes of index.json."""
        text = json.dumps(self.document, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    @property
    def _listed(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.document["manifests"]
        return listed

    def _without_name(self, ref: str, keep: Digest) -> Self:
        """Other manifests lose the name; a nameless twin of one makes its entry superfluous."""
        nameless = {e.digest for e, name in zip(self.entries, self.refs, strict=True) if not name}
        listed = []
        for entry, name, value in zip(self.entries, self.refs, self._listed, strict=True):
            if name != ref or entry.digest == keep:
                listed.append(value)
            elif entry.digest not in nameless:
                nameless.add(entry.digest)
                listed.append(_named(value, None))
        return self._of(listed)

    def _with_document(self, position: int, entry: dict[str, Any]) -> Self:
        listed = list(self._listed)
        listed[position : position + 1] = [entry]
        return self._of(listed)

    def _of(self, listed: list[dict[str, Any]]) -> Self:
        entries = tuple(Descriptor.from_json(entry, "an entry") for entry in listed)
        return replace(self, entries=entries, document={**self.document, "manifests": listed})


def _described(raw: RawManifest) -> Descriptor:
    """The entry of a manifest; of one that refers to another it says what kind of thing it is."""
    view = parse(raw) if b'"subject"' in raw.data else None
    if view is None or view.subject is None:
        return raw.descriptor
    return replace(raw.descriptor, artifact_type=artifact_type_of(view))


def _shown(ref: str | None) -> str:
    return "(no name)" if ref is None else repr(ref[:100])


def _named(entry: dict[str, Any], ref: str | None) -> dict[str, Any]:
    """``entry`` under the name ``ref``, or without a name; everything else in it stays."""
    annotations = {k: v for k, v in (entry.get("annotations") or {}).items() if k != REF_NAME}
    if ref is not None:
        annotations[REF_NAME] = ref
    rest = {key: value for key, value in entry.items() if key != "annotations"}
    return {**rest, "annotations": annotations} if annotations else rest


def reachable(
    roots: Iterable[Descriptor], read: Callable[[Digest], bytes | None], where: str
) -> set[Digest]:
    """Every digest that ``roots`` mention, themselves included, through indexes and subjects.

    ``read`` gives the bytes of a manifest, None if it is not there or cannot be one.  Mentioning is
    enough: what cannot be understood is never taken for unused.  Raises InvalidManifestError for
    indexes nested too deep.
    """
    followed: set[Digest] = set()
    mentioned: set[Digest] = set()
    level = {root.digest for root in roots}
    for _ in range(MAX_DEPTH + 1):
        followed |= level
        following: set[Digest] = set()
        for digest in level:
            data = read(digest)
            if data is not None:
                following.update(_members(data))
                mentioned |= _mentioned(data)
        if len(followed) + len(mentioned) > MAX_MENTIONED:
            raise InvalidManifestError(f"{where} mentions more than {MAX_MENTIONED} blobs")
        level = following - followed
        if not level:
            return followed | mentioned
    raise InvalidManifestError(f"indexes of {where} are nested deeper than {MAX_DEPTH} levels")


def _mentioned(data: bytes) -> set[Digest]:
    return {Digest.parse(match.group().decode()) for match in _DIGEST.finditer(data)}


def _members(data: bytes) -> list[Digest]:
    """Digests of the manifests that a manifest or index leads to."""
    try:
        value = strictjson.loads(data, "a manifest", cap=MAX_MANIFEST_SIZE)
    except InvalidManifestError:
        return []  # not JSON: whatever it mentions is kept, and leads nowhere
    if not isinstance(value, dict):
        return []
    listed = value.get("manifests")
    entries = [*(listed if isinstance(listed, list) else []), value.get("subject")]
    digests = []
    for entry in entries:
        if isinstance(entry, dict):
            try:
                digests.append(Digest.parse(entry.get("digest", "")))
            except InvalidDigestError:
                continue
    return digests
