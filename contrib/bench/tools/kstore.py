"""kstore of this checkout, installed as a user installs it: by pip, with its bytecode."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from contrib.bench.checks import (
    Image,
    check_dir,
    check_docker_archive,
    check_layout,
    check_lines,
    check_registry,
    run,
)
from contrib.bench.layout import TAG
from contrib.bench.timing import RunError
from contrib.bench.tools import Tool, Trial

REPOSITORY = Path(__file__).resolve().parents[3]
_PARTS = ("kstore", "pyproject.toml", "README.md", "LICENSE")
_AT_ONCE, _PROCESSES = 250, 4  # images that a process pulls into a big store, and processes


def install_kstore(directory: Path, commit: str | None = None) -> Path:
    """Install a commit, or the checkout as it is, into an environment of its own; the program."""
    source, venv = directory / "source", directory / "venv"
    source.mkdir(parents=True)
    if commit is None:
        run(["cp", "-r", *(str(REPOSITORY / part) for part in _PARTS), str(source)])
    else:
        archive = directory / "source.tar"
        run(["git", "-C", str(REPOSITORY), "archive", "-o", str(archive), commit, *_PARTS])
        run(["tar", "-xf", str(archive), "-C", str(source)])
    run([sys.executable, "-m", "venv", str(venv)])
    run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", str(source)])
    for package in ("kstore/cli", "urllib3"):
        if not any(venv.glob(f"lib/python*/site-packages/{package}/__pycache__/*.pyc")):
            raise RunError(f"{package} was installed without bytecode: every start would compile")
    return venv / "bin/kstore"


class Kstore(Tool):
    name = "kstore"

    def __init__(self, program: Path, place: Path) -> None:
        super().__init__(place)
        self._source = program.parents[2] / "source"
        self._kstore = [str(program), "--root", str(self.storage)]

    @property
    def storage_version(self) -> str:
        schema = (self._source / "kstore/store/schema.py").read_bytes()
        return "-" + hashlib.sha256(schema).hexdigest()[:8]

    def fill(self, names: Sequence[str]) -> None:
        command = [*self._kstore, "pull", "--quiet", "--tls-verify=false"]
        parts = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
        with ThreadPoolExecutor(_PROCESSES) as pool:
            list(pool.map(lambda part: run([*command, *part]), parts))

    def pull(self, image: Image, host: str) -> Trial | None:
        name = image.named(host)
        return Trial(
            [*self._kstore, "pull", "--quiet", "--tls-verify=false", name],
            lambda _: self._check(name, "{{.Digest}}", image.digest),
        )

    def push(self, image: Image, source: str, target: str) -> Trial | None:
        names = image.named(source), image.named(target)
        return Trial(
            [*self._kstore, "push", "--quiet", "--tls-verify=false", *names],
            lambda _: check_registry(target, image, same_manifest=True),
        )

    def save(self, image: Image, source: str, file: Path) -> Trial | None:
        command = ["save", "-q", "--format", "docker-archive", "-o", str(file)]
        return self._if_known(
            [*command, image.named(source)], lambda _: check_docker_archive(file, image), file
        )

    def load(self, image: Image, archive: Path) -> Trial | None:
        name = image.named("bench.local")
        return self._if_known(
            ["load", "-q", "-i", str(archive)],
            lambda _: self._check(name, "{{.Id}}", image.config),
        )

    def copy(self, image: Image, source: str, kind: str) -> Trial | None:
        place = self._place / "copy"
        if kind == "dir":
            command = ["copy", "-q", source, f"dir:{place}"]
            return self._if_known(command, lambda _: check_dir(place, image), place)
        compress = ["--compress", "gzip"] if source.startswith("dir:") else []
        return self._if_known(
            ["copy", "-q", *compress, source, f"oci:{place}:{TAG}"],
            lambda _: check_layout(place, image, same_manifest=not compress),
            place,
        )

    def images(self, rows: int, label: str | None = None) -> Trial | None:
        chosen = [] if label is None else ["--filter", f"label={label}"]
        return Trial([*self._kstore, "images", *chosen], lambda text: check_lines(text, rows))

    def inspect(self, name: str) -> Trial | None:
        return Trial([*self._kstore, "inspect", name], lambda _: None)

    def tag(self, name: str, new: str) -> Trial | None:
        return Trial([*self._kstore, "tag", name, new], lambda _: self._check_rows(new, 1))

    def untag(self, name: str, new: str) -> Trial | None:
        return Trial([*self._kstore, "untag", new], lambda _: self._check_rows(new, 0))

    def find(self, kind: str) -> Trial | None:
        python = Path(self._kstore[0]).with_name("python")
        script = Path(__file__).resolve().parents[1] / "lookups.py"
        return Trial([str(python), "-I", str(script), str(self.storage), kind], lambda _: None)

    def commit(self, tree: Path) -> Trial | None:
        run([*self._kstore, "from", "--name", "box", "scratch"])
        run([*self._kstore, "add", "box", str(tree), "/"])
        return Trial(
            [*self._kstore, "commit", "--quiet", "box", "committed"],
            lambda _: self._check_rows("committed", 1),
        )

    def _if_known(
        self, command: Sequence[str], verify: Callable[[str], None], result: Path | None = None
    ) -> Trial | None:
        """The trial of a command that this checkout may not have yet."""
        known = subprocess.run([*self._kstore, command[0], "--help"], capture_output=True)
        if known.returncode:
            return None
        return Trial([*self._kstore, *command], verify, result=result)

    def _check(self, name: str, field: str, expected: str) -> None:
        shown = run([*self._kstore, "inspect", "--format", field, name]).strip()
        if shown.removeprefix("sha256:") != expected.removeprefix("sha256:"):
            raise RunError(f"{name} is {shown} instead of {expected}")

    def _check_rows(self, name: str, rows: int) -> None:
        found = run([*self._kstore, "images", "--noheading", name]).splitlines()
        if len(found) != rows:
            raise RunError(f"{name} is listed {len(found)} times instead of {rows}")


class ConfiguredKstore(Kstore):
    """kstore on a machine with ``entries`` registries, each with a mirror, and as many scopes of
    the trust policy, each with a key of its own; none of them is that of the images measured."""

    name = "kstore, configured"

    def __init__(self, program: Path, entries: int, place: Path) -> None:
        super().__init__(program, place)
        home = place / "config"
        (home / "containers").mkdir(parents=True)
        (home / "containers/registries.conf").write_text("".join(map(_registry, range(entries))))
        scopes = {f"registry-{n}.bench.local/team": [_signed_by(n)] for n in range(entries)}
        policy = {"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": scopes}}
        (home / "containers/policy.json").write_text(json.dumps(policy, indent=4))
        self._environ = {**os.environ, "XDG_CONFIG_HOME": str(home)}

    def pull(self, image: Image, host: str) -> Trial | None:
        return self._configured(super().pull(image, host))

    def images(self, rows: int, label: str | None = None) -> Trial | None:
        return self._configured(super().images(rows, label))

    def inspect(self, name: str) -> Trial | None:
        return self._configured(super().inspect(name))

    def _configured(self, trial: Trial | None) -> Trial | None:
        return None if trial is None else replace(trial, environ=self._environ)


def _registry(number: int) -> str:
    return (
        f'[[registry]]\nprefix = "registry-{number}.bench.local/team"\n'
        f'location = "other-{number}.bench.local/team"\n'
        f'[[registry.mirror]]\nlocation = "mirror-{number}.bench.local/team"\n\n'
    )


def _signed_by(number: int) -> dict[str, str]:
    return {"type": "signedBy", "keyType": "GPGKeys", "keyPath": f"/etc/keys/{number}.gpg"}
