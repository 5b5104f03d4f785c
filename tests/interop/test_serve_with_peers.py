"""Other projects' tools use ``kstore.server`` as their registry."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.manifest import RawManifest
from kstore.server import ServeSettings
from tests.support.images import (
    ARM64,
    TestImage,
    index_of,
    random_artifact,
    random_image,
    write_oci_layout,
)
from tests.support.localregistry import LocalRegistry, serve
from tests.support.podman import Podman
from tests.support.programs import require_program
from tests.support.stores import put_image, put_index

pytestmark = [pytest.mark.peer, pytest.mark.timeout(120)]

SHA_OF_SECRET = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[LocalRegistry]:
    with serve(tmp_path / "root") as running:
        yield running


def run(*command: str) -> str:
    done = subprocess.run(
        [require_program(command[0]), *command[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"
    return done.stdout


def skopeo(*arguments: str) -> str:
    return run("skopeo", "--insecure-policy", *arguments)


def push(registry: LocalRegistry, source: str, name: str, *options: str) -> None:
    target = f"docker://{registry.host}/{name}"
    skopeo("copy", "--quiet", "--dest-tls-verify=false", *options, source, target)


def pull(registry: LocalRegistry, name: str, target: str, *options: str) -> None:
    source = f"docker://{registry.host}/{name}"
    skopeo("copy", "--quiet", "--src-tls-verify=false", *options, source, target)


def layout_manifest(directory: Path) -> bytes:
    """The manifest bytes of the only image of a layout."""
    index = json.loads((directory / "index.json").read_text())
    (entry,) = index["manifests"]
    digest = Digest.parse(entry["digest"])
    return (directory / "blobs/sha256" / digest.hex).read_bytes()


def assert_has_blobs(directory: Path, *images: TestImage) -> None:
    for image in images:
        for digest, data in image.blobs.items():
            assert (directory / "blobs/sha256" / digest.hex).read_bytes() == data


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_skopeo_copies_an_image_in_and_out_without_changing_a_byte(
    registry: LocalRegistry, tmp_path: Path, compression: str
) -> None:
    image = random_image(1, layers=5, layer_size=200_000, compression=compression)
    write_oci_layout(tmp_path / "in", {"v1": image})
    push(registry, f"oci:{tmp_path / 'in'}:v1", "team/app:v1", "--preserve-digests")
    pull(registry, "team/app:v1", f"oci:{tmp_path / 'out'}:v1", "--preserve-digests")
    assert layout_manifest(tmp_path / "out") == image.raw.data
    assert_has_blobs(tmp_path / "out", image)
    with registry.open_store() as store:
        assert store.find_image("team/app:v1").image.id == image.id
        assert store.check(deep=True).problems == ()


def test_skopeo_pushes_a_second_image_by_what_they_share(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    image = random_image(1)
    write_oci_layout(tmp_path / "in", {"v1": image})
    push(registry, f"oci:{tmp_path / 'in'}:v1", "one:v1")
    uploads = [line for line in registry.log if line.method == "PATCH"]
    push(registry, f"oci:{tmp_path / 'in'}:v1", "two:v1")
    assert len(uploads) == len(image.blobs)
    assert [line for line in registry.log if line.method == "PATCH"] == uploads


def test_skopeo_copies_an_index_with_all_members(registry: LocalRegistry, tmp_path: Path) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    index = index_of(images)
    write_oci_layout(tmp_path / "in", {"all": (index, images)})
    push(registry, f"oci:{tmp_path / 'in'}:all", "app:all", "--all", "--preserve-digests")
    assert registry.ask("GET", "/v2/app/manifests/all").body == index.data

    pull(registry, "app:all", f"oci:{tmp_path / 'out'}:all", "--all", "--preserve-digests")
    assert layout_manifest(tmp_path / "out") == index.data
    assert_has_blobs(tmp_path / "out", *images)

    pull(registry, "app:all", f"oci:{tmp_path / 'arm'}:x", "--override-arch=arm64")
    assert layout_manifest(tmp_path / "arm") == images[1].raw.data


def test_skopeo_copies_a_docker_list_from_repository_to_repository_by_mounting(
    registry: LocalRegistry,
) -> None:
    images = [
        random_image(1, docker=True),
        random_image(2, docker=True, platform=ARM64),
    ]
    index = index_of(images, docker=True)
    with registry.open_store() as store:
        put_index(store, index, images, "localhost/one:all")
    source = f"docker://{registry.host}/one:all"
    push(registry, source, "two:all", "--all", "--preserve-digests", "--src-tls-verify=false")
    answer = registry.ask("GET", "/v2/two/manifests/all")
    assert (answer.body, answer.headers["content-type"]) == (index.data, index.media_type)
    assert [line for line in registry.log if line.method == "PATCH"] == []


def test_skopeo_reads_what_kstore_has_under_its_own_names(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    images = [random_image(1), random_image(2, platform=ARM64)]
    index: RawManifest = index_of(images)
    with registry.open_store() as store:
        put_image(store, random_image(3), "docker.io/library/busybox:1.36")
        put_index(store, index, images, "quay.io/team/app:v1")
    facts = json.loads(
        skopeo("inspect", "--tls-verify=false", f"docker://{registry.host}/busybox:1.36")
    )
    assert facts["Digest"] == str(random_image(3).raw.digest)
    pull(registry, "quay.io/team/app:v1", f"oci:{tmp_path / 'out'}:v1", "--all")
    assert layout_manifest(tmp_path / "out") == index.data


def test_skopeo_lists_tags_and_deletes_an_image(registry: LocalRegistry, tmp_path: Path) -> None:
    write_oci_layout(tmp_path / "in", {"a": random_image(1), "b": random_image(2)})
    for tag in ("a", "b"):
        push(registry, f"oci:{tmp_path / 'in'}:{tag}", f"team/app:{tag}")
    address = f"docker://{registry.host}/team/app"
    assert json.loads(skopeo("list-tags", "--tls-verify=false", address))["Tags"] == ["a", "b"]
    skopeo("delete", "--tls-verify=false", f"{address}:a")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", address))["Tags"] == ["b"]
    assert registry.ask("GET", "/v2/team/app/manifests/a").status == 404


def test_skopeo_needs_the_password_where_there_is_one(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"anna:{SHA_OF_SECRET}\n")
    image = random_image(1)
    write_oci_layout(tmp_path / "in", {"v1": image})
    with serve(tmp_path / "root", ServeSettings(htpasswd=users)) as registry:
        with pytest.raises(AssertionError, match="authentication required|unauthorized"):
            push(registry, f"oci:{tmp_path / 'in'}:v1", "app:v1")
        push(registry, f"oci:{tmp_path / 'in'}:v1", "app:v1", "--dest-creds=anna:secret")
        pull(registry, "app:v1", f"oci:{tmp_path / 'out'}:v1", "--src-creds=anna:secret")
    assert layout_manifest(tmp_path / "out") == image.raw.data


def test_several_skopeos_push_and_pull_at_once(registry: LocalRegistry, tmp_path: Path) -> None:
    images = [random_image(number, layers=4, layer_size=100_000) for number in range(4)]
    write_oci_layout(tmp_path / "in", {f"v{n}": image for n, image in enumerate(images)})
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            push(registry, f"oci:{tmp_path / 'in'}:v{number}", f"app:v{number}")
            pull(registry, f"app:v{number}", f"oci:{tmp_path / f'out{number}'}:x")
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for number, image in enumerate(images):
        assert_has_blobs(tmp_path / f"out{number}", image)


def test_podman_pulls_and_pushes(registry: LocalRegistry, tmp_path: Path) -> None:
    image = random_image(1, layers=3, layer_size=50_000)
    write_oci_layout(tmp_path / "in", {"v1": image})
    push(registry, f"oci:{tmp_path / 'in'}:v1", "app:v1", "--preserve-digests")
    with Podman(tmp_path / "podman") as podman:
        name = f"{registry.host}/app:v1"
        podman.run("pull", "--quiet", "--tls-verify=false", name)
        assert podman.run("images", "--quiet", "--no-trunc").strip() == f"sha256:{image.id}"
        podman.run("push", "--tls-verify=false", name, f"{registry.host}/copy:v2")
    with registry.open_store() as store:
        assert store.find_image("copy:v2").image.id == image.id
        assert store.check(deep=True).problems == ()


def test_umoci_reads_the_root_of_the_store_after_a_push(
    registry: LocalRegistry, tmp_path: Path
) -> None:
    write_oci_layout(tmp_path / "in", {"v1": random_image(1)})
    push(registry, f"oci:{tmp_path / 'in'}:v1", "team/app:v1")
    registry_root = registry.root
    for _ in range(100):
        if "localhost/team/app:v1" in run("umoci", "list", "--layout", str(registry_root)):
            return
    pytest.fail("the pushed name does not appear in the layout")


def test_curl_resumes_a_download(registry: LocalRegistry, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    digest = registry.push_blob("app", data)
    target = tmp_path / "blob"
    target.write_bytes(data[:300_000])
    url = f"http://{registry.host}/v2/app/blobs/{digest}"
    run("curl", "--silent", "--show-error", "--fail", "-C", "-", "-o", str(target), url)
    assert target.read_bytes() == data
    assert registry.lines(2)[1].status == 206
    assert run("curl", "--silent", "-r", "100-103", "-o", "-", url).encode() == data[100:104]


def test_curl_uploads_with_permission_to_send(registry: LocalRegistry, tmp_path: Path) -> None:
    artifact = random_artifact(1)
    (digest, data), *_ = artifact.blobs.items()
    (tmp_path / "blob").write_bytes(data)
    url = f"http://{registry.host}/v2/app/blobs/uploads/?digest={digest}"
    body = f"@{tmp_path / 'blob'}"
    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", "30")
    run("curl", "--silent", "--fail", *expect, "-X", "POST", "--data-binary", body, url)
    assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == data


def test_curl_needs_the_password_where_there_is_one(tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text(f"anna:{SHA_OF_SECRET}\n")
    with serve(tmp_path / "root", ServeSettings(htpasswd=users)) as registry:
        url = f"http://{registry.host}/v2/"
        code = ("curl", "--silent", "-o", "/dev/null", "-w", "%{http_code}")
        assert run(*code, url) == "401"
        assert run(*code, "-u", "anna:secret", url) == "200"
        header = base64.b64encode(b"anna:wrong").decode()
        assert run(*code, "-H", f"Authorization: Basic {header}", url) == "401"
