"""Where ``sync`` finds images, and what they are called where it brings them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kstore.digest import Digest
from kstore.errors import (
    AmbiguousNameError,
    InvalidInputError,
    InvalidReferenceError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from kstore.formats.docker_image import CONTAINERD_NAME
from kstore.formats.layout_attached import attached_entries
from kstore.formats.oci_layout import REF_NAME, LayoutIndex, Selector
from kstore.interfaces import ImageReference
from kstore.manifest.attached import is_attachment_tag
from kstore.operations.copy import parse_end
from kstore.reference import LOCAL_DOMAIN, Named, has_domain, is_tag
from kstore.store import NameRecord
from kstore.transports import Transports
from kstore.transports.dir import DirReference
from kstore.transports.dir_files import MANIFEST_FILE
from kstore.transports.oci import OciReference
from kstore.transports.oci_directory import LayoutDirectory
from kstore.values import dataclass

__all__ = ["PLACES", "SyncItem", "destination_text", "find_images", "make_parents"]

#: Directories below a place of ``dir:`` images that are looked into, and how many images at most.
MAX_DEPTH = 8
MAX_IMAGES = 100_000


@dataclass(frozen=True, slots=True)
class SyncItem:
    """An image to bring: its reference in full, and what it is called: a repository with a tag, or
    with the digest where there is no tag.  ``attached``: it is none, but belongs to images."""

    source: str
    repository: str
    tag: str | None
    digest: Digest | None = None
    attached: bool = False

    @property
    def version(self) -> str:
        """``:tag`` or ``@digest``."""
        return f"@{self.digest}" if self.tag is None else f":{self.tag}"


def find_images(transports: Transports, text: str) -> Sequence[SyncItem]:
    """The images at ``text``: a repository or one image of a registry or the store (``kstore:``
    alone is all of it), an OCI layout or one image of it, a ``dir:`` image or a directory of such.

    Raises InvalidReferenceError, UnsupportedError for other transports, NotFoundError if there is
    nothing, and what the transports raise.
    """
    name, _, rest = text.partition(":")
    find = _FINDERS.get(name)
    if find is None:
        parse_end(transports, text)  # says what is wrong with what is no reference at all
        raise UnsupportedError(
            f"images of transport {name} cannot be synchronised (those of {', '.join(PLACES)} can)",
            hint=f"kstore copy {text[:200]} DESTINATION",
        )
    items = find(transports, rest)
    if not items:
        raise NotFoundError(f"there is no image at {text[:200]}")
    return items


def _in_registry(transports: Transports, rest: str) -> Sequence[SyncItem]:
    parse_end(transports, f"docker:{rest}")
    named = Named.parse(rest.removeprefix("//"))
    if not named.is_bare:
        return [SyncItem(f"docker://{named}", named.repository, named.tag, named.digest)]
    tags = transports.docker.client(named.domain, named.path).tags(named.path)
    return [
        SyncItem(
            f"docker://{named.with_tag(tag)}",
            named.repository,
            tag,
            attached=is_attachment_tag(tag),
        )
        for tag in tags
        if is_tag(tag)  # some registries list what nobody could ask them for
    ]


def _in_store(transports: Transports, rest: str) -> Sequence[SyncItem]:
    store = transports.storage.store
    if not rest:
        return [_stored(record) for record in store.names()]
    if Named.parse(rest).is_bare:
        domains = ("docker.io",) if has_domain(rest) else (LOCAL_DOMAIN, "docker.io")
        for domain in domains:
            repository = Named.parse(rest, default_domain=domain).repository
            if records := store.names(repository):
                return [_stored(record) for record in records]
        return []
    name = store.find_image(rest).name
    assert name is not None, "a name with a tag or a digest was looked up"
    return [SyncItem(f"kstore:{name}", name.repository, name.tag, name.digest)]


def _stored(record: NameRecord) -> SyncItem:
    name = record.name
    attached = name.tag is not None and is_attachment_tag(name.tag)
    return SyncItem(f"kstore:{name}", name.repository, name.tag, name.digest, attached)


def _in_layout(transports: Transports, rest: str) -> Sequence[SyncItem]:
    reference = parse_end(transports, f"oci:{rest}")
    assert isinstance(reference, OciReference)
    files = LayoutDirectory(Path(reference.path))
    index = files.read_index()
    attached = attached_entries(index, files.read_small_blob)
    selector = reference.selector
    chosen = [index.find(selector)] if str(selector) else range(len(index.entries))
    items: dict[tuple[str, str], SyncItem] = {}
    for position in chosen:
        entry = index.entries[position]
        notes = entry.annotations
        source = f"oci:{reference.path}:{_shortest(index, position)}"
        item = _called(source, notes.get(CONTAINERD_NAME), reference.path, entry.digest)
        if item.tag is None:
            item = _called(source, notes.get(REF_NAME), reference.path, entry.digest)
        item = replace(item, attached=position in attached)
        items.setdefault((item.repository, item.version), item)
    return list(items.values())


def _shortest(index: LayoutIndex, position: int) -> Selector:
    """What chooses an entry: its name if that is one, and its own alone; else its place."""
    try:
        selector = Selector.parse(index.refs[position])
        if str(selector) and index.find(selector) == position:
            return selector
    except (InvalidReferenceError, AmbiguousNameError):
        pass  # no other way to say it
    return Selector(position=position)


def _called(source: str, text: str | None, path: str, digest: Digest) -> SyncItem:
    """An image by what it is called in a layout or directory at ``path``: a name with a tag, or a
    tag alone, which is one of what the directory is called."""
    own = os.path.basename(os.path.realpath(path)).lower()  # noqa: PTH119 - also of "."
    if text and is_tag(text):
        return SyncItem(source, own, text)
    if text:
        try:
            named = Named.parse(text)
        except InvalidReferenceError:
            named = None
        if named is not None and named.tag is not None:
            repository = text.partition("@")[0].rpartition(":")[0]
            return SyncItem(source, repository, named.tag)
    return SyncItem(source, own, None, digest)


def _in_directory(transports: Transports, rest: str) -> Sequence[SyncItem]:
    parse_end(transports, f"dir:{rest}")
    top = Path(rest)
    if not top.is_dir():
        raise NotFoundError(f"there is no directory {rest}")
    single = (top / MANIFEST_FILE).exists()
    paths = [top] if single else list(_image_directories(top, MAX_DEPTH))
    if len(paths) > MAX_IMAGES:
        raise UnsupportedError(f"{rest} holds more than {MAX_IMAGES} images")
    base = top.resolve().parent if single else top.resolve()
    items = []
    for path in paths:
        name = str(path.resolve().relative_to(base))
        repository, colon, tag = name.rpartition(":")
        if colon and "/" not in tag and "@" not in repository:
            items.append(SyncItem(f"dir:{path}", repository, tag))
        else:
            items.append(SyncItem(f"dir:{path}", name.partition("@")[0], "latest"))
    return items


def _image_directories(top: Path, depth: int) -> Iterator[Path]:
    """Directories that are ``dir:`` images, in the order of their names; links are not followed."""
    try:
        with os.scandir(top) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError as exc:
        raise StorageError(f"cannot read {top}: {exc.strerror}") from exc
    for name in names:
        path = top / name
        if (path / MANIFEST_FILE).exists():
            yield path
        elif depth > 1:
            yield from _image_directories(path, depth - 1)


_FINDERS: Mapping[str, Callable[[Transports, str], Sequence[SyncItem]]] = {
    "docker": _in_registry,
    "kstore": _in_store,
    "oci": _in_layout,
    "dir": _in_directory,
}
#: Transports that images are synchronised between.
PLACES = tuple(_FINDERS)


def destination_text(item: SyncItem, place: str, *, scoped: bool, suffix: str = "") -> str:
    """The reference of an image at ``place``: below it, under the last component of its repository,
    or with ``scoped`` under all of it.  ``suffix`` is added to its tag.

    ``kstore:`` alone keeps the names.  Raises InvalidInputError, UnsupportedError.
    """
    transport, _, rest = place.partition(":")
    version = item.version + (suffix if item.tag is not None else "")
    keeps = scoped or (transport == "kstore" and not rest)
    name = (item.repository if keeps else item.repository.rpartition("/")[2]) + version
    rest = rest.rstrip("/") if rest.strip("/") else rest
    match transport:
        case "docker" if rest.strip("/"):
            return f"docker:{rest}/{name}"
        case "kstore":
            text = f"{rest}/{name}" if rest else name
            return f"kstore:{Named.parse(text, default_domain=LOCAL_DOMAIN)}"
        case "oci" if rest and ":" not in rest:
            return f"oci:{rest}:{name}"
        case "dir" if rest:
            return f"dir:{Path(rest) / name}"
    if transport in PLACES:
        raise InvalidInputError(
            f"{place[:200]!r} is not a place for images",
            hint="docker://REGISTRY[/PATH], oci:DIR, dir:DIR or kstore:[PREFIX]",
        )
    raise UnsupportedError(
        f"images cannot be synchronised to {place[:200]!r} ({', '.join(PLACES)} take them)"
    )


def make_parents(reference: ImageReference) -> Sequence[Path]:
    """Make the directories that a ``dir:`` image needs around it; those that are new, the innermost
    first.  StorageError."""
    if not isinstance(reference, DirReference):
        return ()
    parent = Path(reference.path).absolute().parent
    made = [path for path in (parent, *parent.parents) if not path.exists()]
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise StorageError(f"cannot make {parent}: {exc.strerror}") from exc
    return made
