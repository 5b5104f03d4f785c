from __future__ import annotations

import random
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.server import ServeSettings
from tests.support.localregistry import LocalRegistry, serve

DATA = random.Random(7).randbytes(3_000_000)
SMALL = b"0123456789"


def blob_file(registry: LocalRegistry, digest: Digest) -> Path:
    return registry.root / "blobs" / digest.algorithm / digest.hex


def test_a_blob_comes_back_whole_and_with_its_facts(registry: LocalRegistry) -> None:
    digest = registry.push_blob("app", DATA)
    answer = registry.ask("GET", f"/v2/app/blobs/{digest}")
    assert answer.status == 200
    assert answer.body == DATA
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.headers["docker-content-digest"] == str(digest)
    assert answer.headers["etag"] == f'"{digest}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"


def test_head_tells_the_same_facts_without_the_bytes(registry: LocalRegistry) -> None:
    digest = registry.push_blob("app", DATA)
    get = registry.ask("GET", f"/v2/app/blobs/{digest}")
    head = registry.ask("HEAD", f"/v2/app/blobs/{digest}")
    assert head.status == 200
    assert head.body == b""
    assert {**head.headers, "date": ""} == {**get.headers, "date": ""}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_blob_is_not_found(shared: LocalRegistry, method: str) -> None:
    answer = shared.ask(method, f"/v2/app/blobs/{Digest.of(b'?')}")
    assert answer.status == 404
    if method == "GET":
        assert answer.code == "BLOB_UNKNOWN"


def test_an_empty_blob_can_be_stored_and_read(registry: LocalRegistry) -> None:
    digest = registry.push_blob("app", b"")
    answer = registry.ask("GET", f"/v2/app/blobs/{digest}")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=2-5", 2, 5),
        ("bytes=7-", 7, 9),
        ("bytes=7-99", 7, 9),
        ("bytes=-3", 7, 9),
        ("bytes=9-9", 9, 9),
    ],
)
def test_one_range_is_answered_in_part(
    shared: LocalRegistry, asked: str, first: int, last: int
) -> None:
    digest = shared.push_blob("app", SMALL)
    answer = shared.ask("GET", f"/v2/app/blobs/{digest}", headers={"Range": asked})
    assert answer.status == 206
    assert answer.body == SMALL[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/10"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999-"])
def test_a_range_beyond_the_end_cannot_be_satisfied(shared: LocalRegistry, asked: str) -> None:
    digest = shared.push_blob("app", SMALL)
    answer = shared.ask("GET", f"/v2/app/blobs/{digest}", headers={"Range": asked})
    assert answer.status == 416
    assert answer.headers["content-range"] == "bytes */10"


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=-", "bytes=-99", ""]
)
def test_other_ranges_get_the_whole_blob(shared: LocalRegistry, asked: str) -> None:
    digest = shared.push_blob("app", SMALL)
    answer = shared.ask("GET", f"/v2/app/blobs/{digest}", headers={"Range": asked})
    assert (answer.status, answer.body) == (200, SMALL)
    assert "content-range" not in answer.headers


def test_if_range_with_the_right_validator_resumes(shared: LocalRegistry) -> None:
    digest = shared.push_blob("app", SMALL)
    headers = {"Range": "bytes=4-", "If-Range": f'"{digest}"'}
    assert shared.ask("GET", f"/v2/app/blobs/{digest}", headers=headers).body == SMALL[4:]


def test_if_range_with_another_validator_gets_everything(shared: LocalRegistry) -> None:
    digest = shared.push_blob("app", SMALL)
    headers = {"Range": "bytes=4-", "If-Range": '"other"'}
    answer = shared.ask("GET", f"/v2/app/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (200, SMALL)


def test_a_blob_the_client_has_is_not_sent_again(shared: LocalRegistry) -> None:
    digest = shared.push_blob("app", SMALL)
    headers = {"If-None-Match": f'"{digest}"'}
    answer = shared.ask("GET", f"/v2/app/blobs/{digest}", headers=headers)
    assert (answer.status, answer.body) == (304, b"")


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:abc",
        "sha256:" + "A" * 64,
        "md5:" + "a" * 32,
        "..",
        "..%2f..%2f..%2fetc%2fpasswd",
        "sha256:..%2f" + "a" * 61,
        "sha256:" + "a" * 64 + "%0a",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_no_digest_never_reaches_the_store(
    shared: LocalRegistry, digest: str, method: str
) -> None:
    answer = shared.ask(method, f"/v2/app/blobs/{digest}")
    assert answer.status in (400, 404)
    assert all(line.status != 500 for line in shared.log)


def test_blobs_are_not_deleted_one_by_one(registry: LocalRegistry) -> None:
    digest = registry.push_blob("app", SMALL)
    answer = registry.ask("DELETE", f"/v2/app/blobs/{digest}")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")
    assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == SMALL


def test_head_denies_a_blob_whose_file_is_gone_so_that_a_push_heals_it(
    registry: LocalRegistry,
) -> None:
    digest = registry.push_blob("app", SMALL)
    blob_file(registry, digest).unlink()
    assert registry.ask("HEAD", f"/v2/app/blobs/{digest}").status == 404
    registry.push_blob("app", SMALL)
    assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == SMALL


def test_a_damaged_blob_is_denied_by_head_and_healed_by_a_push(registry: LocalRegistry) -> None:
    digest = registry.push_blob("app", SMALL)
    file = blob_file(registry, digest)
    file.chmod(0o644)
    file.write_bytes(b"X" * len(SMALL))
    assert registry.ask("HEAD", f"/v2/app/blobs/{digest}").status == 404
    registry.push_blob("app", SMALL)
    assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == SMALL


def test_a_blob_file_of_another_size_is_a_server_error_that_names_no_path(
    registry: LocalRegistry,
) -> None:
    digest = registry.push_blob("app", SMALL)
    file = blob_file(registry, digest)
    file.chmod(0o644)
    file.write_bytes(SMALL + b"!")
    answer = registry.ask("GET", f"/v2/app/blobs/{digest}")
    assert answer.status == 500
    assert str(registry.root).encode() not in answer.body


def test_a_read_only_server_reads_and_refuses_every_change(tmp_path: Path) -> None:
    with serve(tmp_path / "root") as registry:
        digest = registry.push_blob("app", SMALL)
        upload = registry.ask("POST", "/v2/app/blobs/uploads/").headers["location"]
    with serve(tmp_path / "root", ServeSettings(read_only=True)) as registry:
        assert registry.ask("GET", f"/v2/app/blobs/{digest}").body == SMALL
        assert registry.ask("HEAD", f"/v2/app/blobs/{digest}").status == 200
        for method, path in [
            ("POST", "/v2/app/blobs/uploads/"),
            ("POST", f"/v2/app/blobs/uploads/?mount={digest}"),
            ("PATCH", upload),
            ("PUT", f"{upload}?digest={digest}"),
            ("DELETE", upload),
            ("PUT", "/v2/app/manifests/v1"),
            ("DELETE", "/v2/app/manifests/v1"),
            ("DELETE", f"/v2/app/manifests/{digest}"),
            ("DELETE", f"/v2/app/blobs/{digest}"),
        ]:
            answer = registry.ask(method, path, b"")
            assert (method, path, answer.status) == (method, path, 405)
            assert answer.code == "UNSUPPORTED"
