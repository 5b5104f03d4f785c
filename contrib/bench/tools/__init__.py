"""The tools that are compared, each behind the same few questions.

A tool lives in a folder of its own. It is asked for a :class:`Trial`: the command that is timed,
and the check of what it has done. What a trial needs beforehand (a filled store for a push) is made
outside the measured time. ``None`` as an answer: the tool cannot do this.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from contrib.bench.checks import Image, run


@dataclass(frozen=True, slots=True)
class Trial:
    """What is timed, and ``verify(output)``, which raises RunError when the result is wrong.

    ``result`` is the file or folder that was written, where its size in bytes is of interest.
    """

    command: Sequence[str]
    verify: Callable[[str], None]
    environ: Mapping[str, str] = field(default_factory=os.environ.copy)
    result: Path | None = None


class Tool:
    """One competitor with its storage below the folder ``place``."""

    name = ""

    def __init__(self, place: Path) -> None:
        self._place = place

    @property
    def storage(self) -> Path:
        """The folder with everything the tool has stored; a copy of it is another such storage."""
        return self._place / "storage"

    @property
    def storage_version(self) -> str:
        """Changes when a storage that was kept cannot be used any more."""
        return ""

    def fill(self, names: Sequence[str]) -> None:
        """Pulls images, outside the measured time. A tool without a storage has nothing to do."""

    def adopt(self, kept: Path) -> None:
        """Goes on with a copy of the storage ``kept``."""
        shutil.rmtree(self.storage, ignore_errors=True)
        run(["cp", "-a", str(kept), str(self.storage)])

    def pull(self, image: Image, host: str) -> Trial | None:
        return None

    def push(self, image: Image, source: str, target: str) -> Trial | None:
        """Sends to the registry ``target`` the image that was pulled from ``source``."""
        return None

    def save(self, image: Image, source: str, file: Path) -> Trial | None:
        """Writes the image that was pulled from ``source`` into a docker-archive."""
        return None

    def load(self, image: Image, archive: Path) -> Trial | None:
        """Reads a docker-archive."""
        return None

    def copy(self, image: Image, source: str, kind: str) -> Trial | None:
        """Copies ``source`` (with its transport) to a new ``oci:`` or ``dir:``, as ``kind`` says.

        Plain layers are compressed with gzip on the way to ``oci:``.
        """
        return None

    def images(self, rows: int, label: str | None = None) -> Trial | None:
        """Lists the storage, or what carries a label, which must give so many rows."""
        return None

    def inspect(self, name: str) -> Trial | None:
        return None

    def tag(self, name: str, new: str) -> Trial | None:
        return None

    def untag(self, name: str, new: str) -> Trial | None:
        return None

    def find(self, kind: str) -> Trial | None:
        """Looks up a thousand images in one process, by ``kind``: name, ID or prefix of an ID;
        prints the seconds that took."""
        return None

    def commit(self, tree: Path) -> Trial | None:
        """Makes an image of a container from scratch with the files of ``tree``, which it gets
        beforehand."""
        return None

    def close(self) -> None:
        """Ends what is left of the tool; the caller removes its folder."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A tool that is made anew for every folder."""

    name: str
    make: Callable[[Path], Tool]
