"""The scene on disks that lose their power when a command has ended, however it ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.scenes import Place, Scene, fast_directory
from tests.support.powercuts import make_disk, mounted_disk

__all__ = ["STEPS", "CutScene", "cut_scene"]

#: Nothing but these adds to what survives.  The last one is the end of the process.
STEPS = "fsync,fdatasync,rename,unlink,exit_group"


@dataclass(frozen=True, slots=True)
class CutScene:
    """Like a :class:`Scene`; every place is a disk of its own, made from ``template``."""

    scene: Scene
    template: Path
    directory: Path

    @contextmanager
    def place(self) -> Iterator[Place]:
        self.scene.forget_pushed()
        with mounted_disk(self.template, self.directory / "try") as disk:
            yield Place(self.scene, disk.mount / "store", disk.mount / "outside", disk.cut)


@contextmanager
def cut_scene(scene: Scene, kind: str) -> Iterator[CutScene]:
    """The scene on file systems of that kind."""
    with fast_directory() as directory:
        empty, filled = make_disk(kind, directory), directory / f"filled.{kind}"
        with mounted_disk(empty, directory / "made") as disk:
            scene.copy_store(disk.mount / "store")
            (disk.mount / "outside").mkdir()
            disk.detach()
            disk.image.rename(filled)
        yield CutScene(scene, filled, directory)
