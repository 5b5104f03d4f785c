"""Take files of this machine into a working container."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from kstore.blobs import storage_errors
from kstore.errors import InvalidInputError, StoreDamagedError
from kstore.operations.base_layers import shown_files
from kstore.operations.draft import Draft
from kstore.store import Store
from kstore.store.containers import remove_tree
from kstore.streams import Cancel
from kstore.tree.arrival import Arrival
from kstore.tree.merge import merge
from kstore.values import dataclass

__all__ = ["AddOptions", "add_files"]

_STAGING = ".adding-"


@dataclass(frozen=True, slots=True)
class AddOptions:
    """``owner``: user and group of what is added.  ``mode``: its permission bits, None for those
    it has."""

    owner: tuple[int, int] = (0, 0)
    mode: int | None = None


def add_files(
    store: Store,
    container: str,
    sources: Sequence[str],
    destination: str,
    options: AddOptions | None = None,
    *,
    warn: Callable[[str], None] = lambda _: None,
    cancel: Cancel | None = None,
) -> None:
    """Add files, and what is in directories, to a container, all of them or none.

    ``destination`` is a path in the container, where a relative one begins at its working
    directory; links on the way lead where they lead for a program in it.  A file goes into it if
    it is a directory, ends in ``/``, or if there are several sources.  Raises NotFoundError,
    ConflictError where a directory and a file meet, InvalidInputError, StorageError,
    ImageNotFoundError if the container's image is gone.
    """
    options = options or AddOptions()
    cancel = cancel or Cancel()
    if not sources:
        raise InvalidInputError("say what to add")
    for path in (*sources, destination):
        if "\0" in path:
            raise InvalidInputError(f"{path[:200]!r} is no path")
    record = store.containers.find(container)
    for source in sources:
        _require_outside(store, source)
    with store.containers.hold(record), store.lease(f"add {record.name}") as lease:
        target = os.path.join(Draft.of_container(record).work_dir, destination)  # noqa: PTH118
        if not record.upper.is_dir():
            raise StoreDamagedError(
                f"container {record.name} has lost its files", hint=f"kstore rm {record.name}"
            )
        with storage_errors(f"tidy up container {record.name}"):
            for left in record.directory.glob(f"{_STAGING}*"):
                remove_tree(left)
        contents = shown_files(store, lease, record, cancel)
        staging = record.directory / f"{_STAGING}{os.urandom(4).hex()}"
        try:
            arrival = Arrival(contents, staging, owner=options.owner, mode=options.mode, warn=warn)
            for source in sources:
                cancel.check()
                arrival.add(Path(source), target, inside=len(sources) > 1)
            merge(staging, record.upper)
        finally:
            with storage_errors(f"tidy up container {record.name}"):
                remove_tree(staging)


def _require_outside(store: Store, source: str) -> None:
    if store.root.resolve().is_relative_to(Path(source).resolve()):
        raise InvalidInputError(f"{source} holds the store itself, {store.root}")
