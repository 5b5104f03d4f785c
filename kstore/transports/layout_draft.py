"""A new OCI layout that appears at its place when it is complete, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kstore.blobs import fsync_directory, storage_errors
from kstore.formats.drafts import abandoned_drafts, make_draft
from kstore.formats.oci_layout import INDEX_FILE, LAYOUT_FILE

__all__ = ["layout_draft", "sweep_drafts"]


@contextlib.contextmanager
def layout_draft(target: Path) -> Iterator[Path]:
    """The directory beside ``target`` to write the layout to, which at the end becomes ``target``.

    ``target`` must not exist, or be an empty directory.  A failure leaves nothing; what a writer
    that was killed left is removed by the next writer of ``target``.  Raises StorageError.
    """
    with storage_errors(f"write {target}"):
        sweep_drafts(target)
        draft, lock = make_draft(target)
    try:
        yield draft
        with storage_errors(f"write {target}"):
            draft.rename(target)
            fsync_directory(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def sweep_drafts(target: Path) -> None:
    """Remove layouts that writers of ``target`` began and did not live to finish.  OSError."""
    with contextlib.suppress(PermissionError):  # one may write there, but not look around
        for path in abandoned_drafts(target):
            if all(_is_own(entry.name) for entry in path.iterdir()):
                shutil.rmtree(path, ignore_errors=True)  # another user's stays


def _is_own(name: str) -> bool:
    return name in (LAYOUT_FILE, INDEX_FILE, "blobs") or name.startswith(f".{INDEX_FILE}.")
