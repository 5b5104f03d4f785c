"""The engine: one image moves from a source to a destination.

The order of things is :func:`copy_image`, read from top to bottom; nothing else decides it.
"""

from __future__ import annotations

from dataclasses import dataclass

from kstore.copier.blobs import move_blobs
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.errors import InvalidManifestError, UnsupportedError
from kstore.image import Image, TrustPolicy, UnparsedImage, admit, choose_member
from kstore.interfaces import ImageDestination, ImageReference, ImageSource
from kstore.manifest import Index, Manifest, RawManifest
from kstore.platforms import Platform, host_platform
from kstore.streams import Cancel

__all__ = ["CopyOptions", "CopyResult", "copy_image"]


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """``platform``: the wanted member of an index (None: this machine's); ``parallel``: blobs
    moved at once; ``images_only``: refuse manifests whose config is not an image config."""

    platform: Platform | None = None
    parallel: int = 6
    images_only: bool = False


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The manifest that was written, and the index it was chosen from (None if it was not)."""

    raw: RawManifest
    via: RawManifest | None


def copy_image(
    source_reference: ImageReference,
    destination_reference: ImageReference,
    policy: TrustPolicy,
    options: CopyOptions | None = None,
    *,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> CopyResult:
    """Copy one image; the manifest arrives byte for byte as it was.

    The source is opened first, so that a missing source leaves the destination untouched.  Then:
    admit, choose, admit the chosen member, move blobs, write the manifest, commit.

    Raises what the two transports raise, PolicyRejectedError, PlatformNotFoundError,
    IntegrityError for bytes that are not what they claim, and CancelledError.
    """
    options = options or CopyOptions()
    cancel = cancel or Cancel()
    with source_reference.open_source() as source:
        image, via = _select(source, policy, options.platform)
        with destination_reference.open_destination() as destination:
            manifest = _acceptable(image, destination, options)
            move_blobs(
                source,
                destination,
                manifest,
                parallel=options.parallel,
                progress=progress,
                cancel=cancel,
            )
            cancel.check()
            destination.write_manifest(image.raw, via=via)
            if image.signatures:
                destination.write_signatures(image.signatures)
            destination.commit()
            progress(Event("manifest", digest=image.raw.digest, size=len(image.raw.data)))
    return CopyResult(image.raw, via)


def _select(
    source: ImageSource, policy: TrustPolicy, platform: Platform | None
) -> tuple[Image, RawManifest | None]:
    """The image itself, or the member of the index that suits the platform; all admitted."""
    top = Image(admit(UnparsedImage(source), policy))
    if not isinstance(top.document, Index):
        return top, None
    where = f"{source.reference.transport}:{source.reference.within_transport}"
    member = choose_member(top.document, platform or host_platform(), where)
    image = Image(admit(UnparsedImage(source, member), policy))
    if isinstance(image.document, Index):
        raise InvalidManifestError(
            f"member {member.digest} of {where} is an index itself; nested indexes are refused"
        )
    return image, top.raw


def _acceptable(image: Image, destination: ImageDestination, options: CopyOptions) -> Manifest:
    """The manifest; refused before any blob moves if it would be refused after."""
    where = f"{destination.reference.transport}:{destination.reference.within_transport}"
    manifest = image.document
    assert isinstance(manifest, Manifest), "an index was resolved to a member"
    if image.raw.media_type not in destination.traits.manifest_types:
        raise UnsupportedError(f"{where} does not accept manifests of type {image.raw.media_type}")
    if image.signatures and not destination.traits.signatures:
        raise UnsupportedError(f"{where} cannot keep the image's signatures")
    if options.images_only and not manifest.is_image:
        kind = manifest.artifact_type or manifest.config.media_type
        raise UnsupportedError(
            f"manifest {image.raw.digest} is an artifact of type {kind!r:.120}, not an image"
        )
    return manifest
