"""``skopeo copy`` from and to an OCI layout: it keeps layers as received, as kstore does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from contrib.bench.checks import (
    Image,
    check_dir,
    check_docker_archive,
    check_layout,
    check_registry,
    run,
)
from contrib.bench.layout import TAG
from contrib.bench.tools import Tool, Trial

_COPY = ("skopeo", "--insecure-policy", "copy", "--quiet")


class Skopeo(Tool):
    name = "skopeo"

    def pull(self, image: Image, host: str) -> Trial | None:
        source = f"docker://{image.named(host)}"
        return self._to_layout([*_COPY, "--src-tls-verify=false", source], image)

    def push(self, image: Image, source: str, target: str) -> Trial | None:
        there = f"docker://{image.named(target)}"
        return Trial(
            [*_COPY, "--dest-tls-verify=false", image.source, there],
            lambda _: check_registry(target, image, same_manifest=True),
        )

    def save(self, image: Image, source: str, file: Path) -> Trial | None:
        return Trial(
            [*_COPY, image.source, _docker_archive(image, file)],
            lambda _: check_docker_archive(file, image),
            result=file,
        )

    def load(self, image: Image, archive: Path) -> Trial | None:
        source = _docker_archive(image, archive)
        return self._to_layout([*_COPY, source], image, same_manifest=False)

    def copy(self, image: Image, source: str, kind: str) -> Trial | None:
        if kind == "dir":
            place = self._place / "copy"
            command = [*_COPY, source, f"dir:{place}"]
            return Trial(command, lambda _: check_dir(place, image), result=place)
        # Going to a layout, skopeo compresses plain layers without being told.
        trial = self._to_layout([*_COPY, source], image, same_manifest=source.startswith("oci:"))
        return replace(trial, result=self._place / "copy")

    def _to_layout(self, command: list[str], image: Image, *, same_manifest: bool = True) -> Trial:
        layout = self._place / "copy"
        return Trial(
            [*command, f"oci:{layout}:{TAG}"],
            lambda _: check_layout(layout, image, same_manifest=same_manifest),
        )


def upload(image: Image, host: str) -> None:
    """Puts ``image`` into the registry ``host``, byte for byte."""
    run([*_COPY, "--dest-tls-verify=false", image.source, f"docker://{image.named(host)}"])
    check_registry(host, image, same_manifest=True)


def write_docker_archive(image: Image, file: Path) -> None:
    """The archive that every tool loads."""
    run([*_COPY, image.source, _docker_archive(image, file)])


def write_plain_dir(image: Image, place: Path) -> None:
    """The image as a ``dir:`` with layers that are not compressed."""
    run([*_COPY, "--dest-decompress", image.source, f"dir:{place}"])


def _docker_archive(image: Image, file: Path) -> str:
    return f"docker-archive:{file}:{image.named('bench.local')}"
