"""Uploads that another server has begun, which is gone or still there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kstore.digest import Digest
from kstore.errors import StorageError
from kstore.server import Limits, ServeSettings
from kstore.server.sessions import Uploads
from kstore.store import Store, UploadFiles
from tests.support.localregistry import LocalRegistry, serve
from tests.support.uploads import begin, leftovers, patch, sizes, stored


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def left(root: Path, data: bytes, path: str = "app", query: str = "") -> str:
    """The location of an upload that holds ``data``, whose server is gone."""
    with serve(root) as registry:
        location = begin(registry, path, query)
        assert patch(registry, location, data).status == 202
    return location


def received(registry: LocalRegistry, location: str) -> tuple[int, str | None]:
    answer = registry.ask("GET", location)
    return answer.status, answer.headers.get("range")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_next_server_goes_on_with_an_upload(root: Path, algorithm: str) -> None:
    location = left(root, b"12345", query=f"?digest-algorithm={algorithm}")
    with serve(root) as registry:
        assert received(registry, location) == (204, "0-4")
        refused = patch(registry, location, b"xxx", "3-5")
        assert (refused.status, refused.headers["range"]) == (416, "0-4")
        assert patch(registry, location, b"67", "5-6").headers["range"] == "0-6"
        digest = Digest.of(b"123456789", algorithm)
        headers = {"Content-Range": "7-8"}
        done = registry.ask("PUT", f"{location}?digest={digest}", b"89", headers)
        assert done.status == 201
        assert stored(registry, digest) == b"123456789"
        assert leftovers(registry) == []
        assert received(registry, location)[0] == 404


def test_what_was_left_is_hashed_anew(root: Path) -> None:
    location = left(root, b"12345")
    (part,) = (root / "ingest").glob("*.part")
    part.write_bytes(b"1234x")
    with serve(root) as registry:
        refused = registry.ask("PUT", f"{location}?digest={Digest.of(b'12345')}", b"")
        assert (refused.status, refused.code) == (400, "DIGEST_INVALID")
        assert stored(registry, Digest.of(b"12345")) is None
        assert leftovers(registry) == []


def test_after_a_power_cut_the_bytes_that_were_synced_count(root: Path) -> None:
    location = left(root, b"12345")
    (side,) = (root / "ingest").glob("*.json")
    side.write_text(json.dumps({**json.loads(side.read_text()), "boot": "another", "synced": 3}))
    with serve(root) as registry:
        assert received(registry, location) == (204, "0-2")
        assert patch(registry, location, b"cd", "3-4").status == 202
        digest = Digest.of(b"123cd")
        assert registry.ask("PUT", f"{location}?digest={digest}", b"").status == 201


def test_what_was_left_can_be_cancelled(root: Path) -> None:
    location = left(root, b"12345")
    with serve(root) as registry:
        assert registry.ask("DELETE", location).status == 204
        assert leftovers(registry) == []
        assert received(registry, location)[0] == 404


def test_what_was_left_belongs_to_its_repository(root: Path) -> None:
    location = left(root, b"12345", "one").replace("/one/", "/two/")
    with serve(root) as registry:
        for method in ("PATCH", "PUT", "DELETE"):
            answer = registry.ask(method, location, b"678")
            assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
        assert sizes(root) == [5]


def test_a_download_is_no_upload(root: Path) -> None:
    digest = Digest.of(b"1234567890" * 2000)
    with (
        Store.open(root) as store,
        store.lease("pull") as lease,
        lease.ingest(digest, 20_000) as ingest,
    ):
        ingest.write(b"12345")
    (part,) = (root / "ingest").glob("*.part")
    os.utime(part, (0, part.stat().st_mtime - 3700))
    with serve(root, ServeSettings(limits=Limits(uploads=1))) as registry:
        for method in ("PATCH", "PUT", "DELETE"):
            answer = registry.ask(method, f"/v2/app/blobs/uploads/{digest.hex}", b"678")
            assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
        begin(registry)
        assert sizes(root) == [0, 5]


@pytest.mark.parametrize(
    "upload_id",
    [
        "..", "%2e%2e", "..%2f..%2flocks", "%2Fetc%2Fpasswd", "0" * 64, "A" * 64, "0" * 63,
        "0" * 64 + "%00", "0" * 64 + "%0a", "sha256-" + "0" * 57, "*" * 64, "0" * 5000,
    ],
)  # fmt: skip
def test_an_id_that_was_not_given_out_leads_nowhere(shared: LocalRegistry, upload_id: str) -> None:
    before = sorted(shared.root.rglob("*"))
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = shared.ask(method, f"/v2/app/blobs/uploads/{upload_id}", b"12345")
        assert answer.status in (400, 404)
    assert sorted(shared.root.rglob("*")) == before


def test_ids_are_long_and_differ(shared: LocalRegistry) -> None:
    ids = {begin(shared).rpartition("/")[2] for _ in range(5)}
    assert len(ids) == 5
    assert {len(each) for each in ids} == {64}


def test_the_limit_of_a_blob_holds_for_all_its_servers(root: Path) -> None:
    location = left(root, b"x" * 600)
    with serve(root, ServeSettings(max_upload=1000)) as registry:
        answer = patch(registry, location, b"x" * 600)
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")


def test_what_was_left_gives_way_to_what_is_new_and_the_oldest_first(root: Path) -> None:
    old, new = left(root, b"1"), left(root, b"12")
    for part in (root / "ingest").glob("*.part"):
        if part.stat().st_size == 1:
            os.utime(part, (part.stat().st_atime, part.stat().st_mtime - 60))
    with serve(root, ServeSettings(limits=Limits(uploads=2))) as registry:
        begin(registry)
        assert received(registry, old)[0] == 404
        assert received(registry, new) == (204, "0-1")
        assert sizes(root) == [0, 2]


def test_what_was_left_long_ago_goes(root: Path) -> None:
    location = left(root, b"12345")
    (part,) = (root / "ingest").glob("*.part")
    os.utime(part, (0, part.stat().st_mtime - 3700))
    with serve(root) as registry:
        begin(registry)
        assert received(registry, location)[0] == 404
        assert sizes(root) == [0]


def test_an_upload_that_cannot_be_removed_does_not_end_the_server(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(files: UploadFiles, key: Digest) -> None:
        raise StorageError("cannot drop upload: Input/output error")

    left(root, b"12345")
    monkeypatch.setattr(UploadFiles, "drop", fail)
    with Store.open(root) as store, store.lease("serve") as lease:
        sessions = Uploads(10, -1.0, lease.uploads)
        assert len(sessions) == 1
        sessions.expire()
        assert len(sessions) == 0
    assert "cannot drop upload" in caplog.text


def test_an_upload_is_taken_in_by_one_server_at_a_time(root: Path) -> None:
    with serve(root) as second:
        with serve(root) as first:
            location = begin(first)
            assert patch(first, location, b"12345").status == 202
            assert received(second, location) == (204, "0-4")
            answer = patch(second, location, b"678", "5-7")
            assert (answer.status, answer.code) == (409, "BLOB_UPLOAD_INVALID")
            assert patch(first, location, b"6", "5-5").status == 202
            assert received(second, location) == (204, "0-5")
        assert patch(second, location, b"78", "6-7").headers["range"] == "0-7"
        digest = Digest.of(b"12345678")
        assert second.ask("PUT", f"{location}?digest={digest}", b"").status == 201


def test_a_server_that_only_reads_leaves_uploads_as_they_are(root: Path) -> None:
    location = left(root, b"12345")
    for path in (root / "ingest").iterdir():
        os.utime(path, (0, 0))
    with serve(root, ServeSettings(read_only=True)) as registry:
        assert registry.ask("GET", location).status == 405
    assert sizes(root) == [5]


def test_what_was_left_is_listed_and_collected_as_downloads_are(root: Path) -> None:
    location = left(root, b"12345", "team/app")
    with Store.open(root) as store:
        (listed,) = store.partial_downloads()
        assert (listed.bytes, listed.size, listed.origin) == (5, None, "upload to team/app")
        assert listed.digest.hex == location.rpartition("/")[2]
        assert store.prune().partials_removed == 0
        report = store.prune(partial_grace=0)
        assert (report.partials_removed, report.bytes_freed) == (1, 5)
    assert list((root / "ingest").iterdir()) == []


def test_what_a_server_is_taking_in_is_not_collected(root: Path) -> None:
    with serve(root) as registry:
        location = begin(registry)
        patch(registry, location, b"12345")
        with Store.open(root) as store:
            report = store.prune(all_unused_partials=True)
        assert (report.partials_removed, report.skipped_busy) == (0, 1)
        assert received(registry, location) == (204, "0-4")


def test_what_was_sent_at_once_to_a_server_that_died_is_garbage_at_once(root: Path) -> None:
    with Store.open(root) as store:
        lease = store.lease("serve")
        ingest = lease.uploads.begin_whole(Digest.of(b"12345678"))
        ingest.write(b"12345")
        store.prune()
        assert len(list((root / "ingest").iterdir())) == 1
        lease._lock.release()  # type: ignore[union-attr]  # as if its process had died
        assert store.prune().partials_removed == 1
        assert list((root / "ingest").iterdir()) == []
        ingest.drop()
