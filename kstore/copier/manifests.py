"""Which manifests are written, once the blobs are there."""

from __future__ import annotations

from collections.abc import Mapping

from kstore import mediatypes as mt
from kstore.copier.jobs import BlobJob
from kstore.copier.options import CopyOptions, LayerResult
from kstore.copier.plan import ImagePlan, Plan, identity
from kstore.copier.transfer import Transfer
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.image import Image
from kstore.interfaces import ImageDestination
from kstore.manifest import RawManifest
from kstore.manifest.convert import convert, rewrite_index
from kstore.manifest.schema1 import Legacy, legacy_config, legacy_manifest
from kstore.values import dataclass

__all__ = ["Documents", "assemble", "legacy_configs", "write_documents"]


@dataclass(frozen=True, slots=True)
class Documents:
    """What is written: ``members`` before ``top``, their old digests before ``via``."""

    members: tuple[RawManifest, ...]
    top: RawManifest
    via: RawManifest | None


def legacy_configs(plan: Plan, transfer: Transfer) -> Mapping[Digest, BlobJob]:
    """The configs of schema 1 images, by the digests of their manifests; the layers were read."""
    result: dict[Digest, BlobJob] = {}
    for image in plan.images:
        legacy = image.image.document
        if not isinstance(legacy, Legacy):
            continue
        diff_ids = [transfer.diff_id(job) for _, job in image.layers if job is not None]
        data = legacy_config(legacy, diff_ids)
        kind = mt.DOCKER_CONFIG if image.target == mt.DOCKER_MANIFEST else mt.OCI_CONFIG
        blob = Descriptor(kind, Digest.of(data), len(data))
        result[image.image.raw.digest] = BlobJob(blob, None, data=data)
    return result


def assemble(plan: Plan, transfer: Transfer, configs: Mapping[Digest, BlobJob]) -> Documents:
    """The manifests, as the blobs at the destination want them."""
    written = {image.image.raw.digest: _manifest(image, transfer, configs) for image in plan.images}
    index = plan.selection.index
    if index is None:
        (only,) = written.values()
        unchanged = only == plan.selection.images[0].raw
        return Documents((), only, plan.selection.via if unchanged else None)
    assert plan.index_type is not None, "an index has a type"
    top = rewrite_index(index.raw, plan.index_type, written, plan.keep)
    return Documents(tuple(written.values()), top, None)


def _manifest(
    image: ImagePlan, transfer: Transfer, configs: Mapping[Digest, BlobJob]
) -> RawManifest:
    raw = image.image.raw
    edits = {layer.digest: _result(layer, job, transfer) for layer, job in image.layers}
    if raw.digest in configs:
        layers = [edits[layer.digest] for layer, _ in image.layers]
        return legacy_manifest(image.target, configs[raw.digest].blob, layers)
    return convert(raw, None, image.target, edits)[0]


def _result(layer: Descriptor, job: BlobJob | None, transfer: Transfer) -> Descriptor:
    return layer if job is None else transfer.results[job.key].blob


def layer_results(plan: Plan, transfer: Transfer) -> tuple[LayerResult, ...]:
    """What became of every layer."""
    return tuple(
        LayerResult(
            layer,
            _result(layer, job, transfer),
            None if job is None else transfer.results[job.key].how,
        )
        for image in plan.images
        for layer, job in image.layers
    )


def write_documents(
    plan: Plan, documents: Documents, destination: ImageDestination, options: CopyOptions
) -> None:
    """Write members before their index, then the signatures of all: those they have, if they are to
    be kept, and new ones."""
    for member in documents.members:
        destination.write_manifest(member, instance=member.digest)
    destination.write_manifest(documents.top, via=documents.via)
    name = identity(destination, options)
    index = plan.selection.index
    if index is None:
        _write_signatures(plan.images[0].image, documents.top, None, destination, options, name)
        return
    for image, member in zip(plan.images, documents.members, strict=True):
        _write_signatures(image.image, member, member.digest, destination, options, name)
    _write_signatures(index, documents.top, None, destination, options, name)


def _write_signatures(
    image: Image,
    written: RawManifest,
    instance: Digest | None,
    destination: ImageDestination,
    options: CopyOptions,
    name: str,
) -> None:
    kept = () if options.remove_signatures else image.signatures
    made = [signer.sign(written.digest, name).to_bytes() for signer in options.signers]
    if kept or made:
        destination.write_signatures([*kept, *made], instance=instance)
