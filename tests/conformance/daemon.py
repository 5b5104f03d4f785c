"""A Docker daemon that keeps images as dockerd and podman do: config and unpacked layers.

::

    with KeepingDocker() as docker:
        DockerDaemonSettings(host=docker.host)
    docker.images                          # {"docker.io/library/app:1": Kept(...)}

An image leaves as ``docker save`` wrote it from version 1.10 to 24.  What the daemon was given as
manifest, and how layers were compressed, it does not remember.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass

from kstore.compression import decompressor, detect
from kstore.digest import Digest
from kstore.streams import BytesStream, read_limited
from tests.support.dockertars import dump, tar_of
from tests.support.fakedocker import FakeDocker, ok

__all__ = ["KeepingDocker", "Kept", "unpacked"]

_MOST = 1 << 26  # bytes of an unpacked layer


@dataclass(frozen=True)
class Kept:
    """An image: its config, and its layers as tars, base first."""

    config: bytes
    layers: tuple[bytes, ...]

    @property
    def id(self) -> str:
        return Digest.of(self.config).hex


class KeepingDocker(FakeDocker):
    """Takes images, and gives them away by name or ID."""

    def __init__(self) -> None:
        super().__init__()
        self.images: dict[str, Kept] = {}
        self.answers["/images/load"] = self.load

    def load(self, archive: bytes) -> bytes:
        """Keep the images of an archive; what is answered."""
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            files = {entry.name: tar.extractfile(entry) for entry in tar if entry.isfile()}
            data = {name: file.read() for name, file in files.items() if file is not None}
        for entry in json.loads(data["manifest.json"]):
            layers = tuple(unpacked(data[name]) for name in entry["Layers"])
            kept = Kept(data[entry["Config"]], layers)
            for name in entry["RepoTags"] or [f"sha256:{kept.id}"]:
                self.images[name] = kept
                self.answers[f"/images/{name}/get"] = ok(_saved(name, kept))
        return ok(b'{"stream":"Loaded image"}\r\n')


def unpacked(blob: bytes) -> bytes:
    """A layer without its compression."""
    plain = decompressor(detect(blob[:6]), BytesStream(blob), max_output=_MOST)
    return read_limited(plain, _MOST, "a layer")


def _saved(name: str, kept: Kept) -> bytes:
    """The archive; a layer that stands twice in the image is one file."""
    layers = {f"{Digest.of(layer).hex}/layer.tar": layer for layer in kept.layers}
    listed = {
        "Config": f"{kept.id}.json",
        "RepoTags": None if name.startswith("sha256:") else [name],
        "Layers": [f"{Digest.of(layer).hex}/layer.tar" for layer in kept.layers],
    }
    return tar_of({f"{kept.id}.json": kept.config, **layers, "manifest.json": dump([listed])})
