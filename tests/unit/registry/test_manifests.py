from __future__ import annotations

import json

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import (
    DigestMismatchError,
    IntegrityError,
    InvalidDigestError,
    InvalidManifestError,
    InvalidReferenceError,
    ManifestNotFoundError,
    ManifestRejectedError,
    RemoteError,
    UnsupportedError,
)
from kstore.manifest import RawManifest
from kstore.registry import RegistryClient
from tests.support.faultserver import Fault, FaultServer

CONFIG = {"mediaType": mt.OCI_CONFIG, "digest": str(Digest.of(b"{}")), "size": 2}
IMAGE = {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": CONFIG, "layers": []}
DATA = json.dumps(IMAGE).encode()
RAW = RawManifest.receive(DATA)


@pytest.fixture
def stocked(server: FaultServer) -> FaultServer:
    server.add_manifest(DATA, mt.OCI_MANIFEST, tag="v1")
    return server


@pytest.mark.parametrize("reference", ["v1", RAW.digest])
def test_a_manifest_comes_by_tag_and_by_digest(
    stocked: FaultServer, client: RegistryClient, reference: str | Digest
) -> None:
    assert client.get_manifest("team/app", reference) == RAW
    accept = stocked.seen("GET", "/manifests/")[0].headers["accept"]
    assert all(kind in accept for kind in mt.MANIFEST_ACCEPT)


def test_a_missing_manifest_is_named(stocked: FaultServer, client: RegistryClient) -> None:
    with pytest.raises(ManifestNotFoundError, match="has no manifest team/app:v2"):
        client.get_manifest("team/app", "v2")
    assert client.head_manifest("team/app", "v2") is None


def test_other_bytes_than_the_digest_names_are_refused(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.fault(Fault(body=DATA + b" "), "GET", "/manifests/")
    with pytest.raises(DigestMismatchError):
        client.get_manifest("team/app", RAW.digest)


def test_other_bytes_than_the_registry_itself_announces_are_refused(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.fault(Fault(body=DATA + b" "), "GET", "/manifests/")
    with pytest.raises(DigestMismatchError, match="calls it"):
        client.get_manifest("team/app", "v1")


def test_an_announced_digest_of_another_algorithm_is_checked_too(
    stocked: FaultServer, client: RegistryClient
) -> None:
    good = str(Digest.of(DATA, "sha512"))
    stocked.fault(Fault(headers={"Docker-Content-Digest": good}), "GET", "/manifests/")
    assert client.get_manifest("team/app", "v1") == RAW
    bad = str(Digest.of(b"other", "sha512"))
    stocked.fault(Fault(headers={"Docker-Content-Digest": bad}), "GET", "/manifests/")
    with pytest.raises(DigestMismatchError):
        client.get_manifest("team/app", "v1")


def test_an_unreadable_announced_digest_is_only_a_warning(
    stocked: FaultServer, client: RegistryClient, warnings: list[str]
) -> None:
    stocked.fault(Fault(headers={"Docker-Content-Digest": "md5:\x9b31mfoo"}), "GET", "/manifests/")
    assert client.get_manifest("team/app", "v1") == RAW
    assert len(warnings) == 1
    assert "\x9b" not in warnings[0]


def test_a_content_type_that_contradicts_the_document_is_refused(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.fault(Fault(headers={"Content-Type": mt.OCI_INDEX}), "GET", "/manifests/")
    with pytest.raises(InvalidManifestError):
        client.get_manifest("team/app", "v1")


def test_a_content_type_that_says_nothing_is_accepted(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.fault(Fault(headers={"Content-Type": "application/json"}), "GET", "/manifests/")
    assert client.get_manifest("team/app", "v1").media_type == mt.OCI_MANIFEST


def test_an_endless_manifest_is_cut_off_at_four_mebibytes(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.fault(Fault(endless=True), "GET", "/manifests/")
    with pytest.raises(IntegrityError, match="larger than the limit of 4194304"):
        client.get_manifest("team/app", "v1")


@pytest.mark.parametrize("fault", [Fault(reset_after=10), Fault(truncate_after=10)])
def test_a_manifest_that_breaks_off_is_asked_for_again(
    stocked: FaultServer, client: RegistryClient, fault: Fault
) -> None:
    stocked.fault(fault, "GET", "/manifests/", times=2)
    assert client.get_manifest("team/app", "v1") == RAW
    stocked.fault(fault, "GET", "/manifests/", times=99)
    with pytest.raises(RemoteError, match="4 attempts"):
        client.get_manifest("team/app", "v1")


def test_an_announced_oversize_is_refused_before_it_is_read(
    stocked: FaultServer, client: RegistryClient
) -> None:
    stocked.fault(
        Fault(headers={"Content-Length": str(10**12)}, stall_after=10), "GET", "/manifests/"
    )
    with pytest.raises(IntegrityError, match="1000000000000 bytes, more than"):
        client.get_manifest("team/app", "v1")


def test_head_tells_type_digest_and_size(stocked: FaultServer, client: RegistryClient) -> None:
    assert client.head_manifest("team/app", "v1") == RAW.descriptor
    assert not stocked.seen("GET", "/manifests/")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(headers={"Docker-Content-Digest": None}),
        Fault(headers={"Content-Type": "text/html"}),
        Fault(status=405),
    ],
    ids=["no digest", "no type", "no HEAD"],
)
def test_a_head_that_says_too_little_is_replaced_by_a_get(
    stocked: FaultServer, client: RegistryClient, fault: Fault
) -> None:
    stocked.fault(fault, "HEAD", "/manifests/")
    assert client.head_manifest("team/app", "v1") == RAW.descriptor
    assert len(stocked.seen("GET", "/manifests/")) == 1


def test_a_manifest_is_stored_under_its_tag_with_its_type(
    server: FaultServer, client: RegistryClient
) -> None:
    assert client.put_manifest("team/app", "v1", RAW) == RAW.digest
    assert server.manifests["team/app"]["v1"] == (mt.OCI_MANIFEST, DATA)


def test_a_manifest_cannot_be_stored_under_a_foreign_digest(
    server: FaultServer, client: RegistryClient
) -> None:
    with pytest.raises(DigestMismatchError):
        client.put_manifest("team/app", Digest.of(b"other"), RAW)
    assert not server.requests


def test_a_registry_that_stored_something_else_is_not_believed(
    server: FaultServer, client: RegistryClient
) -> None:
    other = str(Digest.of(b"other"))
    server.fault(Fault(headers={"Docker-Content-Digest": other}), "PUT")
    with pytest.raises(DigestMismatchError):
        client.put_manifest("team/app", "v1", RAW)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "MANIFEST_INVALID", ManifestRejectedError),
        (415, "WHATEVER", ManifestRejectedError),
        (405, "UNSUPPORTED", ManifestRejectedError),
        (400, "MANIFEST_BLOB_UNKNOWN", RemoteError),
        (413, "SIZE_INVALID", RemoteError),
        (500, "UNKNOWN", RemoteError),
    ],
)
def test_only_a_refusal_of_the_type_invites_another_type(
    server: FaultServer, client: RegistryClient, status: int, code: str, error: type[Exception]
) -> None:
    body = json.dumps({"errors": [{"code": code, "message": "no\x1b[31m way"}]}).encode()
    server.fault(Fault(status=status, body=body), "PUT")
    with pytest.raises(error, match=r"no \[31m way") as caught:
        client.put_manifest("team/app", "v1", RAW)
    assert type(caught.value) is error


def test_a_missing_blob_is_not_cured_by_another_type(
    server: FaultServer, client: RegistryClient
) -> None:
    errors = [{"code": "MANIFEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]
    server.fault(Fault(status=400, body=json.dumps({"errors": errors}).encode()), "PUT")
    with pytest.raises(RemoteError, match="MANIFEST_BLOB_UNKNOWN"):
        client.put_manifest("team/app", "v1", RAW)


def test_a_stored_manifest_is_sent_again_after_a_temporary_failure(
    server: FaultServer, client: RegistryClient
) -> None:
    server.fault(Fault(status=503), "PUT")
    client.put_manifest("team/app", "v1", RAW)
    assert [bytes(r.body) for r in server.seen("PUT")] == [DATA, DATA]


def test_deleting_is_by_digest(stocked: FaultServer, client: RegistryClient) -> None:
    client.delete_manifest("team/app", RAW.digest)
    assert str(RAW.digest) not in stocked.manifests["team/app"]
    with pytest.raises(ManifestNotFoundError):
        client.delete_manifest("team/app", RAW.digest)


def test_a_registry_without_deleting_says_so(stocked: FaultServer, client: RegistryClient) -> None:
    stocked.fault(Fault(status=405), "DELETE")
    with pytest.raises(UnsupportedError, match="does not allow"):
        client.delete_manifest("team/app", RAW.digest)


@pytest.mark.parametrize("path", ["", "UPPER", "../../etc", "a//b", "a b", "a?x=1", "a\n"])
def test_a_path_outside_the_grammar_reaches_no_server(
    server: FaultServer, client: RegistryClient, path: str
) -> None:
    for call in (
        lambda: client.get_manifest(path, "v1"),
        lambda: client.has_blob(path, Digest.of(b"")),
        lambda: client.mount_blob("team/app", Digest.of(b""), path),
        lambda: client.tags(path),
    ):
        with pytest.raises(InvalidReferenceError):
            call()
    assert not server.requests


@pytest.mark.parametrize("tag", ["", "../x", "a/b", "v1?x", "sha256:" + "0" * 64, "a\n", "-x"])
def test_a_tag_outside_the_grammar_reaches_no_server(
    server: FaultServer, client: RegistryClient, tag: str
) -> None:
    with pytest.raises(InvalidReferenceError):
        client.get_manifest("team/app", tag)
    with pytest.raises(InvalidReferenceError):
        client.put_manifest("team/app", tag, RAW)
    assert not server.requests


@pytest.mark.parametrize(
    "text", ["sha256:../../x", "a/../..", "", "sha256:AB", "sha256:" + "0" * 63]
)
def test_a_digest_that_could_change_an_address_cannot_be_made(text: str) -> None:
    with pytest.raises(InvalidDigestError):
        Digest.parse(text)
