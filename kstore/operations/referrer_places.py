"""Where things that are attached to images are found, and where they are brought."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from kstore.digest import Digest
from kstore.errors import ManifestNotFoundError, UnsupportedError
from kstore.interfaces import ImageReference
from kstore.manifest.attached import ATTACHMENT_SUFFIXES, attachment_tag
from kstore.operations.attached import Attached, Place
from kstore.operations.layout_places import archive_place, directory_place
from kstore.transports.docker import DockerReference
from kstore.transports.docker_places import Places
from kstore.transports.oci import OciReference
from kstore.transports.oci_archive import OciArchiveReference
from kstore.transports.storage import StorageReference
from kstore.transports.stored_artifact import StoredArtifact

__all__ = ["open_place", "shared_place"]


@contextlib.contextmanager
def open_place(reference: ImageReference, *, new: bool = False) -> Iterator[Place]:
    """The place of an image that is to be read, or with ``new`` to be written.

    An archive stays open meanwhile, so that the image and what is attached to it are read from one,
    or written to one, which is there when this ends without an exception.  Raises UnsupportedError
    where nothing can be attached to an image.
    """
    if isinstance(reference, OciArchiveReference) and reference.session is None:
        with reference.writing() if new else reference.reading() as opened:
            yield _place_of(opened)
    else:
        yield _place_of(reference)


def shared_place(reference: ImageReference) -> Place | None:
    """A place for all images beside this one, which tells what is attached to each without looking
    through everything again; None where one image's says nothing of others."""
    return directory_place(reference) if isinstance(reference, OciReference) else None


def _place_of(reference: ImageReference) -> Place:
    match reference:
        case DockerReference():
            return _RegistryPlace(reference)
        case StorageReference():
            return _StorePlace(reference)
        case OciReference():
            return directory_place(reference)
        case OciArchiveReference(session=session) if session is not None:
            return archive_place(reference, session)
    raise UnsupportedError(
        f"nothing can be attached to an image in {reference.transport}: (in a registry, the store,"
        " oci: and oci-archive: it can)"
    )


class _RegistryPlace(Place):
    def __init__(self, reference: DockerReference) -> None:
        self.reference = reference
        self._named = reference.named
        self._held: dict[Digest, set[Digest]] = {}
        self.signatures_travel = reference.has_attachments

    def subjects(self) -> tuple[Digest, ...]:
        found = self._places().head(self.reference.version)
        if found is None:
            raise ManifestNotFoundError(f"there is no image {self._named}")
        return (found.digest,)

    def attached(self, subject: Digest) -> Iterator[Attached]:
        places = self._places()
        for descriptor in places.referrers(subject):
            yield Attached(subject, descriptor)
        for tag in _tags(subject):
            found = places.head(tag)
            if found is not None:
                yield Attached(subject, found, tag)

    def _places(self) -> Places:
        return self.reference.home.places(self._named)

    def holds(self, attached: Attached) -> bool:
        held = self._held.get(attached.subject)
        if held is None:  # asked once: nothing is brought twice
            listed = self.reference.client.referrers(self._named.path, attached.subject)
            held = self._held[attached.subject] = {each.digest for each in listed}
        return attached.descriptor.digest in held

    def tagged(self, tag: str) -> Digest | None:
        found = self.reference.client.head_manifest(self._named.path, tag)
        return found.digest if found else None

    def source(self, attached: Attached) -> ImageReference:
        return self.reference.home.reference(
            replace(self._named, tag=attached.tag, digest=attached.descriptor.digest)
        )

    def target(self, attached: Attached) -> ImageReference:
        named = self._named
        if attached.tag is not None:
            return self.reference.home.reference(named.with_tag(attached.tag))
        return self.reference.home.reference(named.with_digest(attached.descriptor.digest))


class _StorePlace(Place):
    remembers_index = True

    def __init__(self, reference: StorageReference) -> None:
        self.reference = reference
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
            # What came with the image under another name counts where its own name has nothing.
            if self.tagged(tag) in (None, descriptor.digest):
                yield Attached(subject, descriptor, tag)

    def holds(self, attached: Attached) -> bool:
        digest = attached.descriptor.digest
        if all(each.digest != digest for each in self._store.referrers(attached.subject)):
            return False
        record = self._store.manifest(digest)
        return record is not None and record.complete

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


def _tags(subject: Digest) -> Iterator[str]:
    for suffix in ATTACHMENT_SUFFIXES:
        tag = attachment_tag(subject, suffix)
        if tag is not None:
            yield tag
