from __future__ import annotations

import json
import re
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.server import Limits, ServeSettings
from tests.support.attachments import cosign_attachment, cosign_tag
from tests.support.images import random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.support.stores import put_image


def fill(registry: LocalRegistry, *names: str) -> None:
    with registry.open_store() as store:
        put_image(store, random_image(1), *names)


def follow(registry: LocalRegistry, url: str, key: str) -> list[list[Any]]:
    """All pages from ``url`` on."""
    pages = []
    while url:
        answer = registry.ask("GET", url)
        assert answer.status == 200, answer
        pages.append(answer.json[key])
        match = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
        url = match[1] if match else ""
        assert len(pages) < 50
    return pages


def test_the_catalog_of_an_empty_store_is_empty(registry: LocalRegistry) -> None:
    assert registry.ask("GET", "/v2/_catalog").json == {"repositories": []}


def test_everything_in_the_catalog_can_be_pulled(registry: LocalRegistry) -> None:
    fill(
        registry,
        "localhost/app:v1",
        "localhost/quay.io/x:v1",
        "quay.io/x:v1",
        "docker.io/library/busybox:v1",
        "docker.io/team/tool:v1",
        "example.com:5000/deep/er/app:v1",
        "registry:5000/app:v1",
    )
    paths = registry.ask("GET", "/v2/_catalog").json["repositories"]
    assert len(paths) == 7
    assert paths == sorted(paths)
    for path in paths:
        assert registry.ask("GET", f"/v2/{path}/manifests/v1").status == 200, path
        assert "v1" in registry.ask("GET", f"/v2/{path}/tags/list").json["tags"], path


def test_the_catalog_comes_in_pages(registry: LocalRegistry) -> None:
    fill(registry, *(f"localhost/app{n}:v1" for n in range(5)))
    assert follow(registry, "/v2/_catalog?n=2", "repositories") == [
        ["app0", "app1"],
        ["app2", "app3"],
        ["app4"],
    ]


def test_tags_are_sorted_and_come_in_pages(registry: LocalRegistry) -> None:
    fill(registry, *(f"localhost/app:{tag}" for tag in ("c", "a", "B", "b", "latest")))
    answer = registry.ask("GET", "/v2/app/tags/list")
    assert answer.json == {"name": "app", "tags": ["B", "a", "b", "c", "latest"]}
    assert "link" not in answer.headers
    assert follow(registry, "/v2/app/tags/list?n=2", "tags") == [["B", "a"], ["b", "c"], ["latest"]]
    assert follow(registry, "/v2/app/tags/list?n=5", "tags") == [["B", "a", "b", "c", "latest"]]


def test_a_listing_goes_on_after_a_name_that_is_not_there(registry: LocalRegistry) -> None:
    fill(registry, "localhost/app:a", "localhost/app:c")
    assert registry.ask("GET", "/v2/app/tags/list?last=b").json["tags"] == ["c"]
    assert registry.ask("GET", "/v2/app/tags/list?last=z&n=1").json["tags"] == []


def test_a_page_of_nothing_is_empty_and_the_last(registry: LocalRegistry) -> None:
    fill(registry, "localhost/app:a")
    answer = registry.ask("GET", "/v2/app/tags/list?n=0")
    assert answer.json["tags"] == []
    assert "link" not in answer.headers


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "%D9%A3", "1" * 30, "+1", ""])
def test_a_page_size_that_is_no_number_is_refused(registry: LocalRegistry, n: str) -> None:
    fill(registry, "localhost/app:a")
    for url in ("/v2/_catalog", "/v2/app/tags/list"):
        answer = registry.ask("GET", f"{url}?n={n}")
        assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


