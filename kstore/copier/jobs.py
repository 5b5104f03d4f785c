"""What is to be done with one blob, and what was done."""

from __future__ import annotations

from kstore import mediatypes as mt
from kstore.compression import Kind
from kstore.copier.progress import How
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import UnsupportedError
from kstore.values import dataclass

__all__ = ["BlobJob", "Change", "Key", "Moved"]


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to a layer's bytes on the way.

    ``compression`` None: nothing, only the diffID is found out.  ``diff_id`` is what the config
    says, None if there is no config; ``target`` the type of the manifest that will list the layer.
    """

    target: str
    compression: Kind | None
    level: int | None = None
    diff_id: Digest | None = None

    def media_type(self, kind: str) -> str:
        """The type of the result, compressed with ``kind``; UnsupportedError if there is none."""
        found = mt.layer_type(self.target, kind)
        if found is None:
            raise UnsupportedError(
                f"a layer compressed with {kind} cannot go into a manifest of type {self.target}",
                hint="recompress the layers with gzip",
            )
        return found


#: Two jobs of one key are the same work.
Key = tuple[Digest, Change | None]


@dataclass(frozen=True, slots=True)
class BlobJob:
    """One blob to bring: a blob of the source, or ``data`` that was made here.

    ``index`` is a layer's position, None for a config.
    """

    blob: Descriptor
    index: int | None
    change: Change | None = None
    data: bytes | None = None

    @property
    def key(self) -> Key:
        return self.blob.digest, self.change

    @property
    def kind(self) -> str:
        """``"layer"`` or ``"config"``."""
        return "config" if self.index is None else "layer"


@dataclass(frozen=True, slots=True)
class Moved:
    """What is at the destination now; ``diff_id`` where it was found out."""

    blob: Descriptor
    how: How
    diff_id: Digest | None = None
