"""Writing an archive that docker, podman and OCI tools read.

Blobs go in as they are, each once, named by digest; the manifests go with them, so that what is
loaded from the archive is the same image down to its manifest's digest.  The same images written in
the same order give the same bytes.

Sources: moby ``image/spec/v1.2.md``; OCI image layout specification 1.1.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import ConflictError, IntegrityError
from kstore.formats.docker_image import CONTAINERD_NAME
from kstore.formats.docker_tar import LIST, MAX_LIST_SIZE
from kstore.formats.layout_tar import Again, LayoutTar
from kstore.formats.oci_layout import INDEX_FILE, LAYOUT_FILE, LAYOUT_MARK, REF_NAME, blob_name
from kstore.manifest import Manifest, RawManifest, parse_image
from kstore.reference import Named
from kstore.streams import Readable
from kstore.values import dataclass

__all__ = ["DockerTarWriter"]


@dataclass(slots=True)
class _Entry:
    raw: RawManifest
    manifest: Manifest
    names: list[Named] = field(default_factory=list)


class DockerTarWriter:
    """Blobs first, then the manifest that needs them; :meth:`finish` once, at the end.

    ``write`` takes all of what it is given.  After an exception the archive is worthless.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._tar = LayoutTar(write)
        self._entries: dict[Digest, _Entry] = {}
        self._owners: dict[Named, Digest] = {}

    def has(self, digest: Digest, size: int) -> bool:
        """Whether this blob is in the archive."""
        return self._tar.has(digest, size)

    def add_blob(
        self, digest: Digest, size: int, stream: Readable, again: Again | None = None
    ) -> None:
        """Add a blob; see :meth:`LayoutTar.add_blob`."""
        self._tar.add_blob(digest, size, stream, again)

    def add_image(self, raw: RawManifest, names: Sequence[Named]) -> None:
        """Add an image whose blobs are all there, under names with tags (or none).

        Raises ConflictError if another image has one of the names, IntegrityError if a blob is
        missing.
        """
        manifest = parse_image(raw)
        for blob in manifest.blobs:
            if not self.has(blob.digest, blob.size):
                raise IntegrityError(f"manifest {raw.digest} needs blob {blob.digest} beside it")
        for name in names:
            if self._owners.get(name, raw.digest) != raw.digest:
                raise ConflictError(f"two images for one archive are both called {name}")
        self._tar.add_manifest(raw.digest, raw.data)
        entry = self._entries.setdefault(raw.digest, _Entry(raw, manifest))
        entry.names = sorted({*entry.names, *names})
        self._owners |= dict.fromkeys(names, raw.digest)

    def finish(self) -> None:
        """Write the lists by which readers find the images, and the end of the archive."""
        entries = list(self._entries.values())
        images = _dump([_image(entry) for entry in entries])
        if len(images) > MAX_LIST_SIZE:
            raise ConflictError(
                f"the list of {len(entries)} images is larger than the {MAX_LIST_SIZE} bytes that"
                " readers take",
                hint="write several archives",
            )
        self._tar.add_file(INDEX_FILE, _dump(_index(entries)))
        self._tar.add_file(LIST, images)
        self._tar.add_file(LAYOUT_FILE, LAYOUT_MARK)
        self._tar.add_file("repositories", _dump(_repositories(entries)))
        self._tar.finish()


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _image(entry: _Entry) -> dict[str, Any]:
    """How docker and podman find an image.

    Tags are full names: a short one is of docker.io for docker, and of localhost for podman.
    """
    return {
        "Config": blob_name(entry.manifest.config.digest),
        "RepoTags": [str(name) for name in entry.names],
        "Layers": [blob_name(layer.digest) for layer in entry.manifest.layers],
    }


def _index(entries: Sequence[_Entry]) -> dict[str, Any]:
    """The OCI side: an entry for each name, annotated as docker and containerd do it."""
    members = []
    for entry in entries:
        blob = entry.raw.descriptor
        notes = [{CONTAINERD_NAME: str(name), REF_NAME: name.tag or ""} for name in entry.names]
        for note in notes or [{}]:
            described = Descriptor(blob.media_type, blob.digest, blob.size, note)
            members.append(described.to_json())
    return {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": members}


def _repositories(entries: Sequence[_Entry]) -> dict[str, dict[str, str]]:
    """Names to top layers, for readers of the time before ``manifest.json``."""
    result: dict[str, dict[str, str]] = {}
    for entry in entries:
        for name in entry.names:
            if entry.manifest.layers and name.tag:
                repository = name.repository
                result.setdefault(repository, {})[name.tag] = entry.manifest.layers[-1].digest.hex
    return result
