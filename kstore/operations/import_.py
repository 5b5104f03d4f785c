"""Make an image of one layer out of a tar."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from kstore import mediatypes as mt
from kstore.compression import compressor, decompressor, detect
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import IntegrityError, InvalidInputError, StorageError, UnsupportedError
from kstore.formats.layer_tar import BLOCK, looks_like_tar
from kstore.manifest import RawManifest
from kstore.operations.changes import apply_changes, require_utf8
from kstore.operations.tag import parse_new_name
from kstore.platforms import Platform, host_platform
from kstore.reference import Named
from kstore.store import Publication, Store
from kstore.streams import CHUNK, ByteStream, Cancel

__all__ = ["ImportOptions", "ImportResult", "import_tar"]

#: Largest uncompressed tar taken in, in bytes; a guard against endless input, not a quota.
MAX_TAR = 1 << 42


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``changes``: config edits (see ``apply_changes``); ``message``: comment of the history
    entry; ``platform``: None means this machine's."""

    changes: Sequence[str] = ()
    message: str | None = None
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The new image; ``size`` is that of its layer in bytes, as stored."""

    image_id: str
    name: Named | None
    manifest: Digest
    size: int


def import_tar(
    store: Store,
    source: str,
    name: str | None,
    options: ImportOptions | None = None,
    *,
    stdin: BinaryIO | None = None,
    progress: Callable[[int], None] | None = None,
    cancel: Cancel | None = None,
) -> ImportResult:
    """Import the tar file ``source`` (``-`` reads ``stdin``) as an image called ``name``.

    A plain tar is compressed with gzip; one that is compressed with gzip or zstd already is stored
    as it is.  ``progress`` is told the size of every piece that is read.  Raises InvalidInputError
    if it is no tar, and leaves nothing behind then.
    """
    options = options or ImportOptions()
    require_utf8(options.message or "", "the message")
    named = parse_new_name(name) if name is not None else None
    run: dict[str, Any] = {}
    apply_changes(run, options.changes)
    file, created = _open(source, stdin)
    try:
        with store.lease(f"import {_shown(source)}") as lease:
            tar = _LayerStream(file, source, progress)
            digest, size = lease.put_stream(tar, cancel=cancel)
            layer = Descriptor(tar.media_type, digest, size)
            config = _config(tar.diff_id, created, run, source, options)
            config_blob = lease.put_bytes(_dump(config), mt.OCI_CONFIG)
            raw = _manifest(config_blob, layer)
            image = lease.publish(Publication(raw, names=(named,) if named else ()))
    finally:
        if file is not stdin:
            file.close()
    assert image is not None, "an image manifest always makes an image"
    return ImportResult(image.id, named, raw.digest, size)


def _open(source: str, stdin: BinaryIO | None) -> tuple[BinaryIO, dt.datetime]:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    if source == "-":
        if stdin is None:
            raise InvalidInputError("there is no standard input to import from")
        return stdin, now
    if source.startswith(("http://", "https://")):
        raise UnsupportedError(
            "cannot import from a URL yet", hint="curl -fsSL URL | kstore import - NAME"
        )
    path = Path(source)
    try:
        if path.is_dir():
            raise InvalidInputError(
                f"{source} is a directory", hint=f"tar -C {source} -c . | kstore import - NAME"
            )
        file = path.open("rb")
        modified = int(path.stat().st_mtime)
    except FileNotFoundError as exc:
        raise InvalidInputError(f"there is no file {source}") from exc
    except OSError as exc:
        raise StorageError(f"cannot read {source}: {exc.strerror}") from exc
    return file, dt.datetime.fromtimestamp(modified, dt.UTC)


class _LayerStream(ByteStream):
    """The layer blob made of a tar file; knows the diffID once it was read to the end."""

    def __init__(self, file: BinaryIO, source: str, progress: Callable[[int], None] | None) -> None:
        self._name = "standard input" if source == "-" else source
        head = _read_block(file)
        if not head:
            raise InvalidInputError(f"{self._name} is empty")
        kind = detect(head)
        if kind not in ("none", "gzip", "zstd"):
            raise UnsupportedError(
                f"{self._name} is compressed with {kind}, which layers cannot be",
                hint=f"{kind} -dc {'FILE' if source == '-' else source} | kstore import - NAME",
            )
        self.media_type = mt.OCI_LAYER_ZSTD if kind == "zstd" else mt.OCI_LAYER_GZIP
        self._input = _Recorder(head, file, progress)
        self._tar = decompressor(kind, self._input, max_output=MAX_TAR)
        self._compressor = compressor("gzip", None) if kind == "none" else None
        self._hasher = Digest.new_hasher()
        self._start = b""
        self._size = 0
        self._ready = bytearray()
        self._ended = False
        self._buffer = memoryview(bytearray(CHUNK))

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed tar."""
        assert self._ended, "read to the end first"
        return Digest.from_hasher(self._hasher)

    def readinto(self, buffer: memoryview, /) -> int:
        while not self._ready and not self._ended:
            self._step()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        del self._ready[:count]
        return count

    def _step(self) -> None:
        """Move one chunk of tar; the blob gets it compressed, or as it came in."""
        try:
            count = self._tar.readinto(self._buffer) or 0
        except IntegrityError as exc:
            raise IntegrityError(f"{self._name} cannot be unpacked: {exc.message}") from exc
        chunk = self._buffer[:count]
        self._hasher.update(chunk)
        self._ended = count == 0
        self._check(chunk)
        self._size += count
        if self._ended and self._size % BLOCK:
            raise InvalidInputError(f"{self._name} is a tar archive that was cut off")
        came_in = self._input.take(to_end=self._ended)
        if self._compressor is None:
            self._ready += came_in
        else:
            self._ready += self._compressor.update(chunk)
            if self._ended:
                self._ready += self._compressor.finish()

    def _check(self, chunk: memoryview) -> None:
        if len(self._start) < BLOCK:
            self._start += bytes(chunk[: BLOCK - len(self._start)])
            enough = len(self._start) == BLOCK or self._ended
            if enough and not looks_like_tar(self._start):
                raise InvalidInputError(f"{self._name} is not a tar archive")

    def close(self) -> None:
        self._tar.close()


