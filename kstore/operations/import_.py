"""Make an image of one layer out of a tar, wherever that comes from, or out of a directory."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import InvalidInputError
from kstore.manifest import RawManifest
from kstore.operations.changes import apply_changes, require_utf8
from kstore.operations.layer_input import FileInput, LayerInput, StdinInput
from kstore.operations.layer_stream import MAX_TAR, LayerStream
from kstore.operations.tag import parse_new_name
from kstore.platforms import Platform, host_platform
from kstore.reference import Named
from kstore.store import Publication, Store
from kstore.streams import Cancel
from kstore.values import dataclass

if TYPE_CHECKING:
    from kstore.registry import RegistrySettings

__all__ = ["MAX_DOWNLOAD", "ImportOptions", "ImportResult", "import_tar", "is_url"]

#: Largest tar taken from the web unless another limit is given, in bytes, unpacked.
MAX_DOWNLOAD = 16 << 30


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``changes``: config edits (see ``apply_changes``); ``message``: comment of the history
    entry; ``platform``: None means this machine's.  ``max_size``: most bytes of the tar, unpacked
    (None: MAX_DOWNLOAD from the web, else practically any).  ``preserve_owner``: files of a
    directory keep their numeric owners, instead of becoming root's."""

    changes: Sequence[str] = ()
    message: str | None = None
    platform: Platform | None = None
    max_size: int | None = None
    preserve_owner: bool = False


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
    web: RegistrySettings | None = None,
    progress: Callable[[int], None] | None = None,
    warn: Callable[[str], None] = lambda _: None,
    cancel: Cancel | None = None,
) -> ImportResult:
    """Import the tar ``source`` as an image called ``name``.

    ``source`` is a file, a directory, an http(s) address (fetched as ``web`` says) or ``-``, which
    reads ``stdin``.  A tar that is compressed with gzip or zstd is stored as it is, any other
    compressed with gzip.  ``progress`` is told the size of every piece that is read, ``warn`` what
    is odd about it.  Raises InvalidInputError if it is no tar, IntegrityError if it is damaged or
    too large, and what the source raises; leaves nothing behind then.
    """
    options = options or ImportOptions()
    cancel = cancel or Cancel()
    require_utf8(options.message or "", "the message")
    named = parse_new_name(name) if name is not None else None
    run: dict[str, Any] = {}
    apply_changes(run, options.changes)
    limit = options.max_size or (MAX_DOWNLOAD if is_url(source) else MAX_TAR)
    if is_url(source):
        from kstore.operations.fetch_url import UrlInput

        opened: LayerInput = UrlInput(source, web, limit=limit, warn=warn, cancel=cancel)
    elif os.path.isdir(source):  # noqa: PTH112 - Path.is_dir can raise
        opened = _open_directory(store, Path(source), options, warn)
    else:
        opened = _open(source, stdin)
    with opened as file, store.lease(f"import {file.origin}") as lease:
        tar = LayerStream(file, progress, limit)
        digest, size = lease.put_stream(tar, cancel=cancel)
        layer = Descriptor(tar.media_type, digest, size)
        config = _config(tar.diff_id, file.created, run, file.origin, options)
        config_blob = lease.put_bytes(_dump(config), mt.OCI_CONFIG)
        raw = _manifest(config_blob, layer)
        image = lease.publish(Publication(raw, names=(named,) if named else ()))
    if tar.looks_like_images:
        warn(f"{file.origin} may be an archive of images, which 'kstore load' brings as they are")
    assert image is not None, "an image manifest always makes an image"
    return ImportResult(image.id, named, raw.digest, size)


def is_url(source: str) -> bool:
    """Whether ``source`` is meant as an address of the web."""
    return source.lower().startswith(("http://", "https://"))


def _open(source: str, stdin: BinaryIO | None) -> LayerInput:
    if "://" in source and not os.path.lexists(source):
        raise InvalidInputError(f"{source[:200]!r} is no address of http or https, and no file")
    if source != "-":
        return FileInput(source)
    if stdin is None:
        raise InvalidInputError("there is no standard input to import from")
    return StdinInput(stdin)


def _open_directory(
    store: Store, path: Path, options: ImportOptions, warn: Callable[[str], None]
) -> LayerInput:
    from kstore.operations.directory_tar import DirectoryInput
    from kstore.tree.layer import TreeRules

    if store.root.resolve().is_relative_to(path.resolve()):
        raise InvalidInputError(f"{path} holds the store itself, {store.root}")
    rules = TreeRules(owners="kept" if options.preserve_owner else "root")
    return DirectoryInput(path, rules, warn=warn)


def _config(
    diff_id: Digest,
    created: dt.datetime,
    run: dict[str, Any],
    origin: str,
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
            "comment": options.message or f"imported from {origin}",
        }
    ]
    return config


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
