"""An image made up of layer tars that no image came with.

Source: OCI image specification 1.1 ``config.md`` and ``manifest.md``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from kstore import mediatypes as mt
from kstore.compression import decompressor, detect
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import IntegrityError, InvalidInputError, UnsupportedError
from kstore.formats.layer_tar import BLOCK, looks_like_tar
from kstore.formats.spool import PlainFile
from kstore.manifest import RawManifest
from kstore.platforms import Platform
from kstore.streams import ByteStream, Cancel, pump
from kstore.values import dataclass

__all__ = ["FileStream", "TarLayer", "layers_config", "layers_manifest", "measure_layer"]

#: Largest uncompressed tar taken as a layer, in bytes; a guard against endless input, not a quota.
MAX_TAR = 1 << 42
_LAYER_TYPES = {"none": mt.OCI_LAYER, "gzip": mt.OCI_LAYER_GZIP, "zstd": mt.OCI_LAYER_ZSTD}


@dataclass(frozen=True, slots=True)
class TarLayer:
    """A layer: what it is as a blob, what is in it, when it was changed (seconds since 1970), and
    what it is called in the image's history."""

    blob: Descriptor
    diff_id: Digest
    modified: int
    name: str

    @property
    def stamp(self) -> str:
        """``modified`` as configs write it."""
        return dt.datetime.fromtimestamp(self.modified, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class FileStream(ByteStream):
    """A file from ``offset`` on; closing it closes the file."""

    def __init__(self, file: PlainFile, offset: int = 0) -> None:
        self._file = file
        self.at = offset

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._file.read_at(self.at, buffer)
        self.at += count
        return count

    def close(self) -> None:
        self._file.close()


def measure_layer(file: PlainFile, cancel: Cancel) -> tuple[Descriptor, Digest]:
    """The layer blob that a tar is, plain or compressed, and its diffID; reads all of it.

    Raises InvalidInputError if it is no tar, UnsupportedError for a compression that layers cannot
    have, IntegrityError if it is damaged.  The file stays open.
    """
    start = memoryview(bytearray(BLOCK))
    kind = detect(bytes(start[: file.read_at(0, start)]))
    if kind not in _LAYER_TYPES:
        raise UnsupportedError(
            f"{file.what} is compressed with {kind}, which layers cannot be",
            hint=f"unpack it with {kind} -d first",
        )
    raw = _Hashed(file)
    plain = _Plain(file.what, hashing=kind != "none")
    try:
        pump(decompressor(kind, raw, max_output=MAX_TAR), plain.take, cancel=cancel)
    except IntegrityError as exc:
        raise IntegrityError(f"{file.what} cannot be unpacked: {exc.message}") from exc
    digest = Digest.from_hasher(raw.hasher)
    return Descriptor(_LAYER_TYPES[kind], digest, raw.size), plain.finish() or digest


class _Hashed(ByteStream):
    """A file read from its start, and the hash of what was read."""

    def __init__(self, file: PlainFile) -> None:
        self._stream = FileStream(file)
        self.hasher = Digest.new_hasher()

    @property
    def size(self) -> int:
        return self._stream.at

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._stream.readinto(buffer)
        self.hasher.update(buffer[:count])
        return count

    def close(self) -> None:
        """The file belongs to the caller."""


class _Plain:
    """Sees whether plain bytes are a tar, and hashes them if asked to."""

    def __init__(self, what: str, *, hashing: bool) -> None:
        self._what = what
        self._start = b""
        self._size = 0
        self._hasher = Digest.new_hasher() if hashing else None

    def take(self, chunk: memoryview) -> None:
        if len(self._start) < BLOCK:
            self._start += bytes(chunk[: BLOCK - len(self._start)])
            if len(self._start) == BLOCK and not looks_like_tar(self._start):
                raise InvalidInputError(f"{self._what} is not a tar archive")
        self._size += len(chunk)
        if self._hasher is not None:
            self._hasher.update(chunk)

    def finish(self) -> Digest | None:
        """The digest of the bytes, None if they were not hashed."""
        if len(self._start) < BLOCK:
            raise InvalidInputError(f"{self._what} is not a tar archive")
        if self._size % BLOCK:
            raise InvalidInputError(f"{self._what} is a tar archive that was cut off")
        return None if self._hasher is None else Digest.from_hasher(self._hasher)


def layers_config(layers: Sequence[TarLayer], platform: Platform) -> bytes:
    """The config of an image of ``layers``, base first; as old as the newest of them."""
    newest = max(layers, key=lambda layer: layer.modified)
    config: dict[str, Any] = {"created": newest.stamp, "architecture": platform.architecture}
    if platform.variant:
        config["variant"] = platform.variant
    config["os"] = platform.os
    config["config"] = {}
    config["rootfs"] = {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]}
    config["history"] = [
        {
            "created": layer.stamp,
            "created_by": f"/bin/sh -c #(nop) ADD file:{layer.diff_id.hex} in / ",
            "comment": f"imported from {layer.name}",
        }
        for layer in layers
    ]
    return _dump(config)


def layers_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> RawManifest:
    """The OCI manifest of a config and its layers, base first."""
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    return RawManifest.receive(_dump(document), mt.OCI_MANIFEST)


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
