"""What a copy is asked for, and what it answers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kstore import mediatypes as mt
from kstore.compression import Kind
from kstore.copier.progress import How
from kstore.descriptor import Descriptor
from kstore.errors import InvalidInputError
from kstore.manifest import RawManifest
from kstore.platforms import Platform
from kstore.reference import Named
from kstore.signing.signer import Signer
from kstore.values import dataclass

__all__ = ["CopyOptions", "CopyResult", "Instances", "LayerResult"]

#: Which members of an index are copied: the one for a platform, as an image of its own; all of
#: them under their index; the index alone; those for some platforms under their index.
Instances = Literal["system", "all", "index-only", "platforms"]


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How to copy; the defaults change nothing.

    ``platform``: the wanted member of an index (None: this machine's).
    ``parallel``: blobs moved at once.
    ``images_only``: refuse manifests whose config is not an image config; ``artifacts_only``:
    refuse all others.
    ``instances``: what of an index is copied; ``platforms`` are those of ``"platforms"``.
    ``sparse``: an index keeps its bytes although only some members are copied; otherwise a new one
    with just these is written.
    ``manifest_type``: OCI or Docker schema 2, whatever the source has; an index follows.
    ``compression``: what plain layers are compressed with; ``"none"`` unpacks all.  Layers that are
    compressed otherwise stay as they are unless ``force_compression``, or unless the manifest type
    has no word for their compression.
    ``compression_level``: gzip 1 to 9, zstd 1 to 22; None is fast and reasonable.
    ``preserve_digests``: refuse whatever would change a manifest.
    ``remove_signatures``: leave the signatures behind, so that a manifest may change.
    ``signers``: what signs every manifest that is written, as the image ``sign_identity`` (None: as
    the destination's own name).
    ``spool``: the directory of temporary files (None: where large ones belong on this machine).
    """

    platform: Platform | None = None
    parallel: int = 6
    images_only: bool = False
    artifacts_only: bool = False
    instances: Instances = "system"
    platforms: tuple[Platform, ...] = ()
    sparse: bool = False
    manifest_type: str | None = None
    compression: Kind | None = None
    compression_level: int | None = None
    force_compression: bool = False
    preserve_digests: bool = False
    remove_signatures: bool = False
    signers: tuple[Signer, ...] = ()
    sign_identity: Named | None = None
    spool: Path | None = None

    def __post_init__(self) -> None:
        if self.manifest_type not in (None, *mt.MANIFESTS):
            raise InvalidInputError(f"{self.manifest_type!r:.120} is no type an image can have")
        if self.instances == "platforms" and not self.platforms:
            raise InvalidInputError("no platform was given of those to be copied")
        if self.sign_identity is not None and self.sign_identity.is_bare:
            raise InvalidInputError(
                f"an image cannot be signed as {self.sign_identity}, which has no tag and no digest"
            )


@dataclass(frozen=True, slots=True)
class LayerResult:
    """What became of one layer: ``how`` is None where it was left to its external URLs."""

    source: Descriptor
    written: Descriptor
    how: How | None


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The manifest or index that was written; ``via`` is the index it was chosen from, unchanged
    (None if it was not); ``layers`` are those of all images, each image's base first."""

    raw: RawManifest
    via: RawManifest | None
    layers: tuple[LayerResult, ...] = ()
