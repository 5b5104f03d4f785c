"""The engine: images move from a source to a destination.

The order of things is :func:`copy_image`, read from top to bottom; nothing else decides it.
"""

from __future__ import annotations

from kstore.copier.manifests import assemble, layer_results, legacy_configs, write_documents
from kstore.copier.options import CopyOptions, CopyResult, Instances, LayerResult
from kstore.copier.plan import Plan, make_plans
from kstore.copier.progress import Event, ProgressSink, ignore
from kstore.copier.recompress import spool_directory
from kstore.copier.selection import select
from kstore.copier.transfer import Facts, Transfer
from kstore.errors import ManifestRejectedError
from kstore.image import TrustPolicy
from kstore.interfaces import ImageDestination, ImageReference
from kstore.streams import Cancel

__all__ = [
    "CopyOptions",
    "CopyResult",
    "Facts",
    "Instances",
    "LayerResult",
    "copy_image",
]


def copy_image(
    source_reference: ImageReference,
    destination_reference: ImageReference,
    policy: TrustPolicy,
    options: CopyOptions | None = None,
    *,
    facts: Facts | None = None,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> CopyResult:
    """Copy an image, or an index with members of it; what need not change arrives byte for byte.

    The source is opened first, so that a missing source leaves the destination untouched.  Then:
    admit and choose, member by member; plan, refusing what cannot work; move blobs, changing them
    on the way; write members, index and signatures; commit.  A destination that refuses a type of
    manifest, when it sees it, gets the next one it may accept.  ``facts`` saves work on layers that
    were changed before.

    Raises what the two transports raise, PolicyRejectedError, PlatformNotFoundError, IntegrityError
    for bytes that are not what they claim, UnsupportedError for what cannot be said in the wanted
    form or must not change, and CancelledError.
    """
    options = options or CopyOptions()
    cancel = cancel or Cancel()
    with source_reference.open_source() as source:
        selection = select(source, policy, options)
        with destination_reference.open_destination() as destination:
            plans = make_plans(selection, source, destination, options)
            with Transfer(
                source,
                destination,
                parallel=options.parallel,
                directory=options.spool or spool_directory(),
                facts=facts,
                progress=progress,
                cancel=cancel,
            ) as transfer:
                for plan in plans:
                    try:
                        result = _carry_out(plan, transfer, destination, options, cancel)
                        break
                    except ManifestRejectedError as refusal:
                        if plan is plans[-1]:
                            raise
                        progress(Event("note", text=f"{refusal}; trying another type"))
            progress(Event("manifest", digest=result.raw.digest, size=len(result.raw.data)))
    return result


def _carry_out(
    plan: Plan,
    transfer: Transfer,
    destination: ImageDestination,
    options: CopyOptions,
    cancel: Cancel,
) -> CopyResult:
    if plan.measures or destination.traits.ordered:
        transfer.prepare(plan.jobs)
    configs = legacy_configs(plan, transfer)
    transfer.move([*plan.jobs, *configs.values()])
    documents = assemble(plan, transfer, configs)
    cancel.check()
    write_documents(plan, documents, destination, options)
    destination.commit()
    return CopyResult(documents.top, documents.via, layer_results(plan, transfer))
