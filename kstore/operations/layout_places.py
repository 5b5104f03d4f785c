"""What is attached to images in OCI layouts: entries of index.json beside theirs."""

from __future__ import annotations

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
from kstore.manifest import RawManifest, parse
from kstore.manifest.attached import describe_referrer, tagged_subject
from kstore.operations.attached import Attached, Place
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
        yield from self._found.get(subject, ())

    @cached_property
    def _found(self) -> Mapping[Digest, list[Attached]]:
        """What is attached to what; read once, as everything must be looked at to find out."""
        index, files = self._find_index(), self._files
        if index is None or files is None:
            return {}
        found: dict[Digest, list[Attached]] = {}
        subjects = subjects_of(index, files.read_small_blob)
        for entry, ref, subject in zip(index.entries, index.refs, subjects, strict=True):
            if subject is not None and (data := files.read_small_blob(entry.digest)) is not None:
                raw = RawManifest.receive(data, entry.media_type or None, entry.digest)
                found.setdefault(subject, []).append(_attached(subject, raw, ref))
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
        for position, entry in enumerate(self._entries()):
            if entry.digest == attached.descriptor.digest:
                return replace(self.reference, selector=Selector(position=position))
        raise ManifestNotFoundError(
            f"{self.reference.path} does not list {attached.descriptor.digest} any more"
        )

    def target(self, attached: Attached) -> ImageReference:
        return replace(self.reference, selector=Selector(ref=attached.tag))

    def _entries(self) -> tuple[Descriptor, ...]:
        index = self._find_index()
        return index.entries if index else ()


def _attached(subject: Digest, raw: RawManifest, ref: str | None) -> Attached:
    if ref is not None and tagged_subject(ref) == subject:
        return Attached(subject, raw.descriptor, ref)
    return Attached(subject, describe_referrer(raw, parse(raw)))
