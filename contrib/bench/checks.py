"""What a measured run must have achieved; anything else is a RunError."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contrib.bench.layout import OCI_MANIFEST, TAG
from contrib.bench.timing import RunError, own_environment

TIMEOUT = 600.0  # seconds for anything outside the measured time


@dataclass(frozen=True, slots=True)
class Image:
    """An image to measure with: its name, the layout it was built in, its manifest's digest."""

    name: str
    layout: Path
    digest: str

    @property
    def source(self) -> str:
        """What skopeo and kstore call the layout."""
        return f"oci:{self.layout}:{TAG}"

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of the config and the layers, in this order."""
        document = json.loads(_blob(self.layout, self.digest).read_bytes())
        return tuple(entry["digest"] for entry in [document["config"], *document["layers"]])

    @property
    def config(self) -> str:
        return self.blobs[0]

    @property
    def size(self) -> int:
        """Bytes of the config and the layers as they travel."""
        return sum(_blob(self.layout, digest).stat().st_size for digest in self.blobs)

    def named(self, host: str) -> str:
        """The image's name at a registry."""
        return f"{host}/{self.name}:{TAG}"


def run(command: Sequence[str]) -> str:
    """Runs a command that is not measured; its standard output. Raises RunError."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            env=own_environment(os.environ),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise RunError(f"{' '.join(command[:4])} ...: {done.stderr.strip()[-500:]}")
    return done.stdout


def check_layout(layout: Path, image: Image, *, same_manifest: bool = True) -> None:
    """Whether a layout has the image: this very manifest, or one with the same config."""
    digest = json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"]
    if same_manifest and digest != image.digest:
        raise RunError(f"the layout has {digest} instead of {image.digest}")
    manifest = json.loads(_blob(layout, digest).read_bytes())
    _same_config(manifest["config"]["digest"], image)
    kinds = {layer["mediaType"] for layer in manifest["layers"]}
    if not same_manifest and any(not kind.endswith("gzip") for kind in kinds):
        raise RunError(f"layers are not compressed: {', '.join(sorted(kinds))}")
    for entry in manifest["layers"]:
        if _blob(layout, entry["digest"]).stat().st_size != entry["size"]:
            raise RunError(f"the layout's {entry['digest']} is not complete")


def check_dir(place: Path, image: Image) -> None:
    """Whether a ``dir:`` has the image's very manifest, and its blobs."""
    digest = hashlib.sha256((place / "manifest.json").read_bytes()).hexdigest()
    if f"sha256:{digest}" != image.digest:
        raise RunError(f"the directory has {digest} instead of {image.digest}")
    if missing := [d for d in image.blobs if not (place / d.removeprefix("sha256:")).exists()]:
        raise RunError(f"the directory misses {', '.join(missing)}")


def check_docker_archive(file: Path, image: Image) -> None:
    """Whether an archive has the image's config, and as many layers."""
    with tarfile.open(file) as tar:
        names = set(tar.getnames())
        document = tar.extractfile("manifest.json")
        assert document is not None
        entry = json.loads(document.read())[0]
    _same_config("sha256:" + Path(entry["Config"]).name.removesuffix(".json"), image)
    if len(entry["Layers"]) != len(image.blobs) - 1 or not names.issuperset(entry["Layers"]):
        raise RunError(f"the archive has not all {len(image.blobs) - 1} layers")


def check_registry(host: str, image: Image, *, same_manifest: bool) -> None:
    """Whether a registry has the image: this very manifest, or one with the same config."""
    url = f"http://{host}/v2/{image.name}/manifests/{TAG}"
    request = urllib.request.Request(url, headers={"Accept": OCI_MANIFEST})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            digest, body = answer.headers["Docker-Content-Digest"], answer.read(4 << 20)
    except OSError as error:
        raise RunError(f"{host} does not have the image: {error}") from error
    if same_manifest and digest != image.digest:
        raise RunError(f"the registry has {digest} instead of {image.digest}")
    _same_config(json.loads(body)["config"]["digest"], image)


def check_lines(text: str, count: int) -> None:
    """A heading and ``count`` rows."""
    found = len(text.rstrip("\n").splitlines()) - 1
    if found != count:
        raise RunError(f"{found} rows instead of {count}")


def _same_config(digest: str, image: Image) -> None:
    if digest != image.config:
        raise RunError(f"the config is {digest} instead of {image.config}")


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs/sha256" / digest.removeprefix("sha256:")
