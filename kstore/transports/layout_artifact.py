"""A manifest of an OCI layout by its digest: not every referrer has an entry in index.json."""

from __future__ import annotations

from dataclasses import field

from kstore.digest import Digest
from kstore.errors import UnsupportedError
from kstore.interfaces import ImageDestination, ImageTransport
from kstore.transports.base import PathReference
from kstore.transports.oci import LayoutSource
from kstore.transports.oci_directory import LayoutFiles
from kstore.values import dataclass

__all__ = ["LayoutArtifact"]


@dataclass(frozen=True, slots=True)
class LayoutArtifact(PathReference):
    """A manifest in the layout at ``path``, which ``home`` reaches; it can only be read."""

    path: str
    digest: Digest
    home: ImageTransport = field(repr=False, compare=False)
    files: LayoutFiles = field(repr=False, compare=False)

    @property
    def transport(self) -> str:
        return self.home.name

    @property
    def within_transport(self) -> str:
        return f"{self.path}:@{self.digest}"

    def open_source(self) -> LayoutSource:
        return LayoutSource(self, self.files, self.digest)

    def open_destination(self) -> ImageDestination:
        raise UnsupportedError(f"manifest {self.digest} of {self.path} can only be read this way")

    def delete(self) -> None:
        """Refused: it goes with what it is attached to."""
        raise UnsupportedError(f"manifest {self.digest} of {self.path} can only be read this way")
