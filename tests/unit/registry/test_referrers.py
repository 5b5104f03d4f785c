"""What refers to a manifest, where the registry lists it and where it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import (
    AuthError,
    InvalidManifestError,
    NotFoundError,
    RemoteError,
    UnsupportedError,
)
from kstore.manifest import MAX_INDEX_ENTRIES
from kstore.manifest.attached import (
    attachment_tag,
    describe_referrer,
    referrers_tag,
    tagged_subject,
)
from kstore.registry import RegistryClient
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import index_of, random_artifact, random_image
from tests.support.localregistry import LocalRegistry, serve
from tests.unit.registry.conftest import ClientFactory

PATH = "team/app"
IMAGE = random_image(1)
SUBJECT = IMAGE.raw.digest
ONE, TWO = (random_artifact(n, subject=IMAGE.raw.descriptor) for n in (1, 2))
TAG = f"sha256-{SUBJECT.hex}"


@pytest.fixture
def modern(tmp_path: Path) -> Iterator[LocalRegistry]:
    """A registry that lists referrers."""
    with serve(tmp_path / "registry") as registry:
        registry.push(PATH, "1", IMAGE)
        yield registry


def digests(client: RegistryClient, subject: Digest = SUBJECT) -> list[Digest]:
    return [each.digest for each in client.referrers(PATH, subject)]


def listed(*entries: object, link: str | None = None) -> Fault:
    """An answer with these entries."""
    body = json.dumps({"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries})
    return Fault(status=200, body=body.encode(), headers={"Link": link} if link else {})


def test_a_registry_that_lists_referrers_is_asked_for_its_list(
    modern: LocalRegistry, make_client: ClientFactory
) -> None:
    client = make_client(modern.host)
    for artifact in (ONE, TWO):
        for data in artifact.blobs.values():
            modern.push_blob(PATH, data)
        client.put_manifest(PATH, artifact.raw.digest, artifact.raw)
    found = {each.digest: each for each in client.referrers(PATH, SUBJECT)}
    assert set(found) == {ONE.raw.digest, TWO.raw.digest}
    assert found[ONE.raw.digest].artifact_type == "application/x.test"
    assert client.head_manifest(PATH, TAG) is None, "the list of tags is the registry's own"


def test_a_registry_that_lists_none_gets_an_index_under_a_tag(
    server: FaultServer, client: RegistryClient
) -> None:
    for artifact in (ONE, TWO, ONE):
        client.put_manifest(PATH, artifact.raw.digest, artifact.raw)
    assert digests(client) == [ONE.raw.digest, TWO.raw.digest]
    kind, data = server.manifests[PATH][TAG]
    assert (kind, json.loads(data)["mediaType"]) == (mt.OCI_INDEX, mt.OCI_INDEX)
    assert [entry["artifactType"] for entry in json.loads(data)["manifests"]] == [
        "application/x.test"
    ] * 2
    assert json.loads(data)["manifests"][0]["annotations"] == {"seed": "1"}


def test_what_stands_in_the_index_already_stays_as_it_is(
    server: FaultServer, client: RegistryClient
) -> None:
    entry = {**TWO.raw.descriptor.to_json(), "org.example": {"more": 1}}
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [entry], "x": "y"}
    server.add_manifest(json.dumps(index).encode(), mt.OCI_INDEX, PATH, TAG)
    client.put_manifest(PATH, ONE.raw.digest, ONE.raw)
    document = json.loads(server.manifests[PATH][TAG][1])
    assert document["manifests"][0] == entry
    assert document["x"] == "y"
    assert len(document["manifests"]) == 2


def test_an_image_without_subject_is_nobodys_referrer(
    server: FaultServer, client: RegistryClient
) -> None:
    client.put_manifest(PATH, "1", IMAGE.raw)
    assert list(server.manifests[PATH]) == [str(SUBJECT), "1"]


def test_nothing_refers_to_what_nobody_knows(client: RegistryClient) -> None:
    assert digests(client) == []


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_whatever_an_old_registry_answers_the_tag_is_tried(
    server: FaultServer, client: RegistryClient, status: int
) -> None:
    client.put_manifest(PATH, ONE.raw.digest, ONE.raw)
    server.fault(Fault(status=status), "GET", "/referrers/")
    assert digests(client) == [ONE.raw.digest]


@pytest.mark.parametrize(("status", "error"), [(403, AuthError), (418, RemoteError)])
def test_another_failure_is_not_taken_for_an_empty_list(
    server: FaultServer, client: RegistryClient, status: int, error: type[Exception]
) -> None:
    server.fault(Fault(status=status), "GET", "/referrers/")
    with pytest.raises(error):
        digests(client)


def test_pages_are_followed_to_the_last(server: FaultServer, client: RegistryClient) -> None:
    one, two = (each.raw.descriptor.to_json() for each in (ONE, TWO))
    target = f"/v2/{PATH}/referrers/{SUBJECT}"
    server.fault(listed(one, link=f'<{target}?page=2>; rel="next"'), "GET", "/referrers/")
    server.fault(listed(two), "GET", "/referrers/")
    assert digests(client) == [ONE.raw.digest, TWO.raw.digest]
    assert server.seen("GET", "/referrers/")[1].target == f"{target}?page=2"


def test_a_list_that_breaks_off_is_not_continued_elsewhere(
    server: FaultServer, client: RegistryClient
) -> None:
    client.put_manifest(PATH, TWO.raw.digest, TWO.raw)
    target = f"/v2/{PATH}/referrers/{SUBJECT}?page=2"
    server.fault(
        listed(ONE.raw.descriptor.to_json(), link=f'<{target}>; rel="next"'), "GET", "/referrers/"
    )
    with pytest.raises(NotFoundError):
        digests(client)


def test_a_list_that_leads_to_itself_ends(server: FaultServer, client: RegistryClient) -> None:
    target = f"/v2/{PATH}/referrers/{SUBJECT}"
    server.fault(listed(link=f'<{target}>; rel="next"'), "GET", "/referrers/")
    with pytest.raises(RemoteError, match="repeats a page"):
        digests(client)


def test_entries_that_are_no_descriptors_are_left_out_with_a_warning(
    server: FaultServer, client: RegistryClient, warnings: list[str]
) -> None:
    entries = ["text", None, {"digest": "x"}, ONE.raw.descriptor.to_json()]
    server.fault(listed(*entries), "GET", "/referrers/")
    assert digests(client) == [ONE.raw.digest]
    assert len(warnings) == 3


@pytest.mark.parametrize("body", [b"[]", b"<html>", b'{"manifests": 5}'])
def test_something_else_than_a_list_is_an_error(
    server: FaultServer, client: RegistryClient, body: bytes
) -> None:
    server.fault(Fault(status=200, body=body), "GET", "/referrers/")
    with pytest.raises(RemoteError):
        digests(client)


def test_an_image_under_the_tag_of_the_index_is_an_error(
    server: FaultServer, client: RegistryClient
) -> None:
    server.add_manifest(IMAGE.raw.data, IMAGE.raw.media_type, PATH, TAG)
    with pytest.raises(InvalidManifestError, match="should be an index of referrers"):
        digests(client)
    with pytest.raises(InvalidManifestError, match="should be an index of referrers"):
        client.put_manifest(PATH, ONE.raw.digest, ONE.raw)


def test_an_index_that_is_full_takes_no_more(server: FaultServer, client: RegistryClient) -> None:
    entries = [
        Descriptor(mt.OCI_MANIFEST, Digest.of(str(n).encode()), n).to_json()
        for n in range(MAX_INDEX_ENTRIES)
    ]
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries}
    server.add_manifest(json.dumps(index).encode(), mt.OCI_INDEX, PATH, TAG)
    with pytest.raises(UnsupportedError, match="can take no more"):
        client.put_manifest(PATH, ONE.raw.digest, ONE.raw)


def test_tags_are_made_of_digests_and_tell_them_again() -> None:
    long = Digest.of(b"x", "sha512")
    assert referrers_tag(SUBJECT) == TAG
    assert referrers_tag(long) == f"sha512-{long.hex[:64]}"
    assert attachment_tag(long, "sig") is None
    tag = attachment_tag(SUBJECT, "sig")
    assert tag == f"{TAG}.sig"
    assert tagged_subject(tag) == SUBJECT


@pytest.mark.parametrize(
    "tag",
    ["latest", TAG, f"{TAG}.other", f"x{TAG}.sig", f"sha256-{'0' * 63}.sig", f"md5-{'0' * 32}.sig"],
)
def test_other_tags_are_attached_to_nothing(tag: str) -> None:
    assert tagged_subject(tag) is None


def test_an_artifact_without_type_is_described_by_its_config() -> None:
    from kstore.manifest import parse

    image = random_image(2, subject=IMAGE.raw.descriptor)
    assert describe_referrer(image.raw, parse(image.raw)).artifact_type == mt.OCI_CONFIG
    index = index_of([image])
    assert describe_referrer(index, parse(index)).artifact_type is None
