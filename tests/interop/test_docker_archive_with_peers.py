"""Archives that podman and skopeo write, archives they read, and the Docker API of podman."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kstore.copier import copy_image
from kstore.errors import ImageNotFoundError, RemoteError
from kstore.interfaces import ImageReference
from kstore.manifest import ImageConfig, parse_image
from kstore.reference import Named
from kstore.signing.policy import AcceptAnything
from kstore.transports.docker_archive import DockerArchiveTransport
from kstore.transports.docker_daemon import DockerDaemonTransport
from kstore.transports.docker_endpoint import DockerDaemonSettings
from tests.support.images import TestImage, random_image, write_oci_layout
from tests.support.memory import Arrived, Memory
from tests.support.podman import Podman
from tests.support.podmanservice import podman_service

pytestmark = pytest.mark.peer

IMAGES = {
    "gzip": random_image(1),
    "plain": random_image(2, compression="none"),
    "docker": random_image(3, docker=True),
    "many": random_image(4, layers=20, layer_size=100),
}
NAMES = {
    name: (Named.parse(f"{name}:1"), Named.parse(f"localhost/team/{name}:1")) for name in IMAGES
}


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def copied(source: ImageReference) -> Arrived:
    """What a copy of ``source`` brings, every byte verified."""
    memory = Memory({})
    copy_image(source, memory.reference("copy"), AcceptAnything())
    return memory.committed["copy"]


def image_id(arrived: Arrived) -> str:
    assert arrived.raw is not None
    return parse_image(arrived.raw).config.digest.hex


def check_plain(arrived: Arrived, image: TestImage) -> None:
    """The same image, its layers unpacked."""
    assert arrived.raw is not None
    assert image_id(arrived) == image.id
    layers = parse_image(arrived.raw).layers
    diff_ids = ImageConfig.parse(image.config).diff_ids
    assert [layer.digest for layer in layers] == list(diff_ids)
    assert all(layer.digest in arrived.blobs for layer in layers)


@pytest.fixture
def transport(tmp_path: Path) -> DockerArchiveTransport:
    return DockerArchiveTransport(tmp_path)


@pytest.fixture
def ours(tmp_path: Path, transport: DockerArchiveTransport) -> Path:
    """An archive of all images under two names each."""
    memory, path = Memory(dict(IMAGES)), tmp_path / "ours.tar"
    with transport.open_writer(str(path)) as writer:
        for name in IMAGES:
            destination = writer.reference(NAMES[name])
            copy_image(memory.reference(name), destination, AcceptAnything())
    return path


@pytest.fixture
def podman(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Podman]:
    require_program("podman")
    with Podman(tmp_path / "podman") as podman:
        yield podman


def test_podman_loads_every_image_of_our_archive_with_all_names(ours: Path, podman: Podman) -> None:
    podman.run("load", "-q", "-i", str(ours))
    listed = json.loads(podman.run("images", "--format", "json"))
    found = {entry["Id"]: set(entry["Names"]) for entry in listed}
    assert found == {
        image.id: {str(named) for named in NAMES[name]} for name, image in IMAGES.items()
    }


def test_skopeo_reads_every_image_of_our_archive_down_to_its_files(
    ours: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    skopeo = require_program("skopeo")
    for name, image in IMAGES.items():
        target = tmp_path / f"dir-{name}"
        run(skopeo, "copy", "-q", f"docker-archive:{ours}:{NAMES[name][1]}", f"dir:{target}")
        manifest = json.loads((target / "manifest.json").read_bytes())
        assert manifest["config"]["digest"] == f"sha256:{image.id}"
        assert len(manifest["layers"]) == len(image.layers)


def test_skopeo_reads_our_archive_as_the_oci_layout_it_also_is(
    ours: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    skopeo, layout = require_program("skopeo"), tmp_path / "layout"
    layout.mkdir()
    run("tar", "-C", str(layout), "-xf", str(ours))
    index = json.loads((layout / "index.json").read_bytes())
    assert len(index["manifests"]) == 2 * len(IMAGES)
    index["manifests"] = index["manifests"][:1]
    (layout / "index.json").write_text(json.dumps(index))
    facts = json.loads(run(skopeo, "inspect", "--override-arch=amd64", f"oci:{layout}"))
    assert facts["Digest"] in {str(image.raw.digest) for image in IMAGES.values()}


@pytest.mark.parametrize("pack", [False, True])
def test_what_skopeo_writes_is_read(
    tmp_path: Path,
    transport: DockerArchiveTransport,
    require_program: Callable[[str], str],
    pack: bool,
) -> None:
    skopeo, path = require_program("skopeo"), tmp_path / "skopeo.tar"
    image = IMAGES["many"]
    write_oci_layout(tmp_path / "layout", {"many": image})
    source, target = f"oci:{tmp_path}/layout:many", f"docker-archive:{path}:team/many:7"
    run(skopeo, "copy", "-q", "--override-arch=amd64", source, target)
    if pack:
        path.write_bytes(gzip.compress(path.read_bytes()))
    check_plain(copied(transport.parse_reference(f"{path}:team/many:7")), image)
    check_plain(copied(transport.parse_reference(str(path))), image)


def test_what_podman_saves_is_read_one_image_and_several(
    ours: Path, tmp_path: Path, podman: Podman, transport: DockerArchiveTransport
) -> None:
    podman.run("load", "-q", "-i", str(ours))
    one, all_of_them = tmp_path / "one.tar", tmp_path / "all.tar"
    podman.run("save", "-q", "-o", str(one), "localhost/team/gzip:1")
    check_plain(copied(transport.parse_reference(str(one))), IMAGES["gzip"])

    wanted = [str(named) for names in NAMES.values() for named in names]
    podman.run("save", "-q", "--multi-image-archive", "-o", str(all_of_them), *wanted)
    with transport.open_reader(str(all_of_them)) as reader:
        assert {named for image in reader.images for named in image.names} == {
            named for names in NAMES.values() for named in names
        }
        arrived = [copied(one) for one in transport.references(str(all_of_them), reader)]
    assert {image_id(one) for one in arrived} == {image.id for image in IMAGES.values()}


def test_what_podman_pipes_out_is_read_from_the_pipe(
    ours: Path, tmp_path: Path, podman: Podman
) -> None:
    podman.run("load", "-q", "-i", str(ours))
    command = [*podman.command, "save", "-q", "docker.io/library/plain:1"]
    with subprocess.Popen(
        command, env=podman.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        piped = DockerArchiveTransport(tmp_path, stdin=process.stdout)  # type: ignore[arg-type]
        check_plain(copied(piped.parse_reference("-")), IMAGES["plain"])


def test_images_go_to_a_docker_api_and_come_back(tmp_path: Path, podman: Podman) -> None:
    memory = Memory(dict(IMAGES))
    with podman_service(podman) as host:
        daemon = DockerDaemonTransport(DockerDaemonSettings(host=host), spool_dir=tmp_path)
        for name, image in IMAGES.items():
            reference = daemon.parse_reference(f"team/{name}:1")
            copy_image(memory.reference(name), reference, AcceptAnything())
            check_plain(copied(reference), image)
            check_plain(copied(daemon.parse_reference(f"sha256:{image.id}")), image)
    listed = json.loads(podman.run("images", "--format", "json"))
    assert {entry["Id"]: entry["Names"] for entry in listed} == {
        image.id: [f"docker.io/team/{name}:1"] for name, image in IMAGES.items()
    }


def test_a_docker_api_says_what_it_has_not_and_what_it_does_not_take(
    tmp_path: Path, podman: Podman
) -> None:
    with podman_service(podman) as host:
        daemon = DockerDaemonTransport(DockerDaemonSettings(host=host), spool_dir=tmp_path)
        with pytest.raises(ImageNotFoundError, match="no image docker.io/library/nothing:1"):
            daemon.parse_reference("nothing:1").open_source()
        with daemon.api().load() as stream:
            stream.write(b"this is no archive" * 100)
            with pytest.raises(RemoteError, match=f"the docker daemon at {host}"):
                stream.commit()
    assert json.loads(podman.run("images", "--format", "json")) == []
