"""The images that a file or a directory holds, whatever its format.

The names are those podman and docker give: RepoTags; in OCI layouts the name containerd notes, or
else ``org.opencontainers.image.ref.name``, which without a registry is one of ``localhost``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import IntegrityError, InvalidReferenceError
from kstore.formats.archive import Archive, open_archive
from kstore.formats.docker_image import CONTAINERD_NAME
from kstore.formats.docker_legacy import legacy_images
from kstore.formats.docker_tar import LIST
from kstore.formats.layout_attached import attached_entries
from kstore.formats.oci_layout import INDEX_FILE, REF_NAME, Selector
from kstore.interfaces import ImageReference
from kstore.reference import LOCAL_DOMAIN, Named
from kstore.streams import Cancel
from kstore.transports.dir import DirReference
from kstore.transports.dir_files import MANIFEST_FILE
from kstore.transports.docker_archive import DockerArchiveReader, DockerArchiveTransport
from kstore.transports.oci import OciReference, OciTransport
from kstore.transports.oci_archive import OciArchiveTransport
from kstore.transports.oci_directory import LayoutDirectory, LayoutFiles
from kstore.values import dataclass

__all__ = ["Offered", "images_in"]


@dataclass(frozen=True, slots=True)
class Offered:
    """An image that is there, and the names it goes by there (none, perhaps).

    ``attached``: it is no image, but belongs to one of those that are.
    """

    reference: ImageReference
    names: tuple[Named, ...]
    attached: bool = False


@contextlib.contextmanager
def images_in(
    source: Path | BinaryIO, *, spool_dir: Path, cancel: Cancel | None = None
) -> Iterator[Sequence[Offered]]:
    """The images in a file, a directory or a stream, to be read inside the block.

    What is compressed or a pipe is first unpacked into ``spool_dir``.  Where an archive is both
    docker's and an OCI layout, docker's list of images counts, and manifests come from the layout.

    Raises NotFoundError, StorageError, and IntegrityError for what holds no images.
    """
    if isinstance(source, Path) and source.is_dir():
        yield _in_directory(source, cancel)
        return
    archive = open_archive(source, spool_dir=spool_dir, cancel=cancel)
    with contextlib.closing(archive):
        if LIST in archive or (INDEX_FILE not in archive and legacy_images(archive)):
            yield _in_docker_archive(archive, spool_dir, cancel)
        elif INDEX_FILE in archive:
            home = OciArchiveTransport(spool_dir, cancel=cancel)
            reader = home.reader_of(archive.what, archive)
            yield _grouped([ref for ref, _ in reader.images()], reader.files)
        else:
            raise IntegrityError(
                f"{archive.what} holds no images: it has neither {LIST} nor {INDEX_FILE}",
                hint="kstore import makes an image of a tar of files",
            )


def _in_docker_archive(
    archive: Archive, spool_dir: Path, cancel: Cancel | None
) -> Sequence[Offered]:
    home = DockerArchiveTransport(spool_dir, cancel=cancel)
    reader = DockerArchiveReader(archive, cancel)
    references = home.references(archive.what, reader)
    return [
        Offered(reference, image.names)
        for reference, image in zip(references, reader.images, strict=True)
    ]


def _in_directory(path: Path, cancel: Cancel | None) -> Sequence[Offered]:
    if (path / INDEX_FILE).exists():
        home = OciTransport(cancel)
        everything = OciReference(str(path), Selector(), home)
        return _grouped([ref for ref, _ in everything.images()], LayoutDirectory(path))
    if (path / MANIFEST_FILE).exists():
        return [Offered(DirReference(str(path)), ())]
    raise IntegrityError(
        f"{path} holds no images: it is neither an OCI layout ({INDEX_FILE}) nor a dir: image"
        f" ({MANIFEST_FILE})",
        hint=f"tar -C {path} -c . | kstore import - NAME",
    )


def _grouped(references: Sequence[ImageReference], files: LayoutFiles) -> Sequence[Offered]:
    """Each manifest once, with the names of all its entries."""
    index = files.read_index()
    attached = attached_entries(index, files.read_small_blob)
    offered: dict[Digest, Offered] = {}
    for position, (reference, entry) in enumerate(zip(references, index.entries, strict=True)):
        known = offered.get(entry.digest, Offered(reference, (), attached=True))
        names, name = known.names, _name(entry)
        if name is not None and name not in names:
            names = (*names, name)
        offered[entry.digest] = replace(
            known, names=names, attached=known.attached and position in attached
        )
    return list(offered.values())


def _name(entry: Descriptor) -> Named | None:
    """What an entry of an index.json is called; None for what is no image name."""
    for key in (CONTAINERD_NAME, REF_NAME):
        if text := entry.annotations.get(key):
            try:
                named = Named.parse(text, default_domain=LOCAL_DOMAIN).with_default_tag()
            except InvalidReferenceError:
                continue
            # A digest of something else (the index it once came with) would be a false claim.
            return named if named.digest in (None, entry.digest) else None
    return None
