"""Repairs: every kind of damage, from every kind of place, and never a step back."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kstore.app import App, RegistryOptions
from kstore.digest import Digest
from kstore.errors import InvalidInputError, StorageFullError
from kstore.operations.pull import pull_image
from kstore.operations.repair import RepairResult, repair_store
from kstore.operations.save import SaveFormat, SaveOptions, save_images
from kstore.reference import Named
from kstore.settings import load
from kstore.store import Store
from kstore.store.rebuild import rebuild
from kstore.store.retention import Retention
from kstore.transports import Transports
from tests.support.faultserver import Fault, FaultServer
from tests.support.images import (
    ARM64,
    TestImage,
    index_of,
    random_artifact,
    random_image,
    write_oci_layout,
)
from tests.support.stores import listing, put_artifact, put_image, put_index

IMAGE = random_image(1)
LAYER = IMAGE.layers[0]


def serve(server: FaultServer, image: TestImage, path: str = "team/app", tag: str = "v1") -> str:
    for data in image.blobs.values():
        server.add_blob(data, path)
    server.add_manifest(image.raw.data, image.raw.media_type, path, tag)
    return f"{server.host}/{path}:{tag}"


def file_of(store: Store, digest: Digest) -> Path:
    return store.root / "blobs" / digest.algorithm / digest.hex


def rot(path: Path) -> None:
    size = path.stat().st_size
    path.chmod(0o600)
    path.write_bytes(bytes(size))


def cut(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def replace_by_directory(path: Path) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


DAMAGES: list[Callable[[Path], None]] = [
    rot,
    cut,
    Path.unlink,
    replace_by_link,
    replace_by_directory,
]


def repair(store: Store, transports: Transports, *sources: object) -> RepairResult:
    report = store.check(deep=True)
    return repair_store(store, transports, report, [str(source) for source in sources])


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("what", ["layer", "config", "manifest"])
def test_whatever_is_damaged_is_fetched_from_where_it_came_from(
    store: Store,
    transports: Transports,
    faulty: FaultServer,
    damage: Callable[[Path], None],
    what: str,
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    digest = {
        "layer": LAYER.digest,
        "config": Digest("sha256", IMAGE.id),
        "manifest": IMAGE.raw.digest,
    }[what]
    damage(file_of(store, digest))
    faulty.requests.clear()
    result = repair(store, transports)
    assert result.complete
    assert [(blob.digest, blob.place) for blob in result.fetched] == [
        (digest, f"{faulty.host}/team/app")
    ]
    asked = {record.target.rpartition("/")[2] for record in faulty.seen("GET", "sha256:")}
    assert asked == {str(digest)}, "and nothing else is transferred"
    assert store.check(deep=True).problems == ()
    assert all(image.complete for image in store.images())
    assert listing(store.root / "quarantine") == []


@pytest.mark.unprivileged
def test_a_blob_that_may_not_be_read_is_replaced(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    file_of(store, LAYER.digest).chmod(0)
    assert repair(store, transports).complete
    assert store.check(deep=True).problems == ()


def test_a_pushed_name_tells_where_blobs_of_unknown_origin_are(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    put_image(store, IMAGE, serve(faulty, IMAGE))
    rot(file_of(store, LAYER.digest))
    assert repair(store, transports).complete


@pytest.mark.parametrize("what", ["manifest", "blob"])
def test_what_is_attached_without_a_name_is_looked_for_where_its_image_is(
    store: Store, transports: Transports, faulty: FaultServer, what: str
) -> None:
    artifact = random_artifact(1, subject=IMAGE.raw.descriptor)
    serve(faulty, artifact, tag="attached")
    put_image(store, IMAGE, serve(faulty, IMAGE))
    put_artifact(store, artifact)
    damaged = artifact.raw.digest if what == "manifest" else artifact.layers[0].digest
    rot(file_of(store, damaged))
    result = repair(store, transports)
    assert [blob.digest for blob in result.fetched] == [damaged]
    assert store.referrers(IMAGE.raw.digest)
    assert store.check(deep=True).problems == ()


@pytest.mark.parametrize("what", ["index", "member", "artifact"])
@pytest.mark.parametrize("place", ["registry", "layout"])
def test_indexes_and_artifacts_are_brought_back_too(
    store: Store,
    transports: Transports,
    faulty: FaultServer,
    tmp_path: Path,
    what: str,
    place: str,
) -> None:
    members = [random_image(3), random_image(4, platform=ARM64)]
    index, artifact = index_of(members), random_artifact(2)
    for image in (*members, artifact):
        serve(faulty, image, tag=image.raw.digest.hex[:9])
    faulty.add_manifest(index.data, index.media_type, tag="all")
    put_index(store, index, members, f"{faulty.host}/team/app:all")
    put_artifact(store, artifact, f"{faulty.host}/team/app:artifact")
    other = tmp_path / "other"
    shutil.copytree(store.root, other)
    damaged = {"index": index, "member": members[1].raw, "artifact": artifact.raw}[what].digest
    cut(file_of(store, damaged))
    if place == "layout":
        faulty.manifests.clear()
    sources = [] if place == "registry" else [other]
    [blob] = repair(store, transports, *sources).fetched
    assert blob.digest == damaged
    assert store.check(deep=True).problems == ()


@pytest.mark.parametrize("transport", ["", "oci:"])
def test_a_layout_can_give_what_is_damaged(
    store: Store, transports: Transports, tmp_path: Path, transport: str
) -> None:
    put_image(store, IMAGE, "localhost/app")
    rot(file_of(store, LAYER.digest))
    file_of(store, IMAGE.raw.digest).unlink()
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE})
    result = repair(store, transports, f"{transport}{tmp_path / 'layout'}")
    assert result.complete
    assert len(result.fetched) == 2
    assert store.check(deep=True).problems == ()


def test_another_store_can_give_what_is_damaged(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    put_image(store, IMAGE, "localhost/app")
    rot(file_of(store, LAYER.digest))
    with Store.open(tmp_path / "other") as other:
        put_image(other, IMAGE, "somewhere/else")
    assert repair(store, transports, tmp_path / "other").complete


@pytest.mark.parametrize("form", ["oci-archive", "oci-dir", "docker-dir"])
def test_an_archive_can_give_what_is_damaged(
    store: Store, transports: Transports, tmp_path: Path, form: SaveFormat
) -> None:
    put_image(store, IMAGE, "localhost/app")
    saved = tmp_path / "saved"
    save_images(store, transports, ["app"], str(saved), SaveOptions(format=form))
    rot(file_of(store, LAYER.digest))
    assert repair(store, transports, saved).complete


def test_a_docker_archive_can_give_layers_that_are_not_compressed(
    store: Store, transports: Transports, tmp_path: Path
) -> None:
    image = random_image(3, compression="none", docker=True)
    put_image(store, image, "localhost/plain")
    saved = tmp_path / "saved.tar"
    save_images(store, transports, ["plain"], str(saved))
    rot(file_of(store, image.layers[0].digest))
    assert repair(store, transports, saved).complete


def test_an_image_anywhere_can_give_what_is_damaged(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    put_image(store, IMAGE, "localhost/app")
    name = serve(faulty, IMAGE, "elsewhere/entirely")
    for digest in (LAYER.digest, IMAGE.raw.digest):
        rot(file_of(store, digest))
    result = repair(store, transports, f"docker://{name}")
    assert {blob.place for blob in result.fetched} == {f"docker://{name}"}


def test_what_nobody_has_is_named_and_stays(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    put_image(store, random_image(2), "localhost/healthy")
    rot(file_of(store, LAYER.digest))
    damaged = file_of(store, LAYER.digest).read_bytes()
    faulty.blobs["team/app"].pop(str(LAYER.digest))
    result = repair(store, transports)
    assert not result.complete
    [failure] = result.failed
    assert (failure.digest, failure.images) == (LAYER.digest, (IMAGE.id,))
    assert faulty.host in failure.reasons[0]
    assert file_of(store, LAYER.digest).read_bytes() == damaged
    [aside] = (store.root / "quarantine").iterdir()
    assert aside.read_bytes() == damaged
    complete = {image.id: image.complete for image in store.images()}
    assert complete == {IMAGE.id: False, random_image(2).id: True}
    repair(store, transports)
    assert len(listing(store.root / "quarantine")) == 1, "the same bytes are not kept twice"
    faulty.add_blob(IMAGE.blobs[LAYER.digest])
    assert repair(store, transports).complete
    assert listing(store.root / "quarantine") == []


def test_one_blob_that_cannot_be_had_does_not_stop_the_others(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    for layer in IMAGE.layers:
        rot(file_of(store, layer.digest))
    faulty.blobs["team/app"].pop(str(min(layer.digest for layer in IMAGE.layers)))
    result = repair(store, transports)
    assert (len(result.fetched), len(result.failed)) == (1, 1)


def test_wrong_bytes_are_not_taken_and_the_next_place_is_asked(
    store: Store, transports: Transports, faulty: FaultServer, tmp_path: Path
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    rot(file_of(store, LAYER.digest))
    write_oci_layout(tmp_path / "layout", {"v1": IMAGE})
    rot(tmp_path / "layout" / "blobs" / "sha256" / LAYER.digest.hex)
    [blob] = repair(store, transports, tmp_path / "layout").fetched
    assert blob.place == f"{faulty.host}/team/app"
    rot(file_of(store, LAYER.digest))
    faulty.fault(Fault(corrupt=True), "GET", f"/blobs/{LAYER.digest}", times=9)
    [failure] = repair(store, transports, tmp_path / "layout").failed
    assert len(failure.reasons) == 2
    assert file_of(store, LAYER.digest).read_bytes() == bytes(LAYER.size)


def test_a_registry_that_is_gone_is_a_reason_and_no_error(
    store: Store, transports: Transports, faulty: FaultServer
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    rot(file_of(store, LAYER.digest))
    faulty.fault(Fault(status=500), "GET", times=99)
    assert repair(store, transports).failed[0].reasons


def test_a_file_that_proves_good_needs_no_fetching(store: Store, transports: Transports) -> None:
    put_image(store, IMAGE, "localhost/app")
    aside = store.root / "aside"
    file_of(store, LAYER.digest).rename(aside)
    report = store.check()
    aside.rename(file_of(store, LAYER.digest))
    [blob] = repair_store(store, transports, report).fetched
    assert (blob.digest, blob.place) == (LAYER.digest, None)
    assert store.check(deep=True).problems == ()


def test_a_blob_without_a_row_gets_one(store: Store, transports: Transports) -> None:
    put_image(store, IMAGE, "localhost/app")
    with store._session.write() as db:
        db.execute("DELETE FROM blob WHERE digest = ?", [str(LAYER.digest)])
    assert repair(store, transports).complete
    assert store.check(deep=True).problems == ()


def test_edges_that_were_altered_are_written_anew(store: Store, transports: Transports) -> None:
    put_image(store, IMAGE, "localhost/app")
    with store._session.write() as db:
        db.execute("DELETE FROM edge WHERE parent = ? AND ordinal = 1", [str(IMAGE.raw.digest)])
    result = repair(store, transports)
    assert [problem.kind for problem in result.mended] == ["wrong-edges"]
    assert store.check(deep=True).problems == ()


@pytest.mark.parametrize("log", ["with", "without"])
def test_a_name_that_was_altered_means_again_what_it_meant(
    store: Store, transports: Transports, log: str
) -> None:
    put_image(store, IMAGE, "localhost/app")
    put_image(store, random_image(2), "localhost/other")
    store.refresh_index()
    with store._session.write() as db:
        db.execute(
            "UPDATE name SET target = ?1, manifest = ?1 WHERE name LIKE '%/app:%'",
            [str(random_image(2).raw.digest)],
        )
        if log == "without":
            db.execute("DELETE FROM name_log")
    result = repair(store, transports)
    assert result.complete
    assert store.find_image("app").image.id == IMAGE.id
    assert store.check(deep=True).problems == ()


def test_a_name_nothing_tells_about_remains_a_problem(store: Store, transports: Transports) -> None:
    put_image(store, IMAGE, "localhost/app")
    with store._session.write() as db:
        db.execute("UPDATE name SET checksum = 'x'")
        db.execute("DELETE FROM name_log")
    (store.root / "index.json").write_bytes(b"{")
    result = repair(store, transports)
    assert [problem.kind for problem in result.remaining] == ["damaged-name"]


def test_a_full_disk_ends_the_repair_at_once(
    store: Store, transports: Transports, faulty: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pull_image(store, transports, serve(faulty, IMAGE))
    rot(file_of(store, LAYER.digest))

    def full(*_: object) -> None:
        raise StorageFullError("no space left")

    report = store.check(deep=True)
    monkeypatch.setattr("kstore.store.ingest.Ingest.write", full)
    with pytest.raises(StorageFullError):
        repair_store(store, transports, report)
    monkeypatch.undo()
    assert repair(store, transports).complete


def test_a_source_that_is_none_is_refused(store: Store, transports: Transports) -> None:
    with pytest.raises(InvalidInputError, match="neither a file or directory nor"):
        repair(store, transports, "nonsense")


def test_a_mirror_of_a_registry_that_is_gone_gives_what_is_damaged(
    store: Store, faulty: FaultServer, tmp_path: Path
) -> None:
    serve(faulty, IMAGE)
    put_image(store, IMAGE, "gone.invalid/team/app:v1")
    for digest in (LAYER.digest, IMAGE.raw.digest):
        rot(file_of(store, digest))
    conf = tmp_path / "registries.conf"
    conf.write_text(
        '[[registry]]\nlocation = "gone.invalid"\n'
        f'[[registry.mirror]]\nlocation = "{faulty.host}"\ninsecure = true\n'
    )
    app = App(load({"CONTAINERS_REGISTRIES_CONF": str(conf)}, root=store.root))
    with app.transports(store) as transports:
        result = repair(store, transports)
    assert result.complete, result
    assert {blob.place for blob in result.fetched} == {"gone.invalid/team/app"}


@pytest.mark.parametrize("what", ["manifest", "config", "both", "everything"])
def test_without_database_and_manifest_a_local_name_is_fetched_from_where_its_image_came_from(
    tmp_path: Path, faulty: FaultServer, what: str
) -> None:
    config = Digest("sha256", IMAGE.id)
    lost = {
        "manifest": [IMAGE.raw.digest],
        "config": [config],
        "both": [IMAGE.raw.digest, config],
        "everything": [IMAGE.raw.digest, *(layer.digest for layer in IMAGE.layers)],
    }[what]
    app, plain = App(load({}, root=tmp_path / "lost")), RegistryOptions(tls_verify=False)
    with app.open_store("test") as store, app.transports(store, plain) as theirs:
        name = serve(faulty, IMAGE)
        pull_image(store, theirs, name)
        if what != "both":  # then nothing tells what its blobs would be
            store.tag(store.find_image(name), [Named.parse("localhost/mine:1")])
            store.untag(Named.parse(name))
        before = store.images()
        for digest in lost:
            rot(file_of(store, digest))
    (tmp_path / "lost" / "db" / "kstore.db").unlink()
    rebuild(tmp_path / "lost")
    with app.open_store("test") as store, app.transports(store, plain) as theirs:
        result = repair(store, theirs)
        assert result.complete, result
        assert {blob.digest for blob in result.fetched} == set(lost)
        assert store.check(deep=True).problems == ()
        assert [(i.id, i.labels, i.created, i.size, i.complete) for i in store.images()] == [
            (i.id, i.labels, i.created, i.size, i.complete) for i in before
        ]


def test_a_name_made_of_a_digest_is_attached_again_by_a_rebuild(tmp_path: Path) -> None:
    root = tmp_path / "attached"
    with Store.open(root) as store:
        put_image(store, IMAGE, "localhost/app:1")
        tag = str(IMAGE.raw.digest).replace(":", "-")
        put_artifact(store, random_artifact(1), f"localhost/app:{tag}.sig")
        before = store.attachments(IMAGE.raw.digest)
        assert len(before) == 1
        assert store.prune(dry_run=True, retention=Retention(newest=1)).untagged == ()
    (root / "db" / "kstore.db").unlink()
    rebuild(root)
    with Store.open(root) as store:
        assert store.attachments(IMAGE.raw.digest) == before
        assert store.prune().untagged == ()
