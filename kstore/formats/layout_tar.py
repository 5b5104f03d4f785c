"""The blobs of an OCI layout inside a tar, written one after the other, each once.

Source: OCI image specification 1.1 ``image-layout.md``, section "Blobs".
"""

from __future__ import annotations

from collections.abc import Callable

from kstore.digest import Digest
from kstore.errors import IntegrityError
from kstore.formats.layer_tar import TarWriter
from kstore.formats.oci_layout import blob_name
from kstore.streams import Readable, pump

__all__ = ["Again", "LayoutTar"]

#: Cuts the archive off at this position and starts the stream anew; False if that cannot be.
Again = Callable[[int, IntegrityError], bool]

_DIRECTORY_MODE = 0o755


class LayoutTar:
    """Appends blobs and files; the bytes depend on nothing but the calls.

    ``write`` takes all of what it is given.  After an exception the archive is worthless.
    """

    def __init__(self, write: Callable[[bytes | memoryview], object]) -> None:
        self._tar = TarWriter(write)
        self._sizes: dict[Digest, int] = {}
        self._directories: set[str] = set()

    def has(self, digest: Digest, size: int) -> bool:
        """Whether this blob is in the archive."""
        return self._sizes.get(digest) == size

    def add_blob(
        self, digest: Digest, size: int, stream: Readable, again: Again | None = None
    ) -> None:
        """Add a blob; ``stream`` yields exactly ``size`` bytes or raises.

        After each IntegrityError ``again`` is asked for another try.
        """
        self._make_directories(digest)
        self._tar.add(blob_name(digest), size=size)
        start = self._tar.position
        while True:
            try:
                pump(stream, self._tar.write)
            except IntegrityError as error:
                if again is None or not again(start, error):
                    raise
                self._tar.write_again(start, size)
            else:
                break
        self._sizes[digest] = size

    def add_manifest(self, digest: Digest, data: bytes) -> None:
        """Add a small blob that is at hand, unless it is there."""
        if digest not in self._sizes:
            self._make_directories(digest)
            self._tar.add_bytes(blob_name(digest), data)
            self._sizes[digest] = len(data)

    def _make_directories(self, digest: Digest) -> None:
        for name in ("blobs", f"blobs/{digest.algorithm}"):
            if name not in self._directories:
                self._directories.add(name)
                self._tar.add(name, kind="dir", mode=_DIRECTORY_MODE)

    def add_file(self, name: str, data: bytes) -> None:
        """Add a file that is no blob."""
        self._tar.add_bytes(name, data)

    def finish(self) -> None:
        """Write the end of the archive; the last call."""
        self._tar.finish()
