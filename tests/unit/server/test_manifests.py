from __future__ import annotations

import json
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.manifest import MAX_MANIFEST_SIZE, RawManifest
from kstore.reference import Named
from kstore.server import ServeSettings
from tests.support.images import ARM64, index_of, random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.stores import put_image


def get(registry: LocalRegistry, path: str, reference: object) -> bytes | None:
    answer = registry.ask("GET", f"/v2/{path}/manifests/{reference}")
    return answer.body if answer.status == 200 else None


def names(registry: LocalRegistry) -> dict[str, Digest]:
    with registry.open_store() as store:
        return {str(record.name): record.target for record in store.names()}


@pytest.mark.parametrize("docker", [False, True])
def test_a_pushed_image_comes_back_byte_for_byte(registry: LocalRegistry, docker: bool) -> None:
    image = random_image(1, docker=docker)
    registry.push("team/app", "v1", image)
    for reference in ("v1", image.raw.digest):
        answer = registry.ask("GET", f"/v2/team/app/manifests/{reference}")
        assert answer.status == 200
        assert answer.body == image.raw.data
        assert answer.headers["content-type"] == image.raw.media_type
        assert answer.headers["docker-content-digest"] == str(image.raw.digest)
        assert answer.headers["etag"] == f'"{image.raw.digest}"'
        head = registry.ask("HEAD", f"/v2/team/app/manifests/{reference}")
        assert {**head.headers, "date": ""} == {**answer.headers, "date": ""}
        assert head.body == b""


