"""What a commit makes, as other tools read it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kstore.store import Store
from kstore.tree import xattrs
from tests.support.cli import run
from tests.support.layers import directory, file, image_of, layer
from tests.support.podman import Podman
from tests.support.stores import put_image
from tests.support.trees import set_attribute

pytestmark = pytest.mark.peer

BASE = image_of(
    layer(
        *(directory("etc"), file("etc/gone"), file("etc/stays", b"base")),
        *(directory("opaque"), file("opaque/below")),
    )
)
LONG = "/".join(["a-long-name-that-fills-a-header" * 3] * 3)
OPTIONS = {
    "oci": ["--format", "oci"],
    "docker": ["--format", "docker"],
    "oci-plain": ["--compress", "none"],
    "oci-zstd": ["--compress", "zstd:3"],
    "squashed": ["--squash"],
    "docker-squashed": ["--format", "docker", "--squash"],
}


@dataclass
class Scene:
    """A store in which a container was committed in every way; podman has the same images."""

    root: Path
    has_attributes: bool

    def kstore(self, *args: object) -> str:
        result = run("--root", self.root, *args)
        assert result.code == 0, result.err
        return result.out

    def place(self, name: str) -> str:
        """Where skopeo and podman find a committed image: of an OCI layout, such as the store,
        they take no manifests of docker's."""
        if "docker" not in name:
            return f"oci:{self.root}:localhost/{name}:latest"
        directory = self.root.with_name(name)
        if not directory.exists():
            self.kstore("copy", "-q", f"kstore:localhost/{name}", f"dir:{directory}")
        return f"dir:{directory}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    root = tmp_path_factory.mktemp("commit") / "root"
    with Store.open(root) as store:
        put_image(store, BASE, "localhost/base")
    found = Scene(root, has_attributes=True)
    found.kstore("from", "--name", "box", "base")
    [container] = json.loads(found.kstore("inspect", "box"))
    upper = Path(container["GraphDriver"]["Data"]["UpperDir"])
    (upper / "etc").mkdir()
    (upper / "etc" / ".wh.gone").touch()
    (upper / "opaque").mkdir()
    (upper / "opaque" / ".wh..wh..opq").touch()
    (upper / "opaque" / "above").write_text("above")
    (upper / LONG).parent.mkdir(parents=True)
    (upper / LONG).write_text("deep")
    (upper / "one").write_text("linked")
    (upper / "one").chmod(0o4750)
    (upper / "two").hardlink_to(upper / "one")
    (upper / "link").symlink_to("etc/stays")
    found.has_attributes = set_attribute(upper / "one", "user.note", b"v\xff")
    found.kstore(
        *("config", "--env", "A=1", "--cmd", "serve it", "--entrypoint", '["/init"]'),
        *("--cmd", "serve it", "--label", "k=v", "--user", "1:2", "--workingdir", "/srv"),
        *("--port", "80", "--volume", "/data", "--stop-signal", "SIGINT", "--author", "me"),
        *("--created-by", "make all", "--history-comment", "why", "box"),
    )
    for name, options in OPTIONS.items():
        found.kstore("commit", "-q", "--timestamp", 86400, *options, "box", f"localhost/{name}")
    return found


def tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["oci", "oci-plain", "squashed"])
def test_umoci_unpacks_what_was_committed(
    scene: Scene, tmp_path: Path, require_program: Callable[[str], str], name: str
) -> None:
    umoci = require_program("umoci")
    bundle = tmp_path / "bundle"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    tag = f"localhost/{name}:latest"
    tool(umoci, "unpack", *rootless, "--image", f"{scene.root}:{tag}", str(bundle))
    rootfs = bundle / "rootfs"
    assert sorted(path.name for path in (rootfs / "etc").iterdir()) == ["stays"]
    assert sorted(path.name for path in (rootfs / "opaque").iterdir()) == ["above"]
    assert (rootfs / LONG).read_text() == "deep"
    assert (rootfs / "one").samefile(rootfs / "two")
    assert (rootfs / "one").stat().st_mode & 0o7777 == 0o4750
    assert (rootfs / "link").readlink() == Path("etc/stays")
    assert int((rootfs / "one").stat().st_mtime) == 86400
    if scene.has_attributes:
        descriptor = os.open(rootfs / "one", os.O_RDONLY)
        try:
            assert xattrs.read(descriptor)["user.note"] == b"v\xff"
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("name", OPTIONS)
def test_skopeo_reads_the_config_and_copies_every_layer(
    scene: Scene, tmp_path: Path, require_program: Callable[[str], str], name: str
) -> None:
    skopeo, source = require_program("skopeo"), scene.place(name)
    config = json.loads(tool(skopeo, "inspect", "--config", source))
    assert config["created"] == "1970-01-02T00:00:00Z"
    assert config["author"] == "me"
    assert config["config"] == {
        "User": "1:2",
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["A=1"],
        "Entrypoint": ["/init"],
        "Cmd": ["serve", "it"],
        "Volumes": {"/data": {}},
        "WorkingDir": "/srv",
        "Labels": {"k": "v", "name": "image"},
        "StopSignal": "SIGINT",
    }
    # Skopeo hashes what it copies, and unpacks what goes into an archive.
    tool(skopeo, "copy", "-q", source, f"dir:{tmp_path / 'copy'}")
    if "zstd" not in name:
        tool(skopeo, "copy", "-q", source, f"docker-archive:{tmp_path / 'archive.tar'}")


@pytest.fixture(scope="module")
def podman(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    with Podman(tmp_path_factory.mktemp("podman") / "storage") as podman:
        for name in OPTIONS:
            podman.run("pull", "-q", scene.place(name))
        yield podman


@pytest.mark.parametrize("name", OPTIONS)
def test_podman_sees_the_same_image(scene: Scene, podman: Podman, name: str) -> None:
    [ours] = json.loads(scene.kstore("inspect", f"localhost/{name}"))
    [theirs] = json.loads(podman.run("image", "inspect", ours["Id"]))
    # Several of these are one config in several manifests, of which podman keeps the first one.
    for key in ("Id", "Created", "Author", "Architecture", "Os", "Config", "RootFS", "Labels"):
        assert ours[key] == theirs[key], key
    form = ("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", ours["Id"])
    assert scene.kstore(*form) == podman.run(*form)

    def changes(text: str) -> list[str]:
        """Without what a directory hides as a whole, which podman's diff does not tell."""
        return sorted(line for line in text.splitlines() if "/opaque" not in line)

    told = changes(scene.kstore("diff", ours["Id"]))
    assert told == changes(podman.run("diff", ours["Id"]))
    assert ("D /etc/gone" in told) is ("squashed" not in name)
