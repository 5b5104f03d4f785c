"""What a measured run must have achieved; anything else is a RunError."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contrib.bench.layout import OCI_MANIFEST, TAG
from contrib.bench.timing import RunError

TIMEOUT = 600.0  # seconds for anything outside the measured time


@dataclass(frozen=True, slots=True)
class Image:
    """An image to measure with: its name, the layout it was built in, its manifest's digest."""

    name: str
    layout: Path
    digest: str

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of the config and the layers."""
        path = self.layout / "blobs" / "sha256" / self.digest.removeprefix("sha256:")
        document = json.loads(path.read_bytes())
        return tuple(entry["digest"] for entry in [document["config"], *document["layers"]])


def run(command: Sequence[str]) -> str:
    """Runs a command that is not measured; its standard output. Raises RunError."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise RunError(f"{' '.join(command[:4])} ...: {done.stderr.strip()[-500:]}")
    return done.stdout


def check_layout(layout: Path, image: Image) -> None:
    entry = json.loads((layout / "index.json").read_bytes())["manifests"][0]
    if entry["digest"] != image.digest:
        raise RunError(f"the layout has {entry['digest']} instead of {image.digest}")


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
    if json.loads(body)["config"]["digest"] not in image.blobs:
        raise RunError("the registry has an image with another config")


def check_lines(text: str, count: int) -> None:
    """A heading and ``count`` rows."""
    found = len(text.rstrip("\n").splitlines()) - 1
    if found != count:
        raise RunError(f"{found} rows instead of {count}")
