"""Is the store what its records say?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kstore.reference import LOCAL_DOMAIN, Named
from kstore.store import CheckReport, Store
from kstore.streams import Cancel

__all__ = ["affected_images", "check_store", "is_pullable", "needs_rebuild"]


def check_store(
    store: Store,
    *,
    deep: bool = False,
    max_seconds: float | None = None,
    progress: Callable[[int], None] | None = None,
    cancel: Cancel | None = None,
) -> CheckReport:
    """Compare records and files; ``deep`` also hashes every blob and checks every diffID.

    With ``max_seconds``, as many blobs are hashed as that allows, those first that were verified
    longest ago.  ``progress`` is told the size of every piece that is hashed.
    """
    return store.check(deep=deep, max_seconds=max_seconds, progress=progress, cancel=cancel)


def needs_rebuild(report: CheckReport) -> bool:
    """Whether the database itself is damaged, so that only a new one helps."""
    return any(problem.kind == "database" for problem in report.problems)


def affected_images(store: Store, report: CheckReport) -> Mapping[str, tuple[Named, ...]]:
    """The images that damage was found in: ID to names.

    Nothing is said of a store whose database is damaged, because that is where it would come from.
    """
    if needs_rebuild(report):
        return {}
    damaged = {image for problem in report.problems for image in problem.images}
    return {
        image.id: tuple(record.name for record in image.names)
        for image in store.images()
        if image.id in damaged
    }


def is_pullable(name: Named) -> bool:
    """Whether a pull of ``name`` can bring the image once more: local names have no registry."""
    return name.domain != LOCAL_DOMAIN
