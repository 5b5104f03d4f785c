"""What kstore converts and compresses, other tools understand.

Images go from kstore's own registry to Debian's docker-registry, changed on the way; skopeo reads
them there, unpacks the layers and comes to the very bytes of the original.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.app import App, RegistryOptions
from kstore.copier import CopyOptions, CopyResult, copy_image
from kstore.digest import Digest
from kstore.settings import load
from kstore.signing.policy import AcceptAnything
from kstore.store import Store
from kstore.transports import Transports
from tests.support.dockerregistry import DockerRegistry
from tests.support.images import AMD64, ARM64, TestImage, index_of, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.programs import require_program

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

#: Several pieces to compress, the last of them short.
BIG = 2_500_000


@pytest.fixture
def source(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "source") as registry:
        yield registry


@pytest.fixture
def target(tmp_path: Path) -> Iterator[DockerRegistry]:
    with DockerRegistry(tmp_path) as registry:
        yield registry


@pytest.fixture
def transports(tmp_path: Path) -> Iterator[Transports]:
    with Store.open(tmp_path / "store", command="test") as store:
        app = App(load({}, root=store.root))
        with app.transports(store, RegistryOptions(tls_verify=False)) as transports:
            yield transports


def copied(transports: Transports, source: str, target: str, **wishes) -> CopyResult:
    return copy_image(
        transports.parse(f"docker://{source}/team/app:v1"),
        transports.parse(f"docker://{target}/team/app:v1"),
        AcceptAnything(),
        CopyOptions(**wishes),
        facts=transports.storage.store.layer_facts,
    )


def skopeo(*arguments: str) -> str:
    command = [require_program("skopeo"), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


def unpacked_by_skopeo(host: str, directory: Path) -> set[str]:
    """The digests of config and unpacked layers, as skopeo finds them."""
    skopeo(
        *("copy", "-q", "--src-tls-verify=false", "--dest-decompress", "--all"),
        *(f"docker://{host}/team/app:v1", f"dir:{directory}"),
    )
    names = {file.name for file in directory.iterdir()}
    return {f"sha256:{name}" for name in names if len(name) == 64}


def plain_digests(image: TestImage) -> set[str]:
    diff_ids = json.loads(image.config)["rootfs"]["diff_ids"]
    return {str(Digest.of(image.config)), *diff_ids}


@pytest.mark.parametrize(
    ("after", "target_type"),
    [
        ("none", mt.OCI_MANIFEST),
        ("gzip", mt.OCI_MANIFEST),
        ("zstd", mt.OCI_MANIFEST),
        ("none", mt.DOCKER_MANIFEST),
        ("gzip", mt.DOCKER_MANIFEST),
    ],
)
@pytest.mark.parametrize("before", ["none", "gzip"])
def test_skopeo_unpacks_what_was_compressed_anew_to_the_original(
    source: LocalRegistry,
    target: DockerRegistry,
    transports: Transports,
    tmp_path: Path,
    before: str,
    after: str,
    target_type: str,
) -> None:
    image = random_image(1, compression=before, layer_size=BIG)
    source.push("team/app", "v1", image)
    result = copied(
        transports,
        source.host,
        target.host,
        compression=after,
        force_compression=True,
        manifest_type=target_type,
    )
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target.host}/team/app:v1")
    assert raw.encode() == result.raw.data
    assert unpacked_by_skopeo(target.host, tmp_path / "dir") == plain_digests(image)


@pytest.mark.parametrize("docker", [True, False])
def test_skopeo_reads_a_converted_index_with_all_its_members(
    source: LocalRegistry,
    target: DockerRegistry,
    transports: Transports,
    tmp_path: Path,
    docker: bool,
) -> None:
    images = [random_image(1, docker=docker, platform=AMD64)]
    images += [random_image(2, docker=docker, platform=ARM64)]
    for image in images:
        source.push("team/app", str(image.raw.digest), image)
    assert source.push_manifest("team/app", "v1", index_of(images, docker)).status == 201
    family = mt.OCI_MANIFEST if docker else mt.DOCKER_MANIFEST
    copied(transports, source.host, target.host, instances="all", manifest_type=family)
    found = unpacked_by_skopeo(target.host, tmp_path / "dir")
    assert found == plain_digests(images[0]) | plain_digests(images[1])


@pytest.mark.parametrize("docker", [True, False])
def test_an_index_goes_through_a_foreign_registry_unchanged(
    source: LocalRegistry, target: DockerRegistry, transports: Transports, docker: bool
) -> None:
    images = [random_image(1, docker=docker, platform=AMD64)]
    images += [random_image(2, docker=docker, platform=ARM64)]
    for image in images:
        source.push("team/app", str(image.raw.digest), image)
    index = index_of(images, docker)
    source.push_manifest("team/app", "v1", index)
    copied(transports, source.host, target.host, instances="all", preserve_digests=True)
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target.host}/team/app:v1")
    assert raw.encode() == index.data
