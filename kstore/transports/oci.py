"""``oci:DIR[:REF | :@INDEX]``: images in an OCI image layout.

Source: OCI image specification 1.1 ``image-layout.md``; the syntax is that of skopeo.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from types import TracebackType

from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    InvalidReferenceError,
    ManifestNotFoundError,
    SizeMismatchError,
    UnsupportedError,
)
from kstore.formats.oci_layout import Selector
from kstore.interfaces import (
    BlobFeed,
    BlobSource,
    DestinationTraits,
    ImageDestination,
    ImageReference,
    ImageSource,
    ImageTransport,
    RetrySink,
    SourceTraits,
    WrittenBlob,
)
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.mediatypes import OCI_INDEX, OCI_MANIFEST
from kstore.store.locks import LockClass
from kstore.streams import Cancel, read_limited
from kstore.transports.base import (
    PathReference,
    end_session,
    require_path_scope,
    stated_blob,
)
from kstore.transports.oci_directory import LayoutDirectory, LayoutFiles, Share, SoundFile
from kstore.values import dataclass

__all__ = ["NAME", "LayoutSource", "OciReference", "OciTransport"]

NAME = "oci"
#: What layouts are written with: other tools find no images of other types in them.
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX)


class OciTransport(ImageTransport):
    """Reaches images in directories that are OCI layouts."""

    def __init__(self, cancel: Cancel | None = None) -> None:
        self.cancel = cancel or Cancel()
        #: Blobs of layouts that were read: many images share a base, which is read for the first.
        self.sound: set[SoundFile] = set()

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> OciReference:
        """Parse ``DIR[:REF | :@INDEX]``; DIR ends at the first colon.

        Without REF it is the only image; ``@0`` is the first entry of index.json.
        """
        path, selector = Selector.split(text, NAME)
        return OciReference(path, selector, self)

    def validate_policy_scope(self, scope: str) -> None:
        require_path_scope(scope)


@dataclass(frozen=True, slots=True)
class OciReference(PathReference):
    """An image in the layout at ``path``."""

    path: str
    selector: Selector
    home: OciTransport = field(repr=False, compare=False)

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return self.selector.within(self.path)

    def images(self) -> tuple[tuple[OciReference, str | None], ...]:
        """Every image of the layout, each with its REF where it has one."""
        refs = LayoutDirectory(Path(self.path)).read_index().refs
        return tuple(
            (OciReference(self.path, Selector(position=n), self.home), ref)
            for n, ref in enumerate(refs)
        )

    def open_source(self) -> LayoutSource:
        return LayoutSource(self, LayoutDirectory(Path(self.path)), self.selector)

    def open_destination(self) -> OciDestination:
        return OciDestination(self)

    def delete(self) -> None:
        """Remove the entry, and the blobs nothing else in the layout needs."""
        LayoutDirectory(Path(self.path)).delete(self.selector, self.home.cancel)


class LayoutSource(ImageSource):
    """Reads one image of a layout, wherever its files are: that of an entry of index.json, or any
    other manifest by its digest.

    External ``urls`` of layers are never followed.
    """

    def __init__(
        self, reference: ImageReference, files: LayoutFiles, wanted: Selector | Digest
    ) -> None:
        self._reference = reference
        self._files = files
        self._index = files.read_index()
        if isinstance(wanted, Digest):
            self._top = self._read(wanted)
            return
        entry = self._index.entries[self._index.find(wanted)]
        # Read now, so that a missing image shows before a destination is opened.
        self._top = self._read(entry.digest)
        if len(self._top.data) != entry.size:
            raise SizeMismatchError(
                f"manifest {entry.digest} has {len(self._top.data)} bytes where index.json of"
                f" {files.where} declares {entry.size}"
            )

    @property
    def reference(self) -> ImageReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        return self._top if instance is None else self._read(instance)

    def _read(self, digest: Digest) -> RawManifest:
        what = f"manifest {digest} of {self._files.where}"
        try:
            with contextlib.closing(self._files.open_blob(digest)) as blob:
                data = read_limited(blob, MAX_MANIFEST_SIZE, what)
        except BlobNotFoundError as exc:
            raise ManifestNotFoundError(
                f"{self._files.where} names manifest {digest}, which is not in it"
            ) from exc
        return RawManifest.receive(data, self._index.declared_type(digest), digest)

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        return self._files.open_blob(descriptor.digest, offset)

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        return ()

    def close(self) -> None:
        """Files are opened one by one."""


class OciDestination(ImageDestination):
    """Writes one image into a layout, beside others and other writers.

    Nothing is made before the first blob.  If the image is not committed, what was written for it
    is removed again, unless somebody else uses it or is writing right now.
    """

    def __init__(self, reference: OciReference) -> None:
        self._ref = destination_ref(reference, reference.selector)
        self._reference = reference
        self._cancel = reference.home.cancel
        self._layout = LayoutDirectory(Path(reference.path))
        self._layout.require_writable()
        self._guard = threading.Lock()
        self._share: Share | None = None
        self._written: set[Digest] = set()
        self._spoiled: set[Digest] = set()  # of the right size, and other bytes
        self._manifest: RawManifest | None = None
        self._committed = False

    @property
    def reference(self) -> OciReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return DestinationTraits(concurrent=True, foreign_urls=True, manifest_types=MANIFEST_TYPES)

    def _begin(self) -> Share:
        with self._guard:
            if self._share is None:
                self._share = self._layout.join(self._cancel)
            return self._share

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        if not self._layout.exists():
            return [False] * len(hints)
        self._begin()  # from here on no other process removes what is found
        there = {
            hint.digest
            for hint in hints
            if hint.digest is not None
            and hint.size is not None
            and self._layout.blobs.has(hint.digest) == hint.size
        }
        sound = self._layout.sound(there, self._reference.home.sound, self._cancel)
        self._spoiled |= there - sound
        return [hint.digest in sound for hint in hints]

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        blob = stated_blob(hint, "an OCI layout")
        self._begin()
        known = self._layout.blobs.has(blob.digest)
        if known == blob.size and blob.digest not in self._spoiled:
            return WrittenBlob(blob, "present")
        self._layout.write_blob(feed, blob.digest)
        self._note(blob.digest, known)
        return WrittenBlob(blob, "copied")

    def _note(self, digest: Digest, known: int | None) -> None:
        if known is None:  # else it stood there before us, and is replaced by a good one
            with self._guard:
                self._written.add(digest)

    def settle(self) -> None:
        """Blobs are durable one by one; their names become so in :meth:`commit`."""

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        self._begin()
        known = self._layout.blobs.has(raw.digest)
        self._layout.blobs.put(raw.digest, raw.data)
        self._note(raw.digest, known)
        if instance is None:
            self._manifest = raw

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        raise UnsupportedError(f"{self._layout.where} cannot keep signatures")

    def commit(self) -> None:
        assert self._manifest is not None, "write_manifest comes first"
        self._layout.sync(self._begin())
        self._layout.publish(self._manifest, self._ref, self._cancel)
        self._committed = True

    def close(self) -> None:
        share, self._share = self._share, None
        if share is None:
            return
        share.held.release()
        if self._committed:
            return
        alone = self._layout.locks.try_lock(LockClass.STORE)
        if alone is None:
            return  # another writer may be using our blobs already
        with alone:
            self._layout.drop_unused(self._written)
            self._layout.remove_if_bare(share)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_session(self.close, value)


def destination_ref(reference: ImageReference, selector: Selector) -> str | None:
    """The REF to write; InvalidReferenceError for a position, which only a reader can mean."""
    if selector.position is not None:
        raise InvalidReferenceError(
            f"cannot write to {reference.transport}:{reference.within_transport}: a position can"
            " only be read",
            hint="name the image, or leave the position out",
        )
    return selector.ref
