"""One image of a docker archive: its manifest, and where its blobs stand.

The manifest comes from the OCI image layout beside ``manifest.json`` where there is one, byte for
byte; otherwise it is made here, and the same archive always gives the same bytes.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping, Sequence

from kstore import mediatypes as mt
from kstore.compression import decompressor, detect
from kstore.descriptor import Descriptor
from kstore.digest import Digest, Hasher
from kstore.errors import (
    DigestMismatchError,
    IntegrityError,
    InvalidManifestError,
    UnsupportedError,
)
from kstore.formats.archive import Archive
from kstore.formats.docker_legacy import LegacyImage, legacy_config
from kstore.formats.oci_layout import blob_name
from kstore.formats.spool import FREE_BYTES, MAX_RATIO
from kstore.manifest import (
    MAX_CONFIG_SIZE,
    MAX_MANIFEST_SIZE,
    ImageConfig,
    RawManifest,
    parse_image,
    parse_index,
)
from kstore.reference import Named
from kstore.streams import ByteStream, Cancel, pump
from kstore.values import dataclass

__all__ = ["CONTAINERD_NAME", "ArchivedImage", "OpenedImage", "open_image"]

#: The annotation by which docker and containerd name a manifest of an index in full.
CONTAINERD_NAME = "io.containerd.image.name"

_MAGIC = 6  # bytes by which compression is told
_INDEX_DEPTH = 2
_MAX_MANIFESTS = 2000


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    """An image as the archive lists it.

    ``position`` counts from 0; ``names`` are those of its tags that are image names; ``config``
    is the config's file, or None in the oldest form, where ``legacy`` tells how to make one;
    ``layers`` are the layers' files, base first.
    """

    position: int
    names: tuple[Named, ...]
    config: str | None
    layers: tuple[str, ...]
    legacy: LegacyImage | None = None


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """A manifest; ``contents`` is for each of its blobs the file it is, or its bytes."""

    raw: RawManifest
    contents: Mapping[Digest, str | bytes]


@dataclass(frozen=True, slots=True)
class _Layer:
    file: str
    digest: Digest
    diff_id: Digest
    size: int
    compression: str


def open_image(archive: Archive, image: ArchivedImage, cancel: Cancel | None = None) -> OpenedImage:
    """Find or make the manifest of ``image``; layers whose digest nobody states are read for it.

    Raises InvalidManifestError if something is missing, contradictory or not what it claims,
    DigestMismatchError for a compressed layer that is not the one the config names,
    UnsupportedError for layers compressed with something else than gzip or zstd.
    """
    layers = [_existing(archive, name) for name in image.layers]
    if image.config is None:
        assert image.legacy is not None, "an image has a config or the means to make one"
        found = [_layer(archive, name, None, cancel) for name in layers]
        made = legacy_config(archive, image.legacy, [layer.diff_id for layer in found])
        return _synthesise(made, made, found)
    file = _existing(archive, image.config)
    config = archive.read(file, MAX_CONFIG_SIZE)
    diff_ids = _diff_ids(archive, image, layers, config)
    beside = _manifest_beside(archive, image, layers, config)
    if beside is not None:
        manifest = parse_image(beside)
        blobs = zip((*manifest.layers, manifest.config), (*layers, file), strict=True)
        return OpenedImage(beside, {blob.digest: name for blob, name in blobs})
    found = [
        _layer(archive, name, diff_id, cancel)
        for name, diff_id in zip(layers, diff_ids, strict=True)
    ]
    return _synthesise(config, file, found)


def _existing(archive: Archive, name: str) -> str:
    """The file ``name`` is, links followed."""
    clean = posixpath.normpath(name)
    if clean not in archive:
        raise InvalidManifestError(
            f"{archive.what} is incomplete: its list of images names {name!r:.200}, which is not in"
            " it"
        )
    return archive.resolve(clean)


def _diff_ids(
    archive: Archive, image: ArchivedImage, layers: Sequence[str], config: bytes
) -> tuple[Digest, ...]:
    """The digests the config gives to the plain layers; one for each, and one for each file."""
    what = f"config {image.config!r:.200} in {archive.what}"
    diff_ids = ImageConfig.parse(config, what).diff_ids
    if len(diff_ids) != len(layers):
        raise InvalidManifestError(
            f"{what} speaks of {len(diff_ids)} layers where the archive lists {len(layers)}"
        )
    by_file: dict[str, Digest] = {}
    for file, diff_id in zip(layers, diff_ids, strict=True):
        if by_file.setdefault(file, diff_id) != diff_id:
            raise InvalidManifestError(
                f"{what} gives {file!r:.200} two digests, {by_file[file]} and {diff_id}"
            )
    return diff_ids


def _layer(archive: Archive, file: str, diff_id: Digest | None, cancel: Cancel | None) -> _Layer:
    """What a manifest says of a layer; a plain one that the config names need not be read."""
    size = archive.size(file)
    with archive.open(file) as start:
        magic = memoryview(bytearray(_MAGIC))
        compression = detect(bytes(magic[: start.readinto(magic)]))
    if compression not in ("none", "gzip", "zstd"):
        raise UnsupportedError(
            f"layer {file!r:.200} in {archive.what} is compressed with {compression}"
            " (gzip, zstd and plain ones are supported)"
        )
    if compression == "none" and diff_id is not None:
        return _Layer(file, diff_id, diff_id, size, compression)
    hasher = Digest.new_hasher()
    unpacked = Digest.new_hasher(diff_id.algorithm if diff_id else "sha256")
    with archive.open(file) as member:
        most = max(FREE_BYTES, MAX_RATIO * size)
        plain = decompressor(compression, _Hashed(member, hasher), max_output=most)
        try:
            pump(plain, unpacked.update, cancel=cancel)
        except IntegrityError as exc:
            raise IntegrityError(f"layer {file!r:.200} in {archive.what}: {exc}") from exc
    digest = Digest.from_hasher(hasher)
    found = Digest.from_hasher(unpacked, diff_id.algorithm if diff_id else "sha256")
    if diff_id is not None and found != diff_id:
        raise DigestMismatchError(
            f"layer {file!r:.200} in {archive.what} unpacks to {found} where the image's config"
            f" says {diff_id}"
        )
    return _Layer(file, digest, found, size, compression)


class _Hashed(ByteStream):
    """A stream whose bytes are hashed as they are read."""

    def __init__(self, stream: ByteStream, hasher: Hasher) -> None:
        self._stream = stream
        self._hasher = hasher

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._stream.readinto(buffer) or 0
        self._hasher.update(buffer[:count])
        return count

    def close(self) -> None:
        self._stream.close()


def _synthesise(config: bytes, file: str | bytes, layers: Sequence[_Layer]) -> OpenedImage:
    """A manifest of what is there: Docker schema 2, or OCI where a layer is zstd, which the former
    cannot say."""
    zstd = any(layer.compression == "zstd" for layer in layers)
    media_type = mt.OCI_MANIFEST if zstd else mt.DOCKER_MANIFEST
    config_type = mt.OCI_CONFIG if zstd else mt.DOCKER_CONFIG
    blobs = []
    for layer in layers:
        layer_type = mt.layer_type(media_type, layer.compression)
        assert layer_type is not None, "the manifest's type was chosen for its layers"
        blobs.append(Descriptor(layer_type, layer.digest, layer.size))
    digest = Digest.of(config)
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": Descriptor(config_type, digest, len(config)).to_json(),
        "layers": [blob.to_json() for blob in blobs],
    }
    data = json.dumps(document, separators=(",", ":")).encode()
    files: dict[Digest, str | bytes] = {layer.digest: layer.file for layer in layers}
    return OpenedImage(RawManifest.receive(data, media_type), {**files, digest: file})


def _manifest_beside(
    archive: Archive, image: ArchivedImage, layers: Sequence[str], config: bytes
) -> RawManifest | None:
    """The manifest in the archive's OCI layout that has this config and exactly these files.

    Among several, the one that is annotated with a name of the image.  None without a layout, or
    where it shows something else.
    """
    if "index.json" not in archive or "oci-layout" not in archive:
        return None
    names = {str(name) for name in image.names}
    best: RawManifest | None = None
    for descriptor, raw in _manifests(archive):
        manifest = parse_image(raw)
        wanted = manifest.config.digest
        blobs = [blob_name(blob.digest) for blob in manifest.layers]
        same = Digest.of(config, wanted.algorithm) == wanted
        if not same or not _same_files(archive, blobs, layers):
            continue
        if descriptor.annotations.get(CONTAINERD_NAME) in names:
            return raw
        best = best or raw
    return best


def _same_files(archive: Archive, blobs: Sequence[str], layers: Sequence[str]) -> bool:
    return len(blobs) == len(layers) and all(
        blob in archive and archive.resolve(blob) == layer
        for blob, layer in zip(blobs, layers, strict=True)
    )


def _manifests(archive: Archive) -> Iterator[tuple[Descriptor, RawManifest]]:
    """Every image manifest of the layout that is in the archive; indexes may be sparse."""
    top = archive.read("index.json", MAX_MANIFEST_SIZE)
    pending = [(RawManifest.receive(top, mt.OCI_INDEX), 0)]
    read = 0
    while pending:
        index, depth = pending.pop(0)
        for member in parse_index(index).manifests:
            file = blob_name(member.digest)
            if file not in archive or member.media_type not in mt.MANIFESTS | mt.INDEXES:
                continue
            read += 1
            if read > _MAX_MANIFESTS:
                raise InvalidManifestError(
                    f"index.json in {archive.what} leads to more than {_MAX_MANIFESTS} manifests"
                )
            data = archive.read(file, MAX_MANIFEST_SIZE)
            raw = RawManifest.receive(data, member.media_type, member.digest)
            if not raw.is_index:
                yield member, raw
            elif depth < _INDEX_DEPTH:
                pending.append((raw, depth + 1))