class _Recorder(ByteStream):
    """A file whose first block was read already; remembers what passed through."""

    def __init__(self, head: bytes, file: BinaryIO, progress: Callable[[int], None] | None) -> None:
        self._head = head
        self._file = file
        self._progress = progress
        self._passed = bytearray()

    def readinto(self, buffer: memoryview, /) -> int:
        data = self._head[: len(buffer)] or self._file.read(len(buffer))
        self._head = self._head[len(data) :] if self._head else b""
        buffer[: len(data)] = data
        self._passed += data
        if self._progress is not None:
            self._progress(len(data))
        return len(data)

    def take(self, *, to_end: bool) -> bytes:
        """What passed since the last call; ``to_end`` adds what no reader asked for."""
        if to_end:
            scratch = memoryview(bytearray(CHUNK))
            while self.readinto(scratch):
                pass
        passed, self._passed = bytes(self._passed), bytearray()
        return passed

    def close(self) -> None:
        """The opener closes the file."""


def _read_block(file: BinaryIO) -> bytes:
    """The first block, also from a pipe that delivers it in pieces."""
    block = b""
    while len(block) < BLOCK and (piece := file.read(BLOCK - len(block))):
        block += piece
    return block


def _config(
    diff_id: Digest,
    created: dt.datetime,
    run: dict[str, Any],
    source: str,
    options: ImportOptions,
) -> dict[str, Any]:
    platform = options.platform or host_platform()
    stamp = created.isoformat().replace("+00:00", "Z")
    config: dict[str, Any] = {"created": stamp, "architecture": platform.architecture}
    if platform.variant:
        config["variant"] = platform.variant
    config["os"] = platform.os
    config["config"] = run
    config["rootfs"] = {"type": "layers", "diff_ids": [str(diff_id)]}
    config["history"] = [
        {
            "created": stamp,
            "created_by": f"/bin/sh -c #(nop) ADD file:{diff_id.hex} in / ",
            "comment": options.message or f"imported from {_shown(source)}",
        }
    ]
    return config


def _shown(source: str) -> str:
    """The source in texts that are kept; what is no UTF-8 in a file's name is replaced."""
    return (
        "standard input"
        if source == "-"
        else os.fsencode(Path(source).name).decode(errors="replace")
    )


def _manifest(config: Descriptor, layer: Descriptor) -> RawManifest:
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    return RawManifest.receive(_dump(document), mt.OCI_MANIFEST)


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
