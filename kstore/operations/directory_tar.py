"""A directory as the tar of a new layer."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

from kstore.operations.layer_input import LayerInput
from kstore.tree.layer import LayerTar, TreeRules

__all__ = ["DirectoryInput"]


class DirectoryInput(LayerInput):
    """The tar of the tree below a directory, made as ``rules`` say; see
    :class:`kstore.tree.layer.LayerTar`."""

    def __init__(self, path: Path, rules: TreeRules, *, warn: Callable[[str], None]) -> None:
        called = path.absolute().name or "/"
        super().__init__(str(path), os.fsencode(called).decode(errors="replace"))
        self._tar = LayerTar(path, rules, warn=warn)

    @property
    def created(self) -> dt.datetime:
        """The time of the youngest thing in the tree."""
        return dt.datetime.fromtimestamp(self._tar.newest, dt.UTC)

    def readinto(self, buffer: memoryview, /) -> int:
        return self._tar.readinto(buffer)

    def close(self) -> None:
        self._tar.close()
