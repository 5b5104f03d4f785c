"""Copy one image, alone or with what is attached to it."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from kstore.copier import CopyOptions, CopyResult, Facts, copy_image
from kstore.copier.progress import ProgressSink, ignore
from kstore.image import TrustPolicy
from kstore.interfaces import ImageReference
from kstore.operations.attached import Place
from kstore.streams import Cancel

__all__ = ["carry"]


def carry(
    source: ImageReference,
    destination: ImageReference,
    policy: TrustPolicy,
    options: CopyOptions,
    *,
    with_referrers: bool = False,
    attached: Place | None = None,
    facts: Facts | None = None,
    progress: ProgressSink = ignore,
    cancel: Cancel | None = None,
) -> CopyResult:
    """``copier.copy_image``, and ``with_referrers`` everything that is attached to the image, or
    what is ``attached`` to it in a place that is open already.

    Its digest must not change then, as that is what it is referred to by.  Raises what both steps
    do; UnsupportedError, before anything moves, where nothing can be attached to an image.
    """
    if not with_referrers and attached is None:
        return copy_image(
            source, destination, policy, options, facts=facts, progress=progress, cancel=cancel
        )
    from kstore.operations.referrer_places import open_place
    from kstore.operations.referrers import copy_referrers

    options = replace(options, preserve_digests=True)
    opened = open_place(source) if attached is None else contextlib.nullcontext(attached)
    with opened as origin, open_place(destination, new=True) as target:
        result = copy_image(
            origin.reference if attached is None else source,
            target.reference,
            policy,
            options,
            facts=facts,
            progress=progress,
            cancel=cancel,
        )
        copy_referrers(origin, target, result, options, progress=progress, cancel=cancel)
    return result
