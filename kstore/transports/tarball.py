"""``tarball:FILE[:FILE...]``: an image made of tars, one layer each, base first; ``-`` is a pipe.

The files become layers as they are, plain or compressed; config and manifest are made up.  The same
files with the same times of modification make the same image on machines of one architecture.
"""

from __future__ import annotations

import datetime as dt
import os
import stat
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import BinaryIO

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    InvalidInputError,
    InvalidReferenceError,
    ManifestNotFoundError,
    UnsupportedError,
)
from kstore.formats.spool import PlainFile, open_plain
from kstore.formats.tar_image import (
    FileStream,
    TarLayer,
    layers_config,
    layers_manifest,
    measure_layer,
)
from kstore.interfaces import (
    BlobSource,
    ImageDestination,
    ImageReference,
    ImageSource,
    ImageTransport,
    RetrySink,
    SourceTraits,
)
from kstore.manifest import RawManifest
from kstore.platforms import host_platform
from kstore.streams import BytesStream, Cancel
from kstore.transports.base import OpenedBlob, path_identity
from kstore.values import dataclass

__all__ = ["NAME", "TarballReference", "TarballTransport"]

NAME = "tarball"
PIPE = "-"
#: Most files of one image.
MAX_FILES = 127


class TarballTransport(ImageTransport):
    """Makes images of tar files; ``spool_dir`` is where piped ones are kept meanwhile."""

    def __init__(
        self, spool_dir: Path, *, stdin: BinaryIO | None = None, cancel: Cancel | None = None
    ) -> None:
        self.spool_dir = spool_dir
        self.stdin = stdin
        self.cancel = cancel or Cancel()

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> TarballReference:
        """Parse ``FILE[:FILE...]``; ``-`` (standard input) may stand once."""
        paths = tuple(text.split(":"))
        if not all(paths) or "\0" in text:
            raise InvalidReferenceError(f"tarball reference {text[:100]!r} has an empty file name")
        if paths.count(PIPE) > 1:
            raise InvalidReferenceError("standard input can be only one layer of a tarball image")
        if len(paths) > MAX_FILES:
            raise InvalidReferenceError(
                f"{len(paths)} files are more than the {MAX_FILES} layers an image can have"
            )
        return TarballReference(paths, self)

    def validate_policy_scope(self, scope: str) -> None:
        raise InvalidInputError(f"policy scope {scope!r:.200}: tarball has no scopes of its own")


@dataclass(frozen=True, slots=True)
class TarballReference(ImageReference):
    """The image made of the files at ``paths``, base layer first."""

    paths: tuple[str, ...]
    home: TarballTransport = field(repr=False, compare=False)

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return ":".join(self.paths)

    @property
    def docker_reference(self) -> None:
        return None

    @property
    def policy_identity(self) -> str:
        return ":".join(path_identity(Path(path)) for path in self.paths)

    @property
    def policy_namespaces(self) -> Sequence[str]:
        return ()

    def open_source(self) -> TarballSource:
        return TarballSource(self)

    def open_destination(self) -> ImageDestination:
        """Refused: an image is more than its files."""
        raise UnsupportedError(
            "cannot write to tarball: it only makes images of tars",
            hint="choose docker-archive: or oci-archive:",
        )

    def delete(self) -> None:
        """Refused: the files are the user's own."""
        raise UnsupportedError(
            f"cannot delete tarball:{self.within_transport}: the files are not kstore's to remove"
        )


class TarballSource(ImageSource):
    """Reads the image; opening it reads every file once, for the digests."""

    def __init__(self, reference: TarballReference) -> None:
        self._reference = reference
        self._files: list[PlainFile] = []
        self._layers: list[TarLayer] = []
        try:
            for path in reference.paths:
                self._add(path, reference.home)
        except BaseException:
            self.close()
            raise
        self._config = layers_config(self._layers, host_platform())
        config = Descriptor(mt.OCI_CONFIG, Digest.of(self._config), len(self._config))
        self._config_digest = config.digest
        self._raw = layers_manifest(config, [layer.blob for layer in self._layers])

    def _add(self, path: str, home: TarballTransport) -> None:
        source: Path | BinaryIO | None = home.stdin if path == PIPE else Path(path)
        what = "standard input" if path == PIPE else f"tar {path}"
        if source is None:
            raise InvalidInputError("there is no standard input to read a layer from")
        modified = _modified(source)
        file = open_plain(
            source, spool_dir=home.spool_dir, what=what, unpack=False, cancel=home.cancel
        )
        self._files.append(file)
        blob, diff_id = measure_layer(file, home.cancel)
        name = "standard input" if path == PIPE else _shown(path)
        self._layers.append(TarLayer(blob, diff_id, modified, name))

    @property
    def reference(self) -> TarballReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        if instance is not None:
            raise ManifestNotFoundError(f"a tarball image has no member {instance}")
        return self._raw

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        digest = descriptor.digest
        if digest == self._config_digest:
            return OpenedBlob(BytesStream(self._config[offset:]), offset)
        for file, layer in zip(self._files, self._layers, strict=True):
            if digest == layer.blob.digest:
                return OpenedBlob(FileStream(file.duplicate(), offset), offset)
        raise BlobNotFoundError(f"tarball:{self._reference.within_transport} has no blob {digest}")

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        return ()

    def close(self) -> None:
        for file in self._files:
            file.close()


def _modified(source: Path | BinaryIO) -> int:
    """When the file was changed, in seconds since 1970; now for what is no file."""
    try:
        facts = source.stat() if isinstance(source, Path) else os.fstat(source.fileno())
    except OSError:
        return 0  # opening it tells what is wrong
    is_file = stat.S_ISREG(facts.st_mode)
    return int(facts.st_mtime) if is_file else int(dt.datetime.now(dt.UTC).timestamp())


def _shown(path: str) -> str:
    """A file's name in texts that are kept; what is no UTF-8 in it is replaced."""
    return os.fsencode(Path(path).name).decode(errors="replace")
