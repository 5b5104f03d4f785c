"""The tools that are compared, each behind the same few questions.

A tool makes a :class:`Trial`: the command that is timed, and the check of what it has done. What a
trial needs beforehand (a filled store for a push) is made outside the measured time.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from contrib.bench.checks import (
    TIMEOUT,
    Image,
    check_layout,
    check_lines,
    check_registry,
    run,
)
from contrib.bench.layout import TAG
from contrib.bench.timing import RunError
from tests.support.podman import Podman

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Trial:
    """What is timed, and ``verify(output)``, which raises RunError when the result is wrong."""

    command: Sequence[str]
    verify: Callable[[str], None]
    environ: Mapping[str, str] = field(default_factory=os.environ.copy)
    clean: Callable[[], None] = lambda: None


class Tool(Protocol):
    """One competitor. ``scratch`` is a fresh folder that the caller removes."""

    name: str

    def version(self) -> str: ...

    def pull(self, image: Image, host: str, scratch: Path) -> Trial: ...

    def push(self, image: Image, source: str, target: str, scratch: Path) -> Trial | None:
        """Sends to the empty registry ``target`` what ``source`` has; None: cannot be compared."""


class Library(Protocol):
    """A tool with a store of many images, for ``images`` and ``tag``."""

    name: str

    def fill(self, names: Sequence[str], scratch: Path) -> None: ...

    def list_trial(self, count: int) -> Trial: ...

    def tag_trial(self, name: str, number: int) -> Trial: ...

    def close(self) -> None: ...


# --- kstore ------------------------------------------------------------------------------------


def install_kstore(directory: Path) -> Path:
    """Install a copy of this checkout into an environment of its own; the program's path."""
    source, venv = directory / "source", directory / "venv"
    for name in ("kstore", "pyproject.toml", "README.md", "LICENSE"):
        place = REPOSITORY / name
        copy = shutil.copytree if place.is_dir() else shutil.copy2
        source.mkdir(parents=True, exist_ok=True)
        copy(place, source / name)
    run([sys.executable, "-m", "venv", str(venv)])
    run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", str(source)])
    return venv / "bin/kstore"


class Kstore:
    """This checkout, installed as a user installs it: by pip, with its bytecode."""

    name = "kstore"

    def __init__(self, program: Path) -> None:
        self._kstore = [str(program)]
        self._root = Path()

    def version(self) -> str:
        return run([*self._kstore, "--version"]).strip()

    def pull(self, image: Image, host: str, scratch: Path) -> Trial:
        name, root = f"{host}/{image.name}:{TAG}", scratch / "store"
        return Trial(
            [*self._at(root), "pull", "--quiet", "--tls-verify=false", name],
            lambda _: self._check(root, name, image.digest),
        )

    def push(self, image: Image, source: str, target: str, scratch: Path) -> Trial | None:
        name, root = f"{source}/{image.name}:{TAG}", scratch / "store"
        run([*self._at(root), "pull", "--quiet", "--tls-verify=false", name])
        there = f"{target}/{image.name}:{TAG}"
        command = [*self._at(root), "push", "--quiet", "--tls-verify=false", name, there]
        return Trial(command, lambda _: check_registry(target, image, same_manifest=True))

    def fill(self, names: Sequence[str], scratch: Path) -> None:
        self._root = scratch / "store"
        run([*self._at(self._root), "pull", "--quiet", "--tls-verify=false", *names])

    def list_trial(self, count: int) -> Trial:
        return Trial([*self._at(self._root), "images"], lambda text: check_lines(text, count))

    def tag_trial(self, name: str, number: int) -> Trial:
        new = f"bench.local/tag:{number}"
        command = [*self._at(self._root), "tag", name, new]
        listing = [*self._at(self._root), "images", "--noheading", new]
        return Trial(command, lambda _: check_lines("\n" + run(listing), 1))

    def close(self) -> None:
        pass

    def _at(self, root: Path) -> list[str]:
        return [*self._kstore, "--root", str(root)]

    def _check(self, root: Path, name: str, digest: str) -> None:
        shown = run([*self._at(root), "inspect", "--format", "{{.Digest}}", name]).strip()
        if shown != digest:
            raise RunError(f"pulled {shown} instead of {digest}")


# --- skopeo ------------------------------------------------------------------------------------


