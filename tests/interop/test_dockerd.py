"""Docker itself: its API, the archives it reads, and those it writes.

Not marked ``peer``: ``contrib/test.sh`` brings it, but it needs rights that root has not got in
every container, so that no run demands it (see ``tests.support.dockerd``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstore.copier import copy_image
from kstore.errors import ImageNotFoundError, RemoteError
from kstore.reference import Named
from kstore.signing.policy import AcceptAnything
from kstore.transports.docker_archive import DockerArchiveTransport
from kstore.transports.docker_daemon import DockerDaemonTransport
from kstore.transports.docker_endpoint import DockerDaemonSettings
from tests.interop.test_docker_archive_with_peers import IMAGES, check_plain, copied, image_id
from tests.support.dockerd import dockerd
from tests.support.memory import Memory

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

Docker = Callable[..., str]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dockerd(tmp_path_factory.mktemp("dockerd") / "docker") as host:
        yield host


@pytest.fixture
def docker(host: str) -> Iterator[Docker]:
    """Docker's own program; no image stays from one test to the next."""
    program = shutil.which("docker")
    if program is None:
        pytest.skip("docker is not installed")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, "--host", host, *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    if images := run("images", "--all", "--quiet").split():
        run("rmi", "--force", *dict.fromkeys(images))


@pytest.fixture
def daemon(host: str, tmp_path: Path) -> DockerDaemonTransport:
    return DockerDaemonTransport(DockerDaemonSettings(host=host), spool_dir=tmp_path)


def held(docker: Docker) -> dict[str, set[str]]:
    """Image ID -> names, as docker tells them."""
    found: dict[str, set[str]] = {}
    for line in docker("images", "--no-trunc", "--format", "{{json .}}").splitlines():
        image = json.loads(line)
        names = found.setdefault(image["ID"].removeprefix("sha256:"), set())
        names.add(f"{image['Repository']}:{image['Tag']}")
    return found


def test_images_go_to_docker_and_come_back(docker: Docker, daemon: DockerDaemonTransport) -> None:
    memory = Memory(dict(IMAGES))
    for name, image in IMAGES.items():
        reference = daemon.parse_reference(f"team/{name}:1")
        copy_image(memory.reference(name), reference, AcceptAnything())
        check_plain(copied(reference), image)
        check_plain(copied(daemon.parse_reference(f"sha256:{image.id}")), image)
    assert held(docker) == {image.id: {f"team/{name}:1"} for name, image in IMAGES.items()}


def test_docker_loads_every_image_of_our_archive_with_all_names(
    docker: Docker, tmp_path: Path
) -> None:
    memory, path = Memory(dict(IMAGES)), tmp_path / "ours.tar"
    with DockerArchiveTransport(tmp_path).open_writer(str(path)) as writer:
        for name in IMAGES:
            names = [Named.parse(f"{name}:1"), Named.parse(f"localhost/team/{name}:1")]
            copy_image(memory.reference(name), writer.reference(names), AcceptAnything())
    docker("load", "--quiet", "--input", str(path))
    assert held(docker) == {
        image.id: {f"{name}:1", f"localhost/team/{name}:1"} for name, image in IMAGES.items()
    }


def test_what_docker_saves_is_read_one_image_and_several(
    docker: Docker, daemon: DockerDaemonTransport, tmp_path: Path
) -> None:
    memory = Memory(dict(IMAGES))
    for name in IMAGES:
        target = daemon.parse_reference(f"{name}:1")
        copy_image(memory.reference(name), target, AcceptAnything())
    archives = DockerArchiveTransport(tmp_path)
    docker("save", "--output", str(tmp_path / "one.tar"), "gzip:1")
    check_plain(copied(archives.parse_reference(f"{tmp_path}/one.tar")), IMAGES["gzip"])
    docker("save", "--output", str(tmp_path / "all.tar"), *(f"{name}:1" for name in IMAGES))
    for name, image in IMAGES.items():
        arrived = copied(archives.parse_reference(f"{tmp_path}/all.tar:{name}:1"))
        check_plain(arrived, image)
        assert image_id(arrived) == image.id


def test_docker_says_what_it_has_not_and_what_it_does_not_take(
    docker: Docker, daemon: DockerDaemonTransport, host: str
) -> None:
    with pytest.raises(ImageNotFoundError, match="no image docker.io/library/nothing:1"):
        daemon.parse_reference("nothing:1").open_source()
    with daemon.api().load() as stream:
        stream.write(b"this is no archive" * 100)
        with pytest.raises(RemoteError, match=f"the docker daemon at {host}"):
            stream.commit()
    assert held(docker) == {}
