"""Inspecting images where they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.errors import (
    DigestMismatchError,
    InvalidManifestError,
    KstoreError,
    PlatformNotFoundError,
)
from kstore.operations.remote_inspect import (
    inspect_remote,
    read_remote_config,
    read_remote_manifest,
)
from kstore.platforms import Platform
from kstore.transports import Transports
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import (
    AMD64,
    ARM64,
    TestImage,
    index_of,
    random_artifact,
    random_image,
    write_oci_layout,
)
from tests.support.legacy import legacy_image

AMD, ARM = random_image(1, labels={"a": "b"}), random_image(2, platform=ARM64)
INDEX = index_of([AMD, ARM])


def offer(server: FaultServer, tag: str = "v1", *images: TestImage, index: Any = None) -> str:
    """Put images, or an index of them, at a registry; its address."""
    for image in images:
        for data in image.blobs.values():
            server.add_blob(data, "team/app")
        server.add_manifest(
            image.raw.data, image.raw.media_type, "team/app", None if index else tag
        )
    if index is not None:
        server.add_manifest(index.data, index.media_type, "team/app", tag)
    return f"docker://{server.host}/team/app:{tag}"


def test_everything_skopeo_tells_is_told(transports: Transports, faulty: FaultServer) -> None:
    text = offer(faulty, "v1", AMD)
    offer(faulty, "v2", ARM)
    shown = inspect_remote(transports, text).to_json()
    assert shown == {
        "Name": f"{faulty.host}/team/app",
        "Digest": str(AMD.raw.digest),
        "RepoTags": ["v1", "v2"],
        "Created": "2024-01-02T03:04:05Z",
        "DockerVersion": "",
        "Labels": {"a": "b"},
        "Architecture": "amd64",
        "Variant": "",
        "Os": "linux",
        "ManifestType": mt.OCI_MANIFEST,
        "Layers": [str(layer.digest) for layer in AMD.layers],
        "LayersData": [
            {
                "MIMEType": mt.OCI_LAYER_GZIP,
                "Digest": str(layer.digest),
                "Size": layer.size,
                "Annotations": None,
            }
            for layer in AMD.layers
        ],
        "Env": ["PATH=/bin"],
    }


def test_no_layer_is_fetched(transports: Transports, faulty: FaultServer) -> None:
    inspect_remote(transports, offer(faulty, "v1", AMD))
    [config] = faulty.seen("GET", "/blobs/")
    assert config.target.endswith(AMD.id)


@pytest.mark.parametrize(("platform", "image"), [(AMD64, AMD), (ARM64, ARM)])
def test_of_an_index_the_member_for_a_platform_is_shown(
    transports: Transports, faulty: FaultServer, platform: Platform, image: TestImage
) -> None:
    text = offer(faulty, "v1", AMD, ARM, index=INDEX)
    shown = inspect_remote(transports, text, platform=platform).to_json()
    assert shown["Architecture"] == platform.architecture
    assert shown["Digest"] == str(INDEX.digest)
    assert shown["Layers"] == [str(layer.digest) for layer in image.layers]
    assert read_remote_config(transports, text, platform=platform) == image.config
    assert read_remote_manifest(transports, text, platform=platform) == image.raw


def test_the_raw_manifest_of_an_index_is_the_index(
    transports: Transports, faulty: FaultServer
) -> None:
    text = offer(faulty, "v1", AMD, index=INDEX)
    assert read_remote_manifest(transports, text).data == INDEX.data


def test_a_platform_that_is_not_there_is_named(transports: Transports, faulty: FaultServer) -> None:
    text = offer(faulty, "v1", AMD, ARM, index=INDEX)
    with pytest.raises(PlatformNotFoundError, match="linux/amd64, linux/arm64"):
        inspect_remote(transports, text, platform=Platform("linux", "s390x"))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_tags_that_are_not_told_are_left_out_with_a_warning(
    transports: Transports, faulty: FaultServer, status: int
) -> None:
    text = offer(faulty, "v1", AMD)
    faulty.fault(Fault(status=status, body=b"{}"), "GET", "/tags/list", times=9)
    warnings: list[str] = []
    inspection = inspect_remote(transports, text, warn=warnings.append)
    assert (inspection.tags, inspection.to_json()["RepoTags"]) == (None, [])
    [warning] = warnings
    assert warning.startswith(f"the tags of {faulty.host}/team/app are left out: ")


def test_tags_nobody_wants_are_not_asked_for(transports: Transports, faulty: FaultServer) -> None:
    inspect_remote(transports, offer(faulty, "v1", AMD), tags=False)
    assert faulty.seen("GET", "/tags/list") == []


def test_an_image_of_a_layout_has_no_repository(transports: Transports, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "layout", {"v1": AMD})
    shown = inspect_remote(transports, f"oci:{tmp_path / 'layout'}:v1").to_json()
    assert (shown["Name"], shown["RepoTags"], shown["Os"]) == ("", [], "linux")


def test_an_artifact_has_layers_and_no_config(transports: Transports, faulty: FaultServer) -> None:
    artifact = random_artifact(1)
    shown = inspect_remote(transports, offer(faulty, "v1", artifact)).to_json()
    assert (shown["Created"], shown["Architecture"], shown["Env"]) == (None, "", [])
    assert shown["Layers"] == [str(artifact.layers[0].digest)]


def test_dockers_first_schema_is_read_without_a_config(
    transports: Transports, faulty: FaultServer
) -> None:
    old = legacy_image(1)
    text = offer(faulty, "v1", old)
    shown = inspect_remote(transports, text).to_json()
    assert shown["Created"].startswith("2015-01-02T03:04")
    assert {layer["Size"] for layer in shown["LayersData"]} == {None}
    assert read_remote_manifest(transports, text).data == old.raw.data
    with pytest.raises(InvalidManifestError, match="no config of its own"):
        read_remote_config(transports, text)


def test_a_manifest_that_is_another_one_is_not_shown(
    transports: Transports, faulty: FaultServer
) -> None:
    text = offer(faulty, "v1", AMD).replace(":v1", f"@{AMD.raw.digest}")
    faulty.fault(Fault(body=ARM.raw.data), "GET", "/manifests/", times=9)
    for read in (inspect_remote, read_remote_manifest, read_remote_config):
        with pytest.raises(DigestMismatchError):
            read(transports, text)


def test_a_config_that_is_another_one_is_not_shown(
    transports: Transports, faulty: FaultServer
) -> None:
    text = offer(faulty, "v1", AMD)
    faulty.fault(Fault(corrupt=True), "GET", "/blobs/", times=9)
    with pytest.raises(DigestMismatchError):
        read_remote_config(transports, text)


@pytest.mark.parametrize(
    ("text", "code"), [("oci:absent", 3), ("docker-archive:absent.tar", 3), ("bogus://x", 2)]
)
def test_what_is_not_there_is_one_sentence(transports: Transports, text: str, code: int) -> None:
    with pytest.raises(KstoreError) as caught:
        inspect_remote(transports, text)
    assert caught.value.exit_code == code


def test_json_carries_it(transports: Transports, faulty: FaultServer) -> None:
    shown = inspect_remote(transports, offer(faulty, "v1", AMD)).to_json()
    assert json.loads(json.dumps(shown)) == shown