def test_a_huge_page_is_cut_to_the_limit(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with serve(tmp_path / "root", ServeSettings(limits=Limits(page=3))) as registry:
        fill(registry, *(f"localhost/app:{tag}" for tag in "abcdefg"))
        for query in ("?n=1000000", ""):
            pages = follow(registry, f"/v2/app/tags/list{query}", "tags")
            assert pages == [list("abc"), list("def"), ["g"]]


def test_tags_of_all_meanings_of_a_path_are_listed(registry: LocalRegistry) -> None:
    fill(registry, "localhost/app:a", "docker.io/library/app:b")
    assert registry.ask("GET", "/v2/app/tags/list").json["tags"] == ["a", "b"]
    assert registry.ask("GET", "/v2/docker.io/app/tags/list").json["tags"] == ["b"]


def test_an_unknown_repository_has_no_tags(shared: LocalRegistry) -> None:
    answer = shared.ask("GET", "/v2/nothing/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize("path", ["App", "a//b", "a..b", "_a", "a%2F%2Fb", "a%20b"])
def test_a_bad_repository_name_is_refused(shared: LocalRegistry, path: str) -> None:
    answer = shared.ask("GET", f"/v2/{path}/tags/list")
    assert (answer.status, answer.code) == (400, "NAME_INVALID")


def test_a_repository_may_be_called_like_a_part_of_the_protocol(registry: LocalRegistry) -> None:
    image = random_image(1)
    path = "manifests/blobs/uploads/tags/list"
    registry.push(path, "v1", image)
    assert registry.ask("GET", f"/v2/{path}/manifests/v1").body == image.raw.data
    assert registry.ask("GET", f"/v2/{path}/tags/list").json["tags"] == ["v1"]
    for digest, data in image.blobs.items():
        assert registry.ask("GET", f"/v2/{path}/blobs/{digest}").body == data


def test_what_refers_to_a_manifest_is_listed_and_filtered(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    signature = random_artifact(1, subject=image.raw.descriptor, artifact_type="x/signature")
    sbom = random_artifact(2, subject=image.raw.descriptor, artifact_type="x/sbom")
    for artifact in (signature, sbom):
        registry.push("app", str(artifact.raw.digest), artifact)

    answer = registry.ask("GET", f"/v2/app/referrers/{image.raw.digest}")
    assert answer.headers["content-type"] == mt.OCI_INDEX
    assert "oci-filters-applied" not in answer.headers
    found = {entry["digest"]: entry for entry in answer.json["manifests"]}
    assert set(found) == {str(signature.raw.digest), str(sbom.raw.digest)}
    entry = found[str(sbom.raw.digest)]
    assert entry["artifactType"] == "x/sbom"
    assert entry["mediaType"] == mt.OCI_MANIFEST
    assert entry["size"] == len(sbom.raw.data)
    assert entry["annotations"] == {"seed": "2"}

    url = f"/v2/app/referrers/{image.raw.digest}?artifactType=x/signature"
    answer = registry.ask("GET", url)
    assert [each["digest"] for each in answer.json["manifests"]] == [str(signature.raw.digest)]
    assert answer.headers["oci-filters-applied"] == "artifactType"


def test_a_referrer_without_artifact_type_is_known_by_its_config(registry: LocalRegistry) -> None:
    absent = random_image(1).raw.descriptor
    image = random_image(2, subject=absent)
    registry.push("app", "v2", image)
    url = f"/v2/app/referrers/{absent.digest}?artifactType={mt.OCI_CONFIG.replace('+', '%2B')}"
    (entry,) = registry.ask("GET", url).json["manifests"]
    assert (entry["digest"], entry["artifactType"]) == (str(image.raw.digest), mt.OCI_CONFIG)


def test_nothing_refers_to_an_unknown_manifest(shared: LocalRegistry) -> None:
    answer = shared.ask("GET", f"/v2/app/referrers/{Digest.of(b'?')}")
    assert answer.status == 200
    assert answer.json == {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": []}


def test_referrers_of_something_else_than_a_digest_are_refused(shared: LocalRegistry) -> None:
    answer = shared.ask("GET", "/v2/app/referrers/v1")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_referrers_come_page_by_page(registry: LocalRegistry) -> None:
    subject = random_image(1).raw.descriptor
    artifacts = [random_artifact(n, subject=subject, artifact_type=f"x/{n % 2}") for n in range(5)]
    for artifact in artifacts:
        registry.push("app", str(artifact.raw.digest), artifact)
    digests = sorted(str(artifact.raw.digest) for artifact in artifacts)
    pages = follow(registry, f"/v2/app/referrers/{subject.digest}?n=2", "manifests")
    assert [[each["digest"] for each in page] for page in pages] == [
        digests[:2],
        digests[2:4],
        digests[4:],
    ]
    filtered = f"/v2/app/referrers/{subject.digest}?n=1&artifactType=x/1"
    odd = [each for page in follow(registry, filtered, "manifests") for each in page]
    assert [each["artifactType"] for each in odd] == ["x/1", "x/1"]


def test_a_page_of_referrers_is_no_larger_than_a_manifest(
    registry: LocalRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = random_image(1).raw.descriptor
    for number in range(3):
        artifact = random_artifact(number, subject=subject)
        registry.push("app", str(artifact.raw.digest), artifact)
    url = f"/v2/app/referrers/{subject.digest}"
    (whole,) = follow(registry, url, "manifests")
    size = len(json.dumps(whole[0]))
    monkeypatch.setattr("kstore.server.listings._MAX_INDEX", 2 * size + 20)
    assert [len(page) for page in follow(registry, url, "manifests")] == [2, 1]
    monkeypatch.setattr("kstore.server.listings._MAX_INDEX", 5)
    assert [len(page) for page in follow(registry, url, "manifests")] == [1, 1, 1]


def test_what_is_attached_by_a_tag_is_nobodys_referrer(registry: LocalRegistry) -> None:
    image = random_image(1)
    registry.push("app", "v1", image)
    attached = cosign_attachment(b"signed")
    registry.push("app", cosign_tag(image.raw.digest, "sig"), attached)
    assert registry.ask("GET", f"/v2/app/referrers/{image.raw.digest}").json["manifests"] == []
