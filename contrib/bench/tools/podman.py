"""Podman with overlay storage. It unpacks what it pulls and packs anew what it pushes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from contrib.bench.checks import (
    TIMEOUT,
    Image,
    check_docker_archive,
    check_lines,
    check_registry,
)
from contrib.bench.timing import RunError
from contrib.bench.tools import Tool, Trial
from tests.support.podman import Podman


class PodmanTool(Tool):
    name = "podman"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._podman = Podman(place / "podman")

    @property
    def storage(self) -> Path:
        return self._place / "podman/root"

    def fill(self, names: Sequence[str]) -> None:
        self._podman.run("pull", "--quiet", "--tls-verify=false", *names, timeout=TIMEOUT)

    def adopt(self, kept: Path) -> None:
        super().adopt(kept)
        shutil.rmtree(self.storage / "libpod")  # the folder that it was made in stands there
        self._podman.run("info")  # makes it anew: not to be a part of the first measured run

    def pull(self, image: Image, host: str) -> Trial | None:
        name = image.named(host)
        return self._trial(
            ["pull", "--quiet", "--tls-verify=false", name],
            lambda _: self._check(name, "{{.Digest}}", image.digest),
        )

    def push(self, image: Image, source: str, target: str) -> Trial | None:
        names = image.named(source), f"docker://{image.named(target)}"
        return self._trial(
            ["push", "--quiet", "--tls-verify=false", *names],
            lambda _: check_registry(target, image, same_manifest=False),
        )

    def save(self, image: Image, source: str, file: Path) -> Trial | None:
        command = ["save", "--quiet", "--format", "docker-archive", "--output", str(file)]
        return self._trial(
            [*command, image.named(source)], lambda _: check_docker_archive(file, image), file
        )

    def load(self, image: Image, archive: Path) -> Trial | None:
        name = image.named("bench.local")
        return self._trial(
            ["load", "--quiet", "--input", str(archive)],
            lambda _: self._check(name, "{{.Id}}", image.config),
        )

    def images(self, rows: int, label: str | None = None) -> Trial | None:
        chosen = [] if label is None else ["--filter", f"label={label}"]
        return self._trial(["images", *chosen], lambda text: check_lines(text, rows))

    def tag(self, name: str, new: str) -> Trial | None:
        return self._trial(["tag", name, new], lambda _: self._check_exists(new, True))

    def untag(self, name: str, new: str) -> Trial | None:
        return self._trial(["untag", name, new], lambda _: self._check_exists(new, False))

    def close(self) -> None:
        self._podman.close()

    def _trial(
        self, command: Sequence[str], verify: Callable[[str], None], result: Path | None = None
    ) -> Trial | None:
        podman = self._podman
        return Trial([*podman.command, *command], verify, podman.environment(), result)

    def _check(self, name: str, field: str, expected: str) -> None:
        shown = self._podman.run("image", "inspect", "--format", field, name).strip()
        if shown.removeprefix("sha256:") != expected.removeprefix("sha256:"):
            raise RunError(f"{name} is {shown} instead of {expected}")

    def _check_exists(self, name: str, expected: bool) -> None:
        listed = self._podman.run("images", "--quiet", "--filter", f"reference={name}")
        if bool(listed.strip()) != expected:
            raise RunError(f"{name} {'is missing' if expected else 'is still there'}")