class Skopeo:
    """``skopeo copy`` from and to an OCI layout: it keeps layers as received, as kstore does."""

    name = "skopeo (oci:)"

    def version(self) -> str:
        return run(["skopeo", "--version"]).strip()

    def pull(self, image: Image, host: str, scratch: Path) -> Trial:
        layout = scratch / "layout"
        source, target = f"docker://{host}/{image.name}:{TAG}", f"oci:{layout}:{TAG}"
        return Trial(
            [*_SKOPEO_COPY, "--src-tls-verify=false", source, target],
            lambda _: check_layout(layout, image),
        )

    def push(self, image: Image, source: str, target: str, scratch: Path) -> Trial | None:
        there = f"docker://{target}/{image.name}:{TAG}"
        command = [*_SKOPEO_COPY, "--dest-tls-verify=false", f"oci:{image.layout}:{TAG}", there]
        return Trial(command, lambda _: check_registry(target, image, same_manifest=True))


_SKOPEO_COPY = ("skopeo", "--insecure-policy", "copy", "--quiet")


def upload(image: Image, host: str) -> None:
    """Puts ``image`` into the registry ``host``, byte for byte."""
    there = f"docker://{host}/{image.name}:{TAG}"
    run([*_SKOPEO_COPY, "--dest-tls-verify=false", f"oci:{image.layout}:{TAG}", there])
    check_registry(host, image, same_manifest=True)


# --- podman ------------------------------------------------------------------------------------


class PodmanTool:
    """Podman with overlay storage. It unpacks what it pulls and packs anew what it pushes."""

    name = "podman"

    def __init__(self) -> None:
        self._library: Podman | None = None

    def version(self) -> str:
        return run(["podman", "--version"]).strip()

    def pull(self, image: Image, host: str, scratch: Path) -> Trial:
        podman, name = Podman(scratch / "podman"), f"{host}/{image.name}:{TAG}"

        def verify(_: str) -> None:
            shown = podman.run("image", "inspect", "--format", "{{.Digest}}", name).strip()
            if shown != image.digest:
                raise RunError(f"pulled {shown} instead of {image.digest}")

        command = ["pull", "--quiet", "--tls-verify=false", name]
        return self._trial(podman, command, verify, podman.close)

    def push(self, image: Image, source: str, target: str, scratch: Path) -> Trial | None:
        podman, name = Podman(scratch / "podman"), f"{source}/{image.name}:{TAG}"
        podman.run("pull", "--quiet", "--tls-verify=false", name, timeout=TIMEOUT)
        there = f"docker://{target}/{image.name}:{TAG}"
        command = ["push", "--quiet", "--tls-verify=false", name, there]
        return self._trial(
            podman,
            command,
            lambda _: check_registry(target, image, same_manifest=False),
            podman.close,
        )

    def fill(self, names: Sequence[str], scratch: Path) -> None:
        self._library = Podman(scratch / "podman")
        self._library.run("pull", "--quiet", "--tls-verify=false", *names, timeout=TIMEOUT)

    def list_trial(self, count: int) -> Trial:
        assert self._library is not None
        return self._trial(self._library, ["images"], lambda text: check_lines(text, count))

    def tag_trial(self, name: str, number: int) -> Trial:
        podman, new = self._library, f"bench.local/tag:{number}"
        assert podman is not None

        def verify(_: str) -> None:
            podman.run("image", "exists", new)

        return self._trial(podman, ["tag", name, new], verify)

    def close(self) -> None:
        if self._library is not None:
            self._library.close()

    @staticmethod
    def _trial(
        podman: Podman,
        command: Sequence[str],
        verify: Callable[[str], None],
        clean: Callable[[], None] = lambda: None,
    ) -> Trial:
        return Trial([*podman.command, *command], verify, podman.environment(), clean)


# --- the limit ---------------------------------------------------------------------------------


class Curl:
    """What the transfer itself costs: parallel downloads to disk, then one hash of each file."""

    name = "limit: curl -Z, then sha256"

    def version(self) -> str:
        return run(["curl", "--version"]).splitlines()[0]

    def pull(self, image: Image, host: str, scratch: Path) -> Trial:
        config = scratch / "curl.cfg"
        config.write_text(
            "".join(
                f'url = "http://{host}/v2/{image.name}/blobs/{digest}"\n'
                f'output = "{scratch / digest.removeprefix("sha256:")}"\n'
                for digest in image.blobs
            )
        )
        files = [str(scratch / digest.removeprefix("sha256:")) for digest in image.blobs]
        script = 'curl -sSf -Z --parallel-max 6 -K "$0" && openssl dgst -sha256 -r "$@"'

        def verify(text: str) -> None:
            hashes = {line.split()[0] for line in text.splitlines()}
            if hashes != {digest.removeprefix("sha256:") for digest in image.blobs}:
                raise RunError("what curl fetched has other digests")

        return Trial(["sh", "-c", script, str(config), *files], verify)

    def push(self, image: Image, source: str, target: str, scratch: Path) -> Trial | None:
        return None
