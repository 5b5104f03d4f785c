"""The plan of a copy: computed from values, so that what cannot work is refused before any byte
moves.

A destination may refuse a manifest type only when it sees it (registries do), so there may be
several plans, the most wanted first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kstore import mediatypes as mt
from kstore.compression import Kind
from kstore.copier.jobs import BlobJob, Change
from kstore.copier.options import CopyOptions
from kstore.copier.selection import Selection, where
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    BlobNotFoundError,
    InvalidInputError,
    InvalidManifestError,
    UnsupportedError,
)
from kstore.image import Image, is_attestation
from kstore.interfaces import DestinationTraits, ImageDestination, ImageSource
from kstore.manifest import Index, Manifest
from kstore.manifest.convert import INDEX_OF, check_convertible, converted_layer_type
from kstore.manifest.schema1 import Legacy
from kstore.signature import SIGNATURE_KINDS, SignatureKind, parse_signature
from kstore.values import dataclass

__all__ = ["ImagePlan", "Plan", "identity", "make_plans"]

_SIGNED = "it is signed"
_LEAVE = "--remove-signatures leaves the signatures behind"
_NOUNS: Mapping[SignatureKind, str] = {
    "simple": "signatures by GnuPG",
    "sigstore": "sigstore signatures",
}


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """One image: the manifest type it gets, and its blobs; layers left to their URLs have no job.

    ``layers`` are the source's, base first, with their jobs.
    """

    image: Image
    target: str
    layers: tuple[tuple[Descriptor, BlobJob | None], ...]
    config: BlobJob | None  # None: made from a schema 1 manifest, when the diffIDs are known

    @property
    def jobs(self) -> tuple[BlobJob, ...]:
        jobs = [job for _, job in self.layers if job is not None]
        return tuple(jobs) if self.config is None else (*jobs, self.config)

    @property
    def changes(self) -> bool:
        """Whether the manifest cannot stay as it is."""
        changed = any(job.change for job in self.jobs)
        return self.target != self.image.raw.media_type or changed


@dataclass(frozen=True, slots=True)
class Plan:
    """A way to copy what was selected; ``index_type`` and ``keep`` are those of its index."""

    selection: Selection
    images: tuple[ImagePlan, ...]
    index_type: str | None
    keep: frozenset[Digest] | None

    @property
    def jobs(self) -> tuple[BlobJob, ...]:
        return tuple(job for image in self.images for job in image.jobs)

    @property
    def measures(self) -> bool:
        """Whether configs are made here, from diffIDs that only reading the layers can tell."""
        return any(image.config is None for image in self.images)

    @property
    def changes(self) -> bool:
        """Whether anything cannot stay as it is."""
        if any(image.changes for image in self.images):
            return True
        index = self.selection.index
        if index is None:
            return False
        assert isinstance(index.document, Index)
        loses = self.keep is not None and any(
            member.digest not in self.keep for member in index.document.manifests
        )
        return loses or self.index_type != index.raw.media_type


def make_plans(
    selection: Selection, source: ImageSource, destination: ImageDestination, options: CopyOptions
) -> Sequence[Plan]:
    """The ways to copy, the most wanted first; at least one.

    Raises UnsupportedError for what the destination cannot take or keep, and for a change where
    none is allowed; InvalidInputError if the destination's digest is another image's.
    """
    traits, name = destination.traits, where(destination)
    _check_kinds(selection, traits, options, name)
    _check_signatures(selection, traits.signatures, options, name)
    identity(destination, options)
    frozen = _frozen(selection, destination, options)
    plans: list[Plan] = []
    refusals: list[UnsupportedError] = []
    for family in _families(selection, traits, options, name):
        try:
            plan = _plan(selection, source, traits, options, family)
            if frozen is not None and plan.changes:
                raise UnsupportedError(
                    f"manifest {selection.top.digest} would have to change on its way to {name},"
                    f" but {frozen}",
                    hint=_LEAVE if frozen == _SIGNED else None,
                )
            plans.append(plan)
        except UnsupportedError as error:
            refusals.append(error)
    if not plans:
        raise refusals[0]
    return plans


def identity(destination: ImageDestination, options: CopyOptions) -> str:
    """As what image manifests are signed; empty where none is.

    Raises InvalidInputError if the destination has no name for it.
    """
    name = options.sign_identity or destination.reference.docker_reference
    if name is None and options.signers:
        raise InvalidInputError(
            f"{where(destination)} has no name that could be signed",
            hint="say with --sign-identity as what image it is to be signed",
        )
    return str(name or "") if options.signers else ""


def _check_kinds(
    selection: Selection, traits: DestinationTraits, options: CopyOptions, name: str
) -> None:
    if selection.index is not None and not traits.indexes:
        raise UnsupportedError(f"{name} takes one image, not an index", hint="choose a platform")
    for image in selection.images:
        manifest = image.document
        if options.artifacts_only and not (
            isinstance(manifest, Manifest) and not manifest.is_image
        ):
            raise UnsupportedError(
                f"manifest {image.raw.digest} is an image, where only an artifact is wanted"
            )
        if options.images_only and isinstance(manifest, Manifest) and not manifest.is_image:
            kind = manifest.artifact_type or manifest.config.media_type
            raise UnsupportedError(
                f"manifest {image.raw.digest} is an artifact of type {kind!r:.120}, not an image"
            )


def _check_signatures(
    selection: Selection, kept: frozenset[SignatureKind], options: CopyOptions, name: str
) -> None:
    """Refuse what would lose a signature, or be signed in vain."""
    for signer in options.signers:
        if signer.kind not in kept:
            raise UnsupportedError(
                f"{name} cannot keep {_NOUNS[signer.kind]}, so that nothing is signed"
            )
    if options.remove_signatures or kept == SIGNATURE_KINDS:
        return
    for image in selection.all:
        if image.signatures and not kept:
            raise UnsupportedError(f"{name} cannot keep the image's signatures", hint=_LEAVE)
        for data in image.signatures:
            kind = parse_signature(data, f"a signature of manifest {image.raw.digest}").kind
            if kind not in kept:  # a registry's: other places keep all kinds or none
                keep = "--sigstore-attachments keeps them in the registry, "
                raise UnsupportedError(
                    f"{name} cannot keep the image's {_NOUNS[kind]}",
                    hint=f"{keep}{_LEAVE}" if kind == "sigstore" else _LEAVE,
                )


def _frozen(
    selection: Selection, destination: ImageDestination, options: CopyOptions
) -> str | None:
    """Why nothing may change, None if it may."""
    named = destination.reference.docker_reference
    if named is not None and named.digest is not None:
        via = selection.via if destination.traits.remembers_index else None
        if not any(raw.is_named(named.digest) for raw in (selection.top, via) if raw is not None):
            raise InvalidInputError(
                f"cannot write manifest {selection.top.digest} as {where(destination)}: another"
                " digest"
            )
        return "the destination is named by its digest"
    if options.preserve_digests:
        return "its digest is to be preserved"
    if not options.remove_signatures and any(image.signatures for image in selection.all):
        return _SIGNED
    return None


def _families(
    selection: Selection, traits: DestinationTraits, options: CopyOptions, name: str
) -> Sequence[str | None]:
    """The manifest types to try; None leaves every manifest in its own."""
    accepted = set(traits.manifest_types) & (mt.MANIFESTS | mt.INDEXES)
    types = [image.raw.media_type for image in selection.all]
    needs_index = selection.index is not None
    possible = [
        family
        for family in traits.manifest_types
        if family in mt.MANIFESTS and (not needs_index or INDEX_OF[family] in accepted)
    ]
    if options.manifest_type is not None:
        possible = [family for family in possible if family == options.manifest_type]
    families: list[str | None] = list(possible)
    if options.manifest_type is None and accepted.issuperset(types):
        families = [None, *(f for f in possible if needs_index or f not in types)]
    if not families:
        wanted = options.manifest_type or ", ".join(sorted(set(types)))
        raise UnsupportedError(f"{name} does not accept manifests of type {wanted}")
    return families


def _plan(
    selection: Selection,
    source: ImageSource,
    traits: DestinationTraits,
    options: CopyOptions,
    family: str | None,
) -> Plan:
    images, keep = selection.images, selection.keep
    index_type = None
    if selection.index is not None:
        document = selection.index.document
        assert isinstance(document, Index)
        index_type = selection.index.raw.media_type if family is None else INDEX_OF[family]
        copied = {image.raw.digest for image in images}
        left = keep is None and any(m.digest not in copied for m in document.manifests)
        if left and index_type != selection.index.raw.media_type:
            raise UnsupportedError(
                f"index {selection.index.raw.digest} cannot become a {index_type} without all of"
                " its members"
            )
        if family == mt.DOCKER_MANIFEST:
            # Docker's list has no word for whose attestation a member is.
            spoken = {m.digest for m in document.manifests if is_attestation(m)}
            images = tuple(image for image in images if image.raw.digest not in spoken)
            if spoken:
                keep = (keep or frozenset(m.digest for m in document.manifests)) - spoken
    plans = tuple(_plan_image(image, source, traits, options, family) for image in images)
    return Plan(selection, plans, index_type, keep)


def _plan_image(
    image: Image,
    source: ImageSource,
    traits: DestinationTraits,
    options: CopyOptions,
    family: str | None,
) -> ImagePlan:
    document, target = image.document, family or image.raw.media_type
    if isinstance(document, Legacy):
        return _plan_legacy(image, document, source, options, target)
    assert isinstance(document, Manifest)
    if target != image.raw.media_type:
        check_convertible(image.raw, document, None, target)
    layers = tuple(
        (layer, _layer_job(layer, position, document, target, traits, options))
        for position, layer in enumerate(document.layers)
    )
    if any(job is not None and job.change for _, job in layers):
        layers = _with_diff_ids(image, layers)
    return ImagePlan(image, target, layers, BlobJob(document.config, None))


def _plan_legacy(
    image: Image, legacy: Legacy, source: ImageSource, options: CopyOptions, target: str
) -> ImagePlan:
    change = Change(target, None)
    anew = options.compression == "none" or options.force_compression
    if anew and options.compression not in (None, "gzip"):  # which these layers have always been
        change = Change(target, options.compression, options.compression_level)
    layers = []
    for position, digest in enumerate(legacy.layers):
        size = source.blob_size(digest)
        if size is None:
            raise BlobNotFoundError(f"layer {digest} of manifest {image.raw.digest} is not there")
        layer = Descriptor(mt.DOCKER_LAYER, digest, size)
        layers.append((layer, BlobJob(layer, position, change)))
    return ImagePlan(image, target, tuple(layers), None)


def _layer_job(
    layer: Descriptor,
    position: int,
    manifest: Manifest,
    target: str,
    traits: DestinationTraits,
    options: CopyOptions,
) -> BlobJob | None:
    wanted = _recompression(layer, target, options) if manifest.is_image else None
    if wanted is not None or target != manifest.media_type:
        converted_layer_type(layer.media_type, target, wanted)
    if traits.foreign_urls and layer.urls and mt.is_foreign_layer(layer.media_type):
        return None
    change = None if wanted is None else Change(target, wanted, options.compression_level)
    return BlobJob(layer, position, change)


def _recompression(layer: Descriptor, target: str, options: CopyOptions) -> Kind | None:
    """What the layer is to be compressed with, None if it stays as it is."""
    wanted, has = options.compression, mt.layer_compression(layer.media_type)
    if wanted is None or has in (None, wanted) or mt.is_foreign_layer(layer.media_type):
        return None
    unspeakable = mt.layer_type(target, str(has)) is None
    if "none" in (wanted, has) or options.force_compression or unspeakable:
        return wanted
    return None


def _with_diff_ids(
    image: Image, layers: tuple[tuple[Descriptor, BlobJob | None], ...]
) -> tuple[tuple[Descriptor, BlobJob | None], ...]:
    """The jobs, each knowing what its layer must unpack to; this reads the config."""
    diff_ids = image.config.diff_ids
    if len(diff_ids) != len(layers):
        raise UnsupportedError(
            f"manifest {image.raw.digest} has {len(layers)} layers, but its config knows"
            f" {len(diff_ids)}, so that they cannot be compressed anew"
        )
    seen: dict[Digest, Digest] = {}
    for (layer, _), diff_id in zip(layers, diff_ids, strict=True):
        if seen.setdefault(layer.digest, diff_id) != diff_id:
            raise InvalidManifestError(
                f"the config of manifest {image.raw.digest} has two diffIDs for layer"
                f" {layer.digest}"
            )
    return tuple((layer, _knowing(job, seen[layer.digest])) for layer, job in layers)


def _knowing(job: BlobJob | None, diff_id: Digest) -> BlobJob | None:
    if job is None or job.change is None:
        return job
    change = job.change
    return BlobJob(
        job.blob, job.index, Change(change.target, change.compression, change.level, diff_id)
    )
