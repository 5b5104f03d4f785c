"""Where things that are attached to images are found, and where they are brought."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import ManifestNotFoundError, UnsupportedError
from kstore.formats.oci_layout import Selector
from kstore.interfaces import ImageReference
from kstore.manifest import RawManifest, parse
from kstore.manifest.attached import (
    ATTACHMENT_SUFFIXES,
    attachment_tag,
    describe_referrer,
)
from kstore.transports.docker import DockerReference
from kstore.transports.oci import LayoutSource, OciReference
from kstore.transports.oci_directory import LayoutDirectory
from kstore.transports.storage import StorageReference
from kstore.transports.stored_artifact import StoredArtifact
from kstore.values import dataclass

__all__ = ["Attached", "Place", "place_of"]


@dataclass(frozen=True, slots=True)
class Attached:
    """Something attached to a manifest: a referrer, which says so itself, or what cosign attached
    by nothing but its ``tag``."""

    subject: Digest
    descriptor: Descriptor
    tag: str | None = None

    @property
    def kind(self) -> str | None:
        """The artifact type; for an attachment without one, what cosign calls it."""
        if self.tag is not None:
            return f"cosign {self.tag.rpartition('.')[2]}"
        return self.descriptor.artifact_type

    @property
    def is_signature(self) -> bool:
        """Whether it holds cosign's signatures of its subject."""
        return self.tag is not None and self.tag.endswith(".sig")


class Place(Protocol):
    """An image somewhere, with what is attached to it."""

    #: Whether signatures attached by cosign come with the image already.
    signatures_travel: bool = False
    #: Whether the index that an image was chosen from is remembered with it.
    remembers_index: bool = False

    @abstractmethod
    def subjects(self) -> tuple[Digest, ...]:
        """The manifests the image's name stands for, likeliest first."""

    @abstractmethod
    def attached(self, subject: Digest) -> Iterator[Attached]:
        """What is attached to a manifest, referrers first; the same one may come twice."""

    @abstractmethod
    def tagged(self, tag: str) -> Digest | None:
        """What stands under a tag here, beside the image."""

    @abstractmethod
    def source(self, attached: Attached) -> ImageReference:
        """Where it is read."""

    @abstractmethod
    def target(self, attached: Attached) -> ImageReference:
        """Where it is written, beside the image."""


def place_of(reference: ImageReference) -> Place:
    """The place of an image; UnsupportedError where nothing can be attached to one."""
    for kind, make in _PLACES.items():
        if isinstance(reference, kind):
            return make(reference)
    raise UnsupportedError(
        f"nothing can be attached to an image in {reference.transport}: (in a registry, the store"
        " and oci: it can)"
    )


class _RegistryPlace(Place):
    def __init__(self, reference: DockerReference) -> None:
        self._reference = reference
        self._named = reference.named
        self.signatures_travel = reference.has_attachments

    def subjects(self) -> tuple[Digest, ...]:
        client, named = self._reference.client, self._named
        found = client.head_manifest(named.path, self._reference.version)
        if found is None:
            raise ManifestNotFoundError(f"there is no image {named}")
        return (found.digest,)

    def attached(self, subject: Digest) -> Iterator[Attached]:
        client, path = self._reference.client, self._named.path
        for descriptor in client.referrers(path, subject):
            yield Attached(subject, descriptor)
        for tag in _tags(subject):
            found = client.head_manifest(path, tag)
            if found is not None:
                yield Attached(subject, found, tag)

    def tagged(self, tag: str) -> Digest | None:
        found = self._reference.client.head_manifest(self._named.path, tag)
        return found.digest if found else None

    def source(self, attached: Attached) -> ImageReference:
        return self._reference.home.reference(
            replace(self._named, tag=attached.tag, digest=attached.descriptor.digest)
        )

    def target(self, attached: Attached) -> ImageReference:
        named = self._named
        if attached.tag is not None:
            return self._reference.home.reference(named.with_tag(attached.tag))
        return self._reference.home.reference(named.with_digest(attached.descriptor.digest))


class _StorePlace(Place):
    remembers_index = True

    def __init__(self, reference: StorageReference) -> None:
        self._home = reference.home
        self._store = reference.home.store
        self._text = reference.text
        self._named = reference.named

    def subjects(self) -> tuple[Digest, ...]:
        found = self._store.find_image(self._text)
        record = self._store.name(found.name) if found.name else None
        if record is None:
            return (found.manifest,)
        meant = (record.target, found.manifest, record.via)
        return tuple(dict.fromkeys(digest for digest in meant if digest is not None))

    def attached(self, subject: Digest) -> Iterator[Attached]:
        for descriptor in self._store.referrers(subject):
            yield Attached(subject, descriptor)
        for tag, descriptor in self._store.attachments(subject):
            yield Attached(subject, descriptor, tag)

    def tagged(self, tag: str) -> Digest | None:
        record = self._store.name(self._named.with_tag(tag)) if self._named else None
        return record.target if record else None

    def source(self, attached: Attached) -> ImageReference:
        return StoredArtifact(attached.descriptor.digest, self._home)

    def target(self, attached: Attached) -> ImageReference:
        if attached.tag is None:
            return self._home.reference()  # its subject is all that needs it
        if self._named is None:
            raise UnsupportedError(f"{attached.tag} cannot be kept with an image without a name")
        return self._home.reference(self._named.with_tag(attached.tag))


class _LayoutPlace(Place):
    def __init__(self, reference: OciReference) -> None:
        self._reference = reference
        self._files = LayoutDirectory(Path(reference.path))

    def subjects(self) -> tuple[Digest, ...]:
        with self._reference.open_source() as source:
            return (source.read_manifest().digest,)

    def attached(self, subject: Digest) -> Iterator[Attached]:
        tags = set(_tags(subject))
        for reference, ref in self._reference.images():
            with reference.open_source() as source:
                if ref in tags:
                    yield Attached(subject, source.read_manifest().descriptor, ref)
                elif (found := _referring(source, subject)) is not None:
                    yield Attached(subject, found)

    def tagged(self, tag: str) -> Digest | None:
        index = self._files.find_index()
        refs = index.refs if index else ()
        return index.entries[refs.index(tag)].digest if index and tag in refs else None

    def source(self, attached: Attached) -> ImageReference:
        for reference, _ in self._reference.images():
            with reference.open_source() as source:
                if source.read_manifest().digest == attached.descriptor.digest:
                    return reference
        raise ManifestNotFoundError(
            f"{self._reference.path} does not list {attached.descriptor.digest} any more"
        )

    def target(self, attached: Attached) -> ImageReference:
        return replace(self._reference, selector=Selector(ref=attached.tag))


def _referring(source: LayoutSource, subject: Digest) -> Descriptor | None:
    """The manifest of a layout as a referrer, if it refers to ``subject``."""
    raw: RawManifest = source.read_manifest()
    if b'"subject"' not in raw.data or raw.media_type not in mt.MANIFESTS | mt.INDEXES:
        return None
    view = parse(raw)
    if view.subject is None or view.subject.digest != subject:
        return None
    return describe_referrer(raw, view)


def _tags(subject: Digest) -> Iterator[str]:
    for suffix in ATTACHMENT_SUFFIXES:
        tag = attachment_tag(subject, suffix)
        if tag is not None:
            yield tag


_PLACES: Mapping[type[ImageReference], Callable[[Any], Place]] = {
    DockerReference: _RegistryPlace,
    StorageReference: _StorePlace,
    OciReference: _LayoutPlace,
}
