"""Many small images in a registry, and stores that were filled from it and are kept for next time.

The images are written straight into the files of docker-registry's storage: uploading ten thousand
would take longer than everything that is measured.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from contrib.bench import images
from contrib.bench.checks import Image, run
from contrib.bench.layout import TAG, renamed_when_done
from contrib.bench.tools import Tool
from tests.support.dockerregistry import DockerRegistry


def fill(tool: Tool, count: int, room: Path, cache: Path) -> list[str]:
    """Gives the tool a store of ``count`` distinct images; their names.

    Image N has the label ``bench.number=N``. The filled store is kept in ``cache``.
    """
    kept = cache / "stores" / f"{tool.name}-{count}{tool.storage_version}"
    if not kept.exists():
        _make(tool, count, room, kept)
    tool.adopt(kept / "storage")
    names: list[str] = json.loads((kept / "names.json").read_bytes())
    return names


def _make(tool: Tool, count: int, room: Path, kept: Path) -> None:
    print(f"filling {tool.name} with {count} images ...", end=" ", flush=True)
    begun = time.monotonic()
    place = room / f"registry-{tool.name}"
    place.mkdir()
    with DockerRegistry(place) as registry:
        names = list(_seed(registry, count, place))
        tool.fill(names)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with renamed_when_done(kept) as unfinished:
        unfinished.mkdir()
        run(["cp", "-a", str(tool.storage), str(unfinished / "storage")])
        (unfinished / "names.json").write_text(json.dumps(names))
    shutil.rmtree(place)
    print(f"{time.monotonic() - begun:.0f} s, kept as {kept}", flush=True)


def _seed(registry: DockerRegistry, count: int, place: Path) -> Iterator[str]:
    for number in range(count):
        layout = place / "layout"
        image = Image(f"many/image-{number:05d}", layout, images.numbered(layout, number))
        _write(image, registry.blobs.parent)
        shutil.rmtree(layout)
        yield image.named(registry.host)


def _write(image: Image, storage: Path) -> None:
    """What an upload of ``image`` leaves in the registry's storage."""
    repository = storage / "repositories" / image.name
    for digest in image.blobs:
        _link(repository / "_layers", digest)
    _link(repository / "_manifests/revisions", image.digest)
    current = repository / "_manifests/tags" / TAG / "current/link"
    current.parent.mkdir(parents=True)
    current.write_text(image.digest)
    _link(current.parents[1] / "index", image.digest)
    for digest in (*image.blobs, image.digest):
        name = digest.removeprefix("sha256:")
        blob = storage / "blobs/sha256" / name[:2] / name / "data"
        blob.parent.mkdir(parents=True, exist_ok=True)
        (image.layout / "blobs/sha256" / name).rename(blob)


def _link(folder: Path, digest: str) -> None:
    link = folder / digest.replace(":", "/") / "link"
    link.parent.mkdir(parents=True)
    link.write_text(digest)
