"""``dir:DIR``: one image (or index) as plain files in a directory.

==================================== ===============================================================
file                                 what
==================================== ===============================================================
``version``                          "Directory Transport Version: 1.1" (1.2 with digests other than
                                     sha256)
``manifest.json``                    the manifest or index
``HEX.manifest.json``                a member of the index
``HEX``                              a blob
``signature-1``, ``signature-2`` ... signatures of the manifest
``HEX.signature-1`` ...              signatures of a member
==================================== ===============================================================

HEX is the digest's; ``ALGORITHM-HEX`` for another algorithm than sha256.

Source: the layout skopeo writes (containers-transports(5), "dir:").
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from kstore.blobs import storage_errors, write_new_file
from kstore.descriptor import BlobHint, Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    IntegrityError,
    InvalidReferenceError,
    ManifestNotFoundError,
)
from kstore.interfaces import (
    BlobFeed,
    BlobSource,
    DestinationTraits,
    ImageDestination,
    ImageSource,
    ImageTransport,
    RetrySink,
    SourceTraits,
    WrittenBlob,
)
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.mediatypes import MANIFEST_ACCEPT
from kstore.signature import SIGNATURE_KINDS
from kstore.transports.base import (
    FileBlob,
    PathReference,
    end_session,
    open_image_file,
    path_identity,
    read_small_file,
    require_path_scope,
    stated_blob,
    write_feed,
)
from kstore.transports.dir_draft import DirectoryDraft, take_away
from kstore.transports.dir_files import (
    MANIFEST_FILE,
    VERSION_FILE,
    check_version,
    file_name,
    require_image_or_empty,
)
from kstore.values import dataclass

__all__ = ["NAME", "DirReference", "DirTransport"]

NAME = "dir"
#: Most signatures of one manifest, and the largest of them in bytes.
MAX_SIGNATURES = 128
MAX_SIGNATURE_SIZE = 4 << 20
_FILE_MODE = 0o644


class DirTransport(ImageTransport):
    """Reaches images that are directories of plain files."""

    @property
    def name(self) -> str:
        return NAME

    def parse_reference(self, text: str) -> DirReference:
        """Parse the path of a directory; colons are part of it."""
        if not text or "\0" in text:
            raise InvalidReferenceError("dir reference has no path")
        return DirReference(text)

    def validate_policy_scope(self, scope: str) -> None:
        require_path_scope(scope)


@dataclass(frozen=True, slots=True)
class DirReference(PathReference):
    """The image in the directory ``path``."""

    path: str

    @property
    def transport(self) -> str:
        return NAME

    @property
    def within_transport(self) -> str:
        return self.path

    def open_source(self) -> DirSource:
        return DirSource(self)

    def open_destination(self) -> DirDestination:
        return DirDestination(self)

    def delete(self) -> None:
        """Remove the directory; ConflictError if it holds anything else than an image."""
        path = Path(path_identity(Path(self.path)))
        with storage_errors(f"remove {self.path}"):
            if not (path / MANIFEST_FILE).exists():
                raise ManifestNotFoundError(
                    f"{self.path} is not a dir: image: it has no {MANIFEST_FILE}"
                )
            require_image_or_empty(path)
            take_away(path)


class DirSource(ImageSource):
    """Reads the image of a directory."""

    def __init__(self, reference: DirReference) -> None:
        self._reference = reference
        self._path = Path(reference.path)
        check_version(self._path)
        # Read now, so that a missing image shows before a destination is opened.
        self._top = self._read(MANIFEST_FILE, None)

    @property
    def reference(self) -> DirReference:
        return self._reference

    @property
    def traits(self) -> SourceTraits:
        return SourceTraits(concurrent=True, ranges=True)

    def read_manifest(self, instance: Digest | None = None) -> RawManifest:
        if instance is None:
            return self._top
        return self._read(f"{file_name(instance)}.{MANIFEST_FILE}", instance)

    def _read(self, name: str, expected: Digest | None) -> RawManifest:
        what = f"{name} of {self._path}"
        data = read_small_file(self._path / name, MAX_MANIFEST_SIZE, what)
        if data is None and expected is not None:
            raise ManifestNotFoundError(f"no manifest {expected} in {self._path}")
        if data is None:
            there = f"it has no {name}" if self._path.is_dir() else "there is no such directory"
            raise ManifestNotFoundError(f"{self._path} is not a dir: image: {there}")
        return RawManifest.receive(data, expected=expected)

    def open_blob(
        self,
        descriptor: Descriptor,
        offset: int = 0,
        validator: str | None = None,
        on_retry: RetrySink | None = None,
    ) -> BlobSource:
        digest = descriptor.digest
        what = f"blob {digest} of {self._path}"
        file = open_image_file(self._path / file_name(digest), what)
        if file is None:
            raise BlobNotFoundError(f"no blob {digest} in {self._path}")
        return FileBlob(file, offset)

    def blob_size(self, digest: Digest) -> int | None:
        with storage_errors(f"look at blob {digest} of {self._path}"):
            try:
                return (self._path / file_name(digest)).lstat().st_size
            except FileNotFoundError:
                return None

    def read_signatures(self, instance: Digest | None = None) -> Sequence[bytes]:
        signatures: list[bytes] = []
        while True:
            name = signature_name(len(signatures) + 1, instance)
            what = f"{name} of {self._path}"
            data = read_small_file(self._path / name, MAX_SIGNATURE_SIZE, what)
            if data is None:
                return signatures
            if len(signatures) == MAX_SIGNATURES:
                raise IntegrityError(f"{self._path} has more than {MAX_SIGNATURES} signatures")
            signatures.append(data)

    def close(self) -> None:
        """Files are opened one by one."""


class DirDestination(ImageDestination):
    """Writes an image into a draft beside the directory, which becomes visible in one step."""

    def __init__(self, reference: DirReference) -> None:
        self._reference = reference
        self._draft = DirectoryDraft(Path(reference.path))
        self._guard = threading.Lock()
        self._digests: set[Digest] = set()

    @property
    def reference(self) -> DirReference:
        return self._reference

    @property
    def traits(self) -> DestinationTraits:
        return DestinationTraits(
            concurrent=True, signatures=SIGNATURE_KINDS, manifest_types=MANIFEST_ACCEPT
        )

    def reuse_blobs(self, hints: Sequence[BlobHint]) -> Sequence[bool]:
        with self._guard:
            return [hint.digest in self._digests for hint in hints]

    def write_blob(self, feed: BlobFeed, hint: BlobHint) -> WrittenBlob:
        blob = stated_blob(hint, "a directory")
        with self._guard:
            if blob.digest in self._digests:
                return WrittenBlob(blob, "present")
            path = self._draft.path() / file_name(blob.digest)
        write_feed(feed, path, f"blob {blob.digest} of {self._reference.path}", mode=_FILE_MODE)
        with self._guard:
            self._digests.add(blob.digest)
        return WrittenBlob(blob, "copied")

    def settle(self) -> None:
        """Nothing of an image is kept before it is complete."""

    def write_manifest(
        self, raw: RawManifest, instance: Digest | None = None, via: RawManifest | None = None
    ) -> None:
        if instance is None:
            self._write(MANIFEST_FILE, raw.data)
        else:
            self._digests.add(instance)
            self._write(f"{file_name(instance)}.{MANIFEST_FILE}", raw.data)

    def write_signatures(self, signatures: Sequence[bytes], instance: Digest | None = None) -> None:
        for number, signature in enumerate(signatures, 1):
            self._write(signature_name(number, instance), signature)

    def _write(self, name: str, data: bytes) -> None:
        with storage_errors(f"write {name} of {self._reference.path}"):
            path = self._draft.path() / name
            path.unlink(missing_ok=True)  # another manifest type was refused before
            write_new_file(path, data, mode=_FILE_MODE)

    def commit(self) -> None:
        other = any(digest.algorithm != "sha256" for digest in self._digests)
        version = f"Directory Transport Version: {'1.2' if other else '1.1'}\n"
        self._write(VERSION_FILE, version.encode())
        self._draft.commit()

    def close(self) -> None:
        self._draft.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        end_session(self.close, value)


def signature_name(number: int, instance: Digest | None) -> str:
    """The file of a signature, counted from 1, of the manifest or of a member."""
    prefix = f"{file_name(instance)}." if instance is not None else ""
    return f"{prefix}signature-{number}"