def test_a_pushed_image_is_an_image_of_the_store(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("team/app", "v1", image)
    with registry.open_store() as store:
        found = store.find_image("team/app:v1")
        assert (found.image.id, str(found.name)) == (image.id, "localhost/team/app:v1")
        assert [str(change.name) for change in store.name_log()] == ["localhost/team/app:v1"]
        assert store.name_log()[0].command == "serve"


def test_a_push_under_a_host_keeps_the_host(registry: LocalRegistry) -> None:
    registry.push("quay.io/team/app", "v1", random_image(1))
    registry.push("example.com_5000/app", "v1", random_image(1))
    assert sorted(names(registry)) == ["example.com:5000/app:v1", "quay.io/team/app:v1"]


def test_a_manifest_the_client_has_is_not_sent_again(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    headers = {"If-None-Match": f'"{image.raw.digest}"'}
    answer = registry.ask("GET", "/v2/app/manifests/v1", headers=headers)
    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize("path", ["docker.io/library/busybox", "library/busybox", "busybox"])
def test_an_image_of_docker_hub_is_found_by_its_full_and_its_short_name(
    registry: LocalRegistry, path: str
) -> None:
    image = random_image(1)
    with registry.open_store() as store:
        put_image(store, image, "docker.io/library/busybox:latest")
    assert get(registry, path, "latest") == image.raw.data
    assert get(registry, path, "other") is None


def test_a_local_image_comes_before_one_of_docker_hub(registry: LocalRegistry) -> None:
    hub, local = random_image(1), random_image(2)
    with registry.open_store() as store:
        put_image(store, hub, "docker.io/library/busybox:latest", "docker.io/library/busybox:1")
    registry.push("busybox", "latest", local)
    assert get(registry, "busybox", "latest") == local.raw.data
    assert get(registry, "busybox", "1") == hub.raw.data
    assert get(registry, "docker.io/library/busybox", "latest") == hub.raw.data


@pytest.mark.parametrize("reference", ["v2", ".INVALID_MANIFEST_NAME", "a" * 200, "v1%20"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_an_unknown_manifest_is_not_found(
    shared: LocalRegistry, reference: str, method: str
) -> None:
    shared.push("app", "v1", random_image(1))
    answer = shared.ask(method, f"/v2/app/manifests/{reference}")
    assert answer.status == 404
    if method != "HEAD":
        assert answer.code == "MANIFEST_UNKNOWN"


def test_an_unknown_digest_is_not_found(shared: LocalRegistry) -> None:
    assert shared.ask("GET", f"/v2/app/manifests/{Digest.of(b'?')}").status == 404


def test_a_layer_cannot_be_read_as_a_manifest(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    assert get(registry, "app", image.layers[0].digest) is None


def test_a_manifest_whose_blobs_are_not_there_is_refused(registry: LocalRegistry) -> None:
    image = random_image(1)
    for data in list(image.blobs.values())[1:]:
        registry.push_blob("app", data)
    answer = registry.push_manifest("app", "v1", image.raw)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    missing = str(next(iter(image.blobs)))
    assert answer.json["errors"][0]["detail"] == [{"digest": missing}]
    assert get(registry, "app", "v1") is None
    assert names(registry) == {}


def test_a_manifest_that_lies_about_a_size_is_refused(registry: LocalRegistry) -> None:
    image = random_image(1)
    for data in image.blobs.values():
        registry.push_blob("app", data)
    document = json.loads(image.raw.data)
    document["layers"][0]["size"] += 1
    raw = RawManifest.receive(json.dumps(document).encode())
    answer = registry.push_manifest("app", "v1", raw)
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_an_image_whose_blobs_are_in_the_store_needs_no_upload(registry: LocalRegistry) -> None:
    image = random_image(1)
    with registry.open_store() as store:
        put_image(store, image, "quay.io/team/app:v1")
    assert registry.push_manifest("app", "v1", image.raw).status == 201
    assert get(registry, "app", "v1") == image.raw.data


def test_a_moved_tag_leads_to_the_new_image(registry: LocalRegistry) -> None:
    old, new = random_image(1), random_image(2)
    registry.push("app", "v1", old)
    registry.push("app", "v1", new)
    assert get(registry, "app", "v1") == new.raw.data
    assert get(registry, "app", old.raw.digest) == old.raw.data


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"", mt.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"not json", mt.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[]", mt.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b'{"schemaVersion": 2}', mt.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b'{"a": 1, "a": 2}', mt.OCI_MANIFEST, "MANIFEST_INVALID"),
        (b"[" * 100_000, mt.OCI_MANIFEST, "MANIFEST_INVALID"),
        (random_image(1).raw.data, mt.DOCKER_MANIFEST, "MANIFEST_INVALID"),
        (random_image(1).raw.data, mt.OCI_INDEX, "MANIFEST_INVALID"),
        (b"\xff\xfe", "application/json", "MANIFEST_INVALID"),
    ],
)
def test_what_is_no_manifest_is_refused(
    shared: LocalRegistry, body: bytes, content_type: str, code: str
) -> None:
    answer = shared.ask("PUT", "/v2/app/manifests/v1", body, {"Content-Type": content_type})
    assert (answer.status, answer.code) == (400, code)


def test_a_document_that_is_manifest_and_index_at_once_is_refused(
    shared: LocalRegistry,
) -> None:
    document = json.loads(random_image(1).raw.data) | {"manifests": []}
    headers = {"Content-Type": mt.OCI_MANIFEST}
    body = json.dumps(document).encode()
    answer = shared.ask("PUT", "/v2/app/manifests/v1", body, headers)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_docker_schema_1_is_not_supported(shared: LocalRegistry) -> None:
    body = b'{"schemaVersion": 1, "name": "app", "tag": "v1", "fsLayers": [], "history": []}'
    headers = {"Content-Type": mt.DOCKER_SCHEMA1}
    answer = shared.ask("PUT", "/v2/app/manifests/v1", body, headers)
    assert (answer.status, answer.code) == (415, "UNSUPPORTED")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_manifest_beyond_the_limit_is_refused(shared: LocalRegistry, chunked: bool) -> None:
    data = b" " * (MAX_MANIFEST_SIZE + 1)
    body = iter([data[:3_000_000], data[3_000_000:]]) if chunked else data
    headers = {"Content-Type": mt.OCI_MANIFEST}
    answer = shared.ask("PUT", "/v2/app/manifests/v1", body, headers)
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")


def test_a_config_that_is_no_config_is_refused(registry: LocalRegistry) -> None:
    config = b"not json"
    registry.push_blob("app", config)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": Descriptor(mt.OCI_CONFIG, Digest.of(config), len(config)).to_json(),
        "layers": [],
    }
    raw = RawManifest.receive(json.dumps(document).encode())
    answer = registry.push_manifest("app", "v1", raw)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")
    assert names(registry) == {}


def test_a_manifest_pushed_by_digest_must_have_it(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", str(image.raw.digest), image)
    assert get(registry, "app", image.raw.digest) == image.raw.data
    assert names(registry) == {}
    answer = registry.push_manifest("app", str(Digest.of(b"other")), image.raw)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("tag", [".v1", "-v1", "a" * 129, "v%2F1", "v1%0a", "%C3%A9"])
def test_a_bad_tag_is_refused(registry: LocalRegistry, tag: str) -> None:
    headers = {"Content-Type": mt.OCI_MANIFEST}
    answer = registry.ask("PUT", f"/v2/app/manifests/{tag}", random_image(1).raw.data, headers)
    assert answer.status in (400, 404)
    assert names(registry) == {}


@pytest.mark.parametrize("docker", [False, True])
def test_an_index_with_its_members_is_pushed_and_pulled(
    registry: LocalRegistry, docker: bool
) -> None:
    members = [random_image(1, docker=docker), random_image(2, docker=docker, platform=ARM64)]
    for member in members:
        registry.push("app", str(member.raw.digest), member)
    index = index_of(members, docker=docker)
    assert registry.push_manifest("app", "v1", index).status == 201
    answer = registry.ask("GET", "/v2/app/manifests/v1")
    assert (answer.body, answer.headers["content-type"]) == (index.data, index.media_type)
    for member in members:
        assert get(registry, "app", member.raw.digest) == member.raw.data


def test_an_index_may_lack_members(registry: LocalRegistry) -> None:
    members = [random_image(1), random_image(2, platform=ARM64)]
    registry.push("app", str(members[0].raw.digest), members[0])
    index = index_of(members)
    assert registry.push_manifest("app", "v1", index).status == 201
    assert get(registry, "app", "v1") == index.data
    assert get(registry, "app", members[1].raw.digest) is None


def test_an_artifact_is_pushed_and_says_what_it_is_about(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    artifact = random_artifact(1, subject=image.raw.descriptor)
    for data in artifact.blobs.values():
        registry.push_blob("app", data)
    answer = registry.push_manifest("app", str(artifact.raw.digest), artifact.raw)
    assert answer.status == 201
    assert answer.headers["oci-subject"] == str(image.raw.digest)
    plain = registry.push_manifest("app", "v1", image.raw)
    assert "oci-subject" not in plain.headers


def test_a_deleted_tag_is_gone_and_its_manifest_stays(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    registry.push("app", "v2", image)
    assert registry.ask("DELETE", "/v2/app/manifests/v1").status == 202
    assert get(registry, "app", "v1") is None
    assert get(registry, "app", "v2") == image.raw.data
    assert registry.ask("DELETE", "/v2/app/manifests/v2").status == 202
    assert get(registry, "app", image.raw.digest) == image.raw.data


def test_a_manifest_deleted_by_digest_is_gone_with_its_tags(registry: LocalRegistry) -> None:
    image, other = random_image(1), random_image(2)
    registry.push("app", "v1", image)
    registry.push("app", "v2", image)
    registry.push("app", "v3", other)
    assert registry.ask("DELETE", f"/v2/app/manifests/{image.raw.digest}").status == 202
    for reference in ("v1", "v2", image.raw.digest):
        assert get(registry, "app", reference) is None
    assert get(registry, "app", "v3") == other.raw.data
    again = registry.ask("DELETE", f"/v2/app/manifests/{image.raw.digest}")
    assert (again.status, again.code) == (404, "MANIFEST_UNKNOWN")


def test_deleting_by_digest_spares_the_names_of_other_repositories(
    registry: LocalRegistry,
) -> None:
    image = random_image(1)
    with registry.open_store() as store:
        put_image(store, image, "quay.io/team/app:v1")
    registry.push("copy", "v1", image)
    assert registry.ask("DELETE", f"/v2/copy/manifests/{image.raw.digest}").status == 202
    assert get(registry, "copy", "v1") is None
    assert get(registry, "quay.io/team/app", "v1") == image.raw.data
    assert list(names(registry)) == ["quay.io/team/app:v1"]


def test_blobs_of_a_damaged_manifest_file_are_not_served(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    file = registry.root / "blobs/sha256" / image.raw.digest.hex
    file.chmod(0o644)
    file.write_bytes(image.raw.data.replace(b"2", b"3", 1))
    answer = registry.ask("GET", "/v2/app/manifests/v1")
    assert answer.status == 500
    assert str(registry.root).encode() not in answer.body


def test_what_was_pushed_is_there_after_a_restart(tmp_path: Path) -> None:
    image = random_image(1)
    with serve(tmp_path / "root") as registry:
        registry.push("app", "v1", image)
    with serve(tmp_path / "root", ServeSettings(read_only=True)) as registry:
        assert get(registry, "app", "v1") == image.raw.data
        for digest, data in image.blobs.items():
            assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == data


def test_uploaded_blobs_survive_a_prune_until_their_manifest_arrives(
    registry: LocalRegistry,
) -> None:
    image = random_image(1)
    for data in image.blobs.values():
        registry.push_blob("app", data)
    with registry.open_store() as store:
        store.prune(lease_grace=0, partial_grace=0, all_unused_partials=True)
    assert registry.push_manifest("app", "v1", image.raw).status == 201


def test_members_survive_a_prune_until_their_index_arrives(registry: LocalRegistry) -> None:
    member = random_image(1)
    registry.push("app", str(member.raw.digest), member)
    with registry.open_store() as store:
        store.prune(lease_grace=0)
    assert registry.push_manifest("app", "v1", index_of([member])).status == 201
    assert get(registry, "app", member.raw.digest) == member.raw.data


def test_members_from_an_earlier_day_survive_a_prune_once_their_index_is_there(
    tmp_path: Path,
) -> None:
    member = random_image(1)
    index = index_of([member])
    with serve(tmp_path / "root") as registry:
        registry.push("app", str(member.raw.digest), member)
    with serve(tmp_path / "root") as registry:
        assert registry.push_manifest("app", str(index.digest), index).status == 201
        with registry.open_store() as store:
            store.prune(lease_grace=0)
        assert registry.push_manifest("app", "v1", index).status == 201
        assert get(registry, "app", member.raw.digest) == member.raw.data
        for digest, data in member.blobs.items():
            assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == data


def test_a_blob_that_head_promised_survives_the_removal_of_its_image(
    registry: LocalRegistry,
) -> None:
    image = random_image(1)
    with registry.open_store() as store:
        put_image(store, image, "quay.io/team/app:v1")
        for digest in image.blobs:
            assert registry.ask("HEAD", f"/v2/app/blobs/{digest}").status == 200
        store.remove_name(Named.parse("quay.io/team/app:v1"))
        store.prune(lease_grace=0)
    assert registry.push_manifest("app", "v1", image.raw).status == 201
