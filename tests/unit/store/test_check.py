from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import CancelledError
from kstore.manifest import RawManifest
from kstore.store import CheckReport, Problem, Publication, Store
from kstore.store import examine as examine_module
from kstore.store.fingerprints import BlobReader
from kstore.streams import Cancel
from tests.support.images import TestImage, compress, index_of, layer_tar, random_image
from tests.support.stores import named, put_blobs, put_image, put_index


@pytest.fixture
def image(store: Store) -> TestImage:
    image = random_image(1)
    put_image(store, image, "x")
    put_image(store, random_image(2), "healthy")
    return image


def file_of(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.hex


def only(report: CheckReport) -> Problem:
    assert len(report.problems) == 1, report.problems
    return report.problems[0]


def spoil(path: Path, data: bytes, *, keep_time: bool = False) -> None:
    facts = path.stat()
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(0o444)
    if keep_time:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_a_healthy_store_has_no_problems(store: Store, image: TestImage) -> None:
    report = store.check()
    assert report.problems == ()
    assert not report.damaged
    assert (report.blobs_checked, report.images_checked, report.bytes_hashed) == (8, 2, 0)


def test_a_deep_check_reads_every_byte_and_tells_how_far_it_is(
    store: Store, image: TestImage
) -> None:
    seen: list[int] = []
    report = store.check(deep=True, progress=seen.append)
    assert report.problems == ()
    assert report.bytes_hashed == sum(seen) == store.facts().blob_bytes


@pytest.mark.parametrize("deep", [False, True])
def test_a_missing_blob_is_found_and_its_image_incomplete(
    store: Store, root: Path, image: TestImage, deep: bool
) -> None:
    digest = image.layers[0].digest
    file_of(root, digest).unlink()
    problem = only(store.check(deep=deep))
    assert (problem.kind, problem.object, problem.images) == (
        "missing-blob",
        str(digest),
        (image.id,),
    )
    assert store.blob(digest) is None
    complete = {found.id: found.complete for found in store.images()}
    assert complete[image.id] is False
    assert sum(complete.values()) == 1
    record = store.manifest(image.raw.digest)
    assert record is not None
    assert not record.complete


def test_a_blob_of_another_size_is_found(store: Store, root: Path, image: TestImage) -> None:
    spoil(file_of(root, image.layers[0].digest), b"")
    assert only(store.check()).kind == "wrong-size"


def test_changed_bytes_are_found_at_once_if_the_file_was_touched(
    store: Store, root: Path, image: TestImage
) -> None:
    path = file_of(root, image.layers[0].digest)
    spoil(path, b"x" * path.stat().st_size)
    assert only(store.check()).kind == "wrong-digest"


def test_rotten_bytes_are_found_only_by_a_deep_check(
    store: Store, root: Path, image: TestImage
) -> None:
    path = file_of(root, image.layers[0].digest)
    spoil(path, b"x" * path.stat().st_size, keep_time=True)
    assert store.check().problems == ()
    assert only(store.check(deep=True)).kind == "wrong-digest"
    assert only(store.check()).kind == "wrong-digest"  # remembered


def test_damage_is_healed_by_the_next_pull(store: Store, root: Path, image: TestImage) -> None:
    path = file_of(root, image.layers[0].digest)
    spoil(path, b"x" * path.stat().st_size, keep_time=True)
    assert store.check(deep=True).damaged
    with store.lease("pull") as lease:
        assert put_blobs(lease, image) == [image.layers[0].digest]
    assert store.check(deep=True).problems == ()
    assert all(found.complete for found in store.images())


def test_damage_that_went_away_is_forgotten(store: Store, root: Path, image: TestImage) -> None:
    path = file_of(root, image.layers[0].digest)
    aside = path.with_name("aside")
    path.rename(aside)
    assert store.check().damaged
    aside.rename(path)
    assert not store.check().damaged
    assert store.blob(image.layers[0].digest) == image.layers[0].size


def test_a_link_in_place_of_a_blob_is_found(store: Store, root: Path, image: TestImage) -> None:
    path = file_of(root, image.layers[0].digest)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert only(store.check(deep=True)).kind == "unreadable-blob"


def test_a_file_without_a_row_is_garbage_and_no_damage(store: Store, root: Path) -> None:
    stray = Digest.of(b"stray")
    file_of(root, stray).write_bytes(b"stray")
    report = store.check()
    problem = only(report)
    assert (problem.kind, problem.object, problem.garbage) == ("orphan-file", str(stray), True)
    assert not report.damaged


def test_a_missing_row_is_found(store: Store, image: TestImage) -> None:
    with store._session.write() as db:
        db.execute("DELETE FROM blob WHERE digest = ?", [str(image.layers[0].digest)])
    assert {problem.kind for problem in store.check().problems} == {"missing-row", "orphan-file"}


def test_an_altered_name_is_found(store: Store, image: TestImage) -> None:
    with store._session.write() as db:
        db.execute(
            "UPDATE name SET target = ?, manifest = ? WHERE name LIKE '%/x:%'",
            [str(random_image(2).raw.digest)] * 2,
        )
    problem = only(store.check())
    assert (problem.kind, problem.object) == ("damaged-name", "docker.io/library/x:latest")


def test_altered_edges_are_found(store: Store, image: TestImage) -> None:
    with store._session.write() as db:
        db.execute("DELETE FROM edge WHERE parent = ? AND ordinal = 1", [str(image.raw.digest)])
    assert only(store.check()).kind == "wrong-edges"


def test_absent_members_of_an_index_are_no_problem(store: Store) -> None:
    images = [random_image(1), random_image(2)]
    put_index(store, index_of(images), images[:1], "multi")
    assert store.check(deep=True).problems == ()


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_a_layer_that_does_not_unpack_to_its_diff_id_is_found(
    store: Store, compression: str
) -> None:
    image = random_image(1, compression=compression)
    other = compress(layer_tar({"other": b"file"}), compression)
    document = json.loads(image.raw.data)
    document["layers"][0] |= {"digest": str(Digest.of(other)), "size": len(other)}
    with store.lease("test") as lease:
        put_blobs(lease, image)
        lease.put_bytes(other, "x")
        lease.publish(Publication(RawManifest.receive(json.dumps(document).encode())))
    assert store.check().problems == ()
    problem = only(store.check(deep=True))
    assert (problem.kind, problem.object) == ("wrong-diff-id", str(Digest.of(other)))
    assert problem.images == (image.id,)


def test_a_layer_that_is_not_what_its_type_says_is_found(store: Store) -> None:
    image, other = random_image(1), b"not gzip at all"
    document = json.loads(image.raw.data)
    layer = Descriptor(mt.OCI_LAYER_GZIP, Digest.of(other), len(other))
    document["layers"][0] = layer.to_json()
    with store.lease("test") as lease:
        put_blobs(lease, image)
        lease.put_bytes(other, "x")
        lease.publish(Publication(RawManifest.receive(json.dumps(document).encode())))
    assert "cannot be unpacked" in only(store.check(deep=True)).detail


def test_a_config_that_names_another_number_of_layers_is_found(store: Store) -> None:
    image = random_image(1)
    document = json.loads(image.raw.data)
    del document["layers"][0]
    with store.lease("test") as lease:
        put_blobs(lease, image)
        lease.publish(Publication(RawManifest.receive(json.dumps(document).encode())))
    assert "names 2 layers, its manifest 1" in store.check(deep=True).problems[0].detail


def test_a_damaged_index_json_is_found_and_repaired(store: Store, root: Path) -> None:
    put_image(store, random_image(1), "x")
    store.refresh_index()
    good = (root / "index.json").read_bytes()
    (root / "index.json").write_bytes(good.replace(b"library/x", b"library/y"))
    assert only(store.check()).kind == "index-json"
    assert (root / "index.json").read_bytes() == good
    (root / "index.json").unlink()
    assert only(store.check()).kind == "index-json"
    assert store.check().problems == ()


def test_a_missing_oci_layout_file_is_found(store: Store, root: Path) -> None:
    (root / "oci-layout").unlink()
    assert only(store.check()).kind == "layout"


def test_a_damaged_database_is_reported_and_not_believed(root: Path) -> None:
    with Store.open(root) as store:
        for seed in range(5):
            put_image(store, random_image(seed), f"x{seed}")
        (page,) = store._session.db.row("SELECT rootpage FROM sqlite_schema WHERE name = 'edge'")
        (size,) = store._session.db.row("PRAGMA page_size")
    with (root / "db" / "kstore.db").open("r+b") as file:
        file.seek((page - 1) * size + 8)
        file.write(os.urandom(size - 8))
    with Store.open(root) as store:
        report = store.check()
    assert report.damaged
    assert {problem.kind for problem in report.problems} == {"database"}


def test_a_check_can_be_cancelled(store: Store, image: TestImage) -> None:
    cancel = Cancel()
    with pytest.raises(CancelledError):
        store.check(deep=True, progress=lambda size: cancel.cancel(), cancel=cancel)


def test_a_store_opened_for_reading_can_be_checked(root: Path) -> None:
    with Store.open(root) as store:
        put_image(store, random_image(1), "x")
    file_of(root, random_image(1).layers[0].digest).unlink()
    with Store.open(root, read_only=True) as store:
        assert only(store.check(deep=True)).kind == "missing-blob"
        assert store.images()[0].complete  # nothing was written down


def test_an_incomplete_image_can_still_be_removed(store: Store, root: Path) -> None:
    image = random_image(1)
    put_image(store, image, "x")
    for path in (root / "blobs" / "sha256").iterdir():
        path.unlink()
    assert store.check().damaged
    assert store.remove_name(named("x")).deleted == (image.id,)
    assert store.check().problems == ()


def test_files_that_are_not_the_stores_are_named_and_are_no_damage(
    store: Store, root: Path
) -> None:
    (root / "notes.txt").write_text("mine")
    (root / "blobs" / "sha256" / "README").write_text("not a blob")
    (root / "blobs" / "md5").mkdir()
    report = store.check()
    assert [(problem.kind, problem.object) for problem in report.problems] == [
        ("odd-file", "notes.txt"),
        ("odd-file", "blobs/md5"),
        ("odd-file", "blobs/sha256/README"),
    ]
    assert not report.damaged


def test_a_layer_is_unpacked_once_and_only_hashed_afterwards(
    store: Store, image: TestImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked: list[Digest] = []
    as_usual = examine_module._unpack

    def unpack(reader: BlobReader, kind: str, algorithm: str) -> tuple[Digest | None, str | None]:
        unpacked.append(reader.digest)
        return as_usual(reader, kind, algorithm)

    monkeypatch.setattr(examine_module, "_unpack", unpack)
    assert store.check(deep=True).bytes_hashed == store.facts().blob_bytes
    assert len(unpacked) == 4
    assert store.check(deep=True).bytes_hashed == store.facts().blob_bytes
    assert len(unpacked) == 4


def test_a_check_with_little_time_reads_what_was_verified_longest_ago(
    store: Store, root: Path, image: TestImage
) -> None:
    digests = sorted(store._session.blobs.digests())
    for age, digest in enumerate(digests):
        with store._session.write() as db:
            db.execute(
                "UPDATE blob SET verified_at = ? WHERE digest = ?",
                [1_000_000 - age, str(digest)],
            )
    for oldest in reversed(digests):
        before = set(_verified_long_ago(store))
        report = store.check(max_seconds=1e-9)
        assert report.problems == ()
        assert before - set(_verified_long_ago(store)) == {oldest}, "every run gets somewhere"
        assert report.blobs_left == len(digests) - 1


def _verified_long_ago(store: Store) -> list[Digest]:
    rows = store._session.db.rows("SELECT digest FROM blob WHERE verified_at <= 1000000")
    return [Digest.parse(row[0]) for row in rows]


def test_a_check_with_little_time_still_looks_at_every_file(
    store: Store, root: Path, image: TestImage
) -> None:
    for layer in image.layers:
        file_of(root, layer.digest).unlink()
    report = store.check(max_seconds=1e-9)
    assert [problem.kind for problem in report.problems] == ["missing-blob"] * 2


@pytest.mark.unprivileged
def test_a_blob_that_may_not_be_read_is_reported(
    store: Store, root: Path, image: TestImage
) -> None:
    file_of(root, image.layers[0].digest).chmod(0)
    assert only(store.check(deep=True)).kind == "unreadable-blob"
