"""Buildah with overlay storage, for what is done in working containers."""

from __future__ import annotations

from pathlib import Path

from contrib.bench.timing import RunError
from contrib.bench.tools import Tool, Trial
from tests.support.buildah import Buildah


class BuildahTool(Tool):
    name = "buildah"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._buildah = Buildah(place / "buildah")

    def commit(self, tree: Path) -> Trial | None:
        buildah = self._buildah
        container = buildah.run("from", "scratch").strip()
        buildah.run("add", "--quiet", container, str(tree), "/")
        return Trial(
            [*buildah.command, "commit", "--quiet", container, "committed"],
            lambda _: self._check("localhost/committed:latest"),
            buildah.environment(),
        )

    def close(self) -> None:
        self._buildah.close()

    def _check(self, name: str) -> None:
        listed = self._buildah.run("images", "--format", "{{.Name}}:{{.Tag}}").split()
        if listed != [name]:
            raise RunError(f"{listed} instead of {name}")
