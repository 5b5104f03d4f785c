"""What is attached to images in OCI layouts: entries of index.json beside theirs.

Read are also referrers that only an index under ``sha256-HEX`` lists, as some tools keep them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import ConflictError, ManifestNotFoundError
from kstore.formats.layout_attached import subjects_of
from kstore.formats.oci_layout import LayoutIndex, Selector
from kstore.interfaces import ImageReference
from kstore.manifest import Index, RawManifest, parse
from kstore.manifest.attached import describe_referrer, tagged_subject
from kstore.operations.attached import Attached, Place
from kstore.transports.layout_artifact import LayoutArtifact
from kstore.transports.oci import OciReference
from kstore.transports.oci_archive import OciArchiveReader, OciArchiveReference, OciArchiveWriter
from kstore.transports.oci_directory import LayoutDirectory, LayoutFiles

__all__ = ["archive_place", "directory_place"]


def directory_place(reference: OciReference) -> Place:
    """The place of an image in a layout that is a directory."""
    files = LayoutDirectory(Path(reference.path))
    return _LayoutPlace(reference, files, files.find_index)


def archive_place(
    reference: OciArchiveReference, session: OciArchiveReader | OciArchiveWriter
) -> Place:
    """The place of an image in an archive that is being read, or written."""
    if isinstance(session, OciArchiveReader):
        return _LayoutPlace(reference, session.files, session.files.read_index)
    return _LayoutPlace(reference, None, lambda: session.index)


class _LayoutPlace(Place):
    """``files`` is None while nothing can be read; ``find_index`` gives index.json as it is now,
    None if there is none."""

    def __init__(
        self,
        reference: OciReference | OciArchiveReference,
        files: LayoutFiles | None,
        find_index: Callable[[], LayoutIndex | None],
    ) -> None:
        self.reference = reference
        self._files = files
        self._find_index = find_index

    def subjects(self) -> tuple[Digest, ...]:
        with self.reference.open_source() as source:
            return (source.read_manifest().digest,)

    def attached(self, subject: Digest) -> Iterator[Attached]:
        for entry, ref in self._found.get(subject, {}).values():
            raw = self._read(entry)
            if ref is not None and tagged_subject(ref) == subject:
                yield Attached(subject, raw.descriptor, ref)
                continue
            view = parse(raw)
            listed = view.manifests if isinstance(view, Index) and view.subject is None else ()
            once = {each.digest: each for each in listed}
            for each in itertools.chain((raw,), map(self._read, once.values())):
                if (found := _referring(each, subject)) is not None:
                    yield Attached(subject, found)

    def _read(self, entry: Descriptor) -> RawManifest:
        assert self._files is not None, "nothing is found while nothing can be read"
        data = self._files.read_small_blob(entry.digest)
        if data is None:
            raise ManifestNotFoundError(f"{self._files.where} has no manifest {entry.digest}")
        return RawManifest.receive(data, entry.media_type or None, entry.digest)

    @cached_property
    def _found(self) -> Mapping[Digest, dict[object, tuple[Descriptor, str | None]]]:
        """Entries by what they are attached to, each once; found out once, as every manifest must
        be looked at for that."""
        index, files = self._find_index(), self._files
        found: dict[Digest, dict[object, tuple[Descriptor, str | None]]] = {}
        if index is None or files is None:
            return found
        subjects = subjects_of(index, files.read_small_blob)
        for entry, ref, subject in zip(index.entries, index.refs, subjects, strict=True):
            if subject is not None:
                found.setdefault(subject, {}).setdefault(ref or entry.digest, (entry, ref))
        return found

    def holds(self, attached: Attached) -> bool:
        return any(entry.digest == attached.descriptor.digest for entry in self._entries())

    def tagged(self, tag: str) -> Digest | None:
        index = self._find_index()
        refs = index.refs if index else ()
        return index.entries[refs.index(tag)].digest if index and tag in refs else None

    def source(self, attached: Attached) -> ImageReference:
        if self._files is None:
            raise ConflictError(
                f"{self.reference.path} is to hold two things as {attached.tag}, and can hold one"
            )
        digest, reference = attached.descriptor.digest, self.reference
        return LayoutArtifact(reference.path, digest, reference.home, self._files)

    def target(self, attached: Attached) -> ImageReference:
        return replace(self.reference, selector=Selector(ref=attached.tag))

    def _entries(self) -> tuple[Descriptor, ...]:
        index = self._find_index()
        return index.entries if index else ()


def _referring(raw: RawManifest, subject: Digest) -> Descriptor | None:
    """A manifest as a referrer, None if it does not refer to ``subject``."""
    view = parse(raw)
    if view.subject is None or view.subject.digest != subject:
        return None
    return describe_referrer(raw, view)
