from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kstore import mediatypes as mt
from kstore.digest import Digest
from kstore.errors import (
    CancelledError,
    ConflictError,
    NotFoundError,
    StorageError,
    StoreDamagedError,
)
from kstore.manifest import RawManifest
from kstore.operations.rmi import remove_images
from kstore.operations.untag import untag_image
from kstore.operations.working import make_container
from kstore.platforms import Platform
from kstore.store import RebuildReport, Store
from kstore.store import rebuild as rebuilding
from kstore.store.layout import IMAGE, REF_NAME
from kstore.store.reading import read_blob
from kstore.store.rebuild import rebuild
from kstore.store.session import Session
from kstore.streams import Cancel
from kstore.transports.storage import StorageTransport
from tests.support.images import TestImage, index_of, random_artifact, random_image
from tests.support.scripts import read_line, started
from tests.support.stores import named, put_artifact, put_image, put_index

FOREIGN = Platform("linux", "s390x")


def filled(root: Path) -> list[object]:
    """A store with everything a name can mean; its listing."""
    with Store.open(root) as store:
        put_image(store, random_image(1), "one", "example.com/team/one:v1")
        put_image(store, random_image(2, docker=True), "two", origin=("example.com", "team/two"))
        whole = [random_image(3), random_image(4, platform=FOREIGN)]
        put_index(store, index_of(whole), whole, "whole")
        sparse = [random_image(5), random_image(6, platform=FOREIGN)]
        put_index(store, index_of(sparse), sparse[:1], "sparse")
        put_image(store, random_image(7), "chosen", via=index_of([random_image(7)]))
        put_image(store, random_image(8))
        put_artifact(store, random_artifact(1, subject=random_image(1).raw.descriptor), "artifact")
    return listed(root)


def listed(root: Path) -> list[object]:
    """Everything about images and names but when they came."""
    with Store.open(root) as store:
        images: list[object] = [
            (image.id, image.size, image.complete, image.platform, dict(image.labels))
            for image in sorted(store.images(), key=lambda image: image.id)
        ]
        names = [(name.name, name.target, name.manifest, name.via) for name in store.names()]
        return [*images, *names, store.referrers(random_image(1).raw.digest)]


def without_indexes(listing: list[object]) -> list[object]:
    """A listing in which names only mean images: what index.json can tell."""
    return [
        (str(entry[0]), entry[2] or entry[1])
        if isinstance(entry, tuple) and len(entry) == 4
        else entry
        for entry in listing
    ]


def lose(root: Path) -> None:
    shutil.rmtree(root / "db")


def scribble(root: Path) -> None:
    (root / "db" / "kstore.db").write_bytes(b"not a database" * 1000)


def spoil_page(table: str) -> Callable[[Path], None]:
    """Random bytes in place of a table's root page."""

    def spoil(root: Path) -> None:
        connection = sqlite3.connect(root / "db" / "kstore.db")
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", [table]
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        connection.close()
        with (root / "db" / "kstore.db").open("r+b") as file:
            file.seek((page - 1) * size)
            file.write(os.urandom(size))

    return spoil


@pytest.mark.parametrize(
    "damage",
    [lose, scribble, spoil_page("edge"), spoil_page("name"), spoil_page("blob")],
    ids=["lost", "scribbled", "edge", "name", "blob"],
)
def test_all_images_and_names_come_back_without_a_backup(
    root: Path, damage: Callable[[Path], None]
) -> None:
    before = filled(root)
    damage(root)
    report = rebuild(root)
    assert (report.images, report.names, report.lost_names) == (7, 7, ())
    assert listed(root) == before
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()


def test_an_index_json_of_a_former_version_tells_the_image_that_an_index_led_to(root: Path) -> None:
    before = filled(root)
    document = json.loads((root / "index.json").read_bytes())
    document["annotations"].pop("org.kstore.format")
    for entry in document["manifests"]:
        told = entry.pop("annotations", {})
        if REF_NAME in told:
            entry["annotations"] = {REF_NAME: told[REF_NAME]}
    (root / "index.json").write_text(json.dumps(document))
    with Store.open(root) as store:
        assert store.check().problems == ()  # and it is written anew
    assert "org.kstore.format" in (root / "index.json").read_text()
    (root / "index.json").write_text(json.dumps(document))
    lose(root)
    assert rebuild(root).lost_names == ()
    assert without_indexes(listed(root)) == without_indexes(before)


@pytest.mark.parametrize("damage", [lose, scribble], ids=["lost", "scribbled"])
def test_with_a_backup_names_mean_exactly_what_they_meant(
    root: Path, damage: Callable[[Path], None]
) -> None:
    before = filled(root)
    with Store.open(root) as store:
        store.prune(only_images=())
    backup = (root / "db" / "backup-0.db").read_bytes()
    damage(root)
    (root / "db").mkdir(exist_ok=True)
    (root / "db" / "backup-0.db").write_bytes(backup)
    assert rebuild(root).sources == ("backup-0.db", "index.json")
    assert listed(root) == before
    with Store.open(root) as store:
        two = random_image(2).layers[0].digest
        assert store.origins(two) == [("example.com", "team/two")]
        assert store.name_log(named("one"))
        assert store.check(deep=True).problems == ()


def test_what_changed_after_the_backup_is_known_from_index_json(root: Path) -> None:
    filled(root)
    with Store.open(root) as store:
        store.prune(only_images=())
        store.remove_name(named("two"))
        put_image(store, random_image(9), "nine")
        store.tag(store.find_image("nine"), [named("one")])
    before = listed(root)
    scribble(root)
    rebuild(root)
    assert listed(root) == before
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()


def test_a_backup_that_is_newer_than_index_json_is_believed(root: Path) -> None:
    filled(root)
    old = (root / "index.json").read_bytes()
    with Store.open(root) as store:
        store.tag(store.find_image("two"), [named("one")])
        store.untag(named("artifact"))
        store.prune(only_images=())
    before = listed(root)
    (root / "index.json").write_bytes(old)
    (root / "db" / "kstore.db").unlink()
    rebuild(root)
    assert listed(root) == before


def test_names_that_index_json_lags_behind_are_read_from_the_damaged_database(root: Path) -> None:
    filled(root)
    with Store.open(root) as store:
        store.tag(store.find_image("one"), [named("late")])
        store._session.changed = False  # as after a kill
    spoil_page("blob")(root)
    assert "the damaged database" in rebuild(root).sources
    with Store.open(root) as store:
        assert store.find_image("late").image.id == random_image(1).id


def test_a_name_that_was_altered_in_the_damaged_database_is_not_believed(root: Path) -> None:
    filled(root)
    connection = sqlite3.connect(root / "db" / "kstore.db")
    connection.execute("UPDATE name SET name = 'docker.io/library/fake:latest' WHERE tag = 'v1'")
    connection.commit()
    connection.close()
    spoil_page("blob")(root)
    rebuild(root)
    with Store.open(root) as store:
        assert store.name(named("fake")) is None
        assert store.name(named("example.com/team/one:v1")) is not None


def test_damaged_and_missing_blobs_leave_their_images_incomplete_and_the_rest_whole(
    root: Path,
) -> None:
    filled(root)
    one, two = random_image(1), random_image(2)
    rotten = root / "blobs" / "sha256" / one.layers[0].digest.hex
    rotten.chmod(0o600)
    rotten.write_bytes(b"rot")
    (root / "blobs" / "sha256" / two.layers[1].digest.hex).unlink()
    lose(root)
    report = rebuild(root)
    assert (report.images, report.names, report.unusable_blobs) == (7, 7, 2)
    with Store.open(root) as store:
        incomplete = {image.id for image in store.images() if not image.complete}
        assert incomplete == {one.id, random_image(2, docker=True).id}
        wanted = {blob.blob for blob in store.repairs.damaged_blobs()}
        assert {blob.digest for blob in wanted} == {one.layers[0].digest, two.layers[1].digest}


def test_a_name_of_which_nothing_but_the_name_is_known_is_reported_as_lost(root: Path) -> None:
    filled(root)
    (root / "blobs" / "sha256" / random_image(1).raw.digest.hex).unlink()
    spoil_page("blob")(root)
    (root / "index.json").unlink()
    report = rebuild(root)
    assert set(report.lost_names) == {named("one"), named("example.com/team/one:v1")}
    assert report.names == 5


def rot(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"rot")


def give_back(root: Path, image: TestImage, *digests: Digest) -> None:
    for digest in digests:
        path = root / "blobs" / "sha256" / digest.hex
        path.unlink(missing_ok=True)
        path.write_bytes({**image.blobs, image.raw.digest: image.raw.data}[digest])


ONE = random_image(1)
CONFIG = Digest("sha256", ONE.id)


@pytest.mark.parametrize("damage", [Path.unlink, rot], ids=["gone", "rotten"])
@pytest.mark.parametrize(
    "digests",
    [[ONE.raw.digest], [CONFIG], [ONE.raw.digest, CONFIG]],
    ids=["manifest", "config", "both"],
)
def test_a_name_whose_image_cannot_be_read_stays_and_the_bytes_make_it_whole(
    root: Path, damage: Callable[[Path], None], digests: list[Digest]
) -> None:
    before = filled(root)
    for digest in digests:
        damage(root / "blobs" / "sha256" / digest.hex)
    lose(root)
    assert rebuild(root).lost_names == ()
    lose(root)
    report = rebuild(root)  # and a second time
    assert (report.names, report.lost_names) == (7, ())
    with Store.open(root) as store:
        known = {image.id: image for image in store.images()}
        if len(digests) == 2:
            with pytest.raises(StoreDamagedError, match="manifest of 'one' is damaged") as caught:
                store.find_image("one")
            assert caught.value.hint == "kstore check --repair"
        else:
            assert store.find_image("one").image == known[ONE.id]
            assert not known[ONE.id].complete
            assert known[ONE.id].platform == ONE.platform
        assert store.find_image("two").image.complete
        assert {blob.digest for blob in store.repairs.damaged_blobs()} >= {digests[0]}
    give_back(root, ONE, *digests)
    with Store.open(root) as store:
        store.check()
        assert store.check(deep=True).problems == ()
        manifest = store.manifest(ONE.raw.digest)
        assert manifest is not None
        assert manifest.descriptor.annotations == {}
    assert listed(root) == before


def test_what_an_unreadable_manifest_may_need_is_not_removed(root: Path) -> None:
    filled(root)
    (root / "blobs" / "sha256" / ONE.raw.digest.hex).unlink()
    blobs = {path.name for path in (root / "blobs" / "sha256").iterdir()}
    lose(root)
    rebuild(root)
    told: list[str] = []
    with Store.open(root, warn=told.append) as store:
        assert store.prune().blobs_removed == 0
        assert f"manifest {ONE.raw.digest} cannot be read" in told[0]
        assert store.remove_name(named("whole")).blobs_removed == 0
        assert {usage.kind: usage.bytes for usage in store.usage().kinds}["unreferenced"] == 0
    assert {path.name for path in (root / "blobs" / "sha256").iterdir()} == blobs
    give_back(root, ONE, ONE.raw.digest)
    with Store.open(root) as store:
        store.check()
        store.prune()
        assert store.find_image("one").image.complete
        assert store.check(deep=True).problems == ()
    left = {path.name for path in (root / "blobs" / "sha256").iterdir()}
    assert left < blobs | {ONE.raw.digest.hex}, "what belonged to the index without a name is gone"


def test_what_a_manifest_may_need_that_came_back_stays_until_somebody_read_it(root: Path) -> None:
    filled(root)
    (root / "blobs" / "sha256" / ONE.raw.digest.hex).unlink()
    lose(root)
    rebuild(root)
    give_back(root, ONE, ONE.raw.digest)
    with Store.open(root) as store, store.lease("a repair that dies") as lease:
        assert lease.adopt([(ONE.raw.digest, None)]) == {ONE.raw.digest}
    with Store.open(root) as store:
        assert store.prune().blobs_removed == 0
        store.check()
        assert store.prune().blobs_removed > 0, "what belonged to the image without a name"
        assert store.find_image("one").image.complete
        assert store.check(deep=True).problems == ()


def test_what_is_no_manifest_after_all_keeps_no_blob(root: Path) -> None:
    filled(root)
    index = json.loads((root / "index.json").read_text())
    data = b'{"schemaVersion":2}'
    strange = Digest.of(data)
    index["manifests"].append(
        {"mediaType": mt.OCI_MANIFEST, "digest": str(strange), "size": len(data)}
        | {"annotations": {REF_NAME: "localhost/strange:latest"}}
    )
    (root / "index.json").write_text(json.dumps(index))
    lose(root)
    assert rebuild(root).lost_names == ()
    (root / "blobs" / "sha256" / strange.hex).write_bytes(data)
    with Store.open(root) as store:
        assert store.remove_name(named("two")).blobs_removed == 0
        store.check()
        assert store.prune().blobs_removed > 0


@pytest.mark.parametrize("backup", [False, True], ids=["without", "with a backup"])
@pytest.mark.parametrize("damage", [Path.unlink, rot], ids=["gone", "rotten"])
@pytest.mark.parametrize("seed", [3, 4], ids=["the one it leads to", "another"])
def test_a_member_that_cannot_be_read_is_missed_and_its_layers_stay(
    root: Path, seed: int, damage: Callable[[Path], None], backup: bool
) -> None:
    before = filled(root)
    member = random_image(seed) if seed == 3 else random_image(seed, platform=FOREIGN)
    if backup:
        with Store.open(root) as store:
            store.prune(only_images=())
    damage(root / "blobs" / "sha256" / member.raw.digest.hex)
    if backup:
        scribble(root)
    else:
        lose(root)
    rebuild(root)
    lose(root)
    rebuild(root)  # and a second time
    with Store.open(root) as store:
        name = store.find_name("whole")
        assert name is not None
        assert name.manifest == random_image(3).raw.digest
        assert [each.digest for each in store.repairs.damaged_blobs()] == [member.raw.digest]
        assert store.prune().blobs_removed == 0
        assert {usage.kind: usage.bytes for usage in store.usage().kinds}["unreferenced"] == 0
    give_back(root, member, member.raw.digest)
    with Store.open(root) as store:
        store.check()
        assert store.check(deep=True).problems == ()
    assert listed(root) == before


def test_only_the_store_itself_says_what_config_an_unreadable_member_has(root: Path) -> None:
    members = [random_image(3), random_image(4, platform=FOREIGN)]
    index = json.loads(index_of(members).data)
    index["manifests"][1]["annotations"] = {IMAGE: str(CONFIG)}
    raw = RawManifest.receive(json.dumps(index).encode())
    with Store.open(root) as store:
        put_image(store, ONE, "one")
        put_index(store, raw, members, "whole")
    (root / "blobs" / "sha256" / members[1].raw.digest.hex).unlink()
    lose(root)
    rebuild(root)
    with Store.open(root) as store:
        record = store.manifest(members[1].raw.digest)
        assert record is not None
        assert record.image_id is None


@pytest.mark.parametrize("how", ["rmi", "untag", "delete"])
def test_a_name_of_which_nothing_else_is_known_can_be_taken_away(root: Path, how: str) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "localhost/one")
    for digest in (ONE.raw.digest, CONFIG):
        (root / "blobs" / "sha256" / digest.hex).unlink()
    lose(root)
    rebuild(root)
    with Store.open(root) as store:
        if how == "rmi":
            assert remove_images(store, ["one"]).errors == ()
        elif how == "untag":
            assert untag_image(store, "one") == named("localhost/one")
        else:
            StorageTransport(store).parse_reference("one").delete()
        assert store.names() == []
        store.prune()
        assert list(store._session.blobs.digests()) == []


@pytest.mark.parametrize("how", ["rmi", "untag"])
@pytest.mark.parametrize("digests", [[ONE.raw.digest], [ONE.raw.digest, CONFIG]], ids=len)
def test_an_image_that_cannot_be_read_can_be_removed(
    root: Path, how: str, digests: list[Digest]
) -> None:
    filled(root)
    for digest in digests:
        rot(root / "blobs" / "sha256" / digest.hex)
    lose(root)
    rebuild(root)
    told: list[str] = []
    with Store.open(root, warn=told.append) as store:
        for name in ("one", "example.com/team/one:v1"):
            if how == "rmi":
                store.remove_name(named(name))
            else:
                store.untag(named(name))
        assert ONE.layers[0].digest in store._session.blobs.digests()
        store.prune()
        assert ONE.layers[0].digest not in store._session.blobs.digests()
        assert store.check(deep=True).problems == ()
    assert told == []


def test_a_pull_makes_an_image_whole_whose_manifest_could_not_be_read(root: Path) -> None:
    before = filled(root)
    for digest in (ONE.raw.digest, CONFIG):
        (root / "blobs" / "sha256" / digest.hex).unlink()
    lose(root)
    rebuild(root)
    with Store.open(root) as store:
        put_image(store, ONE, "one")
        assert store.check(deep=True).problems == ()
    assert listed(root) == before


@pytest.mark.parametrize(("name", "seeds"), [("whole", (3, 4)), ("sparse", (5, 6))])
def test_a_name_whose_index_is_gone_leads_to_the_same_image(
    root: Path, name: str, seeds: tuple[int, int]
) -> None:
    before = filled(root)
    index = index_of([random_image(seeds[0]), random_image(seeds[1], platform=FOREIGN)])
    (root / "blobs" / "sha256" / index.digest.hex).unlink()
    lose(root)
    assert rebuild(root).lost_names == ()
    with Store.open(root) as store:
        assert store.find_image(name).image.id == random_image(seeds[0]).id
    if name == "whole":
        (root / "blobs" / "sha256" / index.digest.hex).write_bytes(index.data)
        with Store.open(root) as store:
            store.check()
            assert store.check(deep=True).problems == ()
        assert listed(root) == before


def test_a_disk_that_fails_while_a_manifest_is_read_again_keeps_its_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled(root)
    lose(root)

    def fail(session: Session, digest: Digest, *, cap: int) -> bytes:
        if digest == ONE.raw.digest:
            raise StoreDamagedError(f"blob {digest} cannot be read: Input/output error")
        return read_blob(session, digest, cap=cap)

    with monkeypatch.context() as broken:
        broken.setattr(rebuilding, "read_blob", fail)
        assert rebuild(root).lost_names == ()
    with Store.open(root) as store:
        assert not store.find_image("one").image.complete
        store.check()
        assert store.check(deep=True).problems == ()
    assert listed(root) == before


def test_an_image_whose_config_is_damaged_is_reported(root: Path) -> None:
    filled(root)
    rot(root / "blobs" / "sha256" / ONE.id)
    lose(root)
    report = rebuild(root)
    assert any(str(ONE.raw.digest) in text for text in report.not_understood)


@pytest.mark.parametrize("backup", ["none", "old"])
def test_the_log_of_names_is_read_from_the_damaged_database(root: Path, backup: str) -> None:
    filled(root)
    with Store.open(root) as store:
        if backup == "old":
            store.prune(only_images=())
        store.tag(store.find_image("two"), [named("one")])
        store.untag(named("two"))
        before = store.name_log()
    spoil_page("blob")(root)
    rebuild(root)
    with Store.open(root) as store:
        log = store.name_log()
    assert [change for change in log if change in before] == before
    assert {change.command for change in log[: len(log) - len(before)]} <= {""}


@pytest.mark.parametrize("damage", [lose, spoil_page("blob")], ids=["lost", "blob"])
def test_working_containers_stay(root: Path, damage: Callable[[Path], None]) -> None:
    filled(root)
    with Store.open(root) as store:
        made = [make_container(store, "one", "work"), make_container(store, "scratch")]
    damage(root)
    rebuild(root)
    with Store.open(root) as store:
        store.prune()
        found = sorted(store.containers.all(), key=lambda record: record.name)
        wanted = sorted(made, key=lambda record: record.name)
        assert [(c.id, c.name, c.image_id, c.manifest) for c in found] == [
            (c.id, c.name, c.image_id, c.manifest) for c in wanted
        ]
        assert all(record.upper.is_dir() for record in found)


def untold(root: Path) -> list[object]:
    """What no blob tells but names."""
    with Store.open(root) as store:
        return [
            store._session.db.rows("SELECT name, since FROM protection"),
            store.signatures(ONE.raw.digest),
            store._session.db.rows("SELECT * FROM blob_source"),
        ]


def with_more(root: Path) -> list[object]:
    filled(root)
    with Store.open(root) as store:
        store.protection.add([named("one"), named("two")])
        store.add_signatures(ONE.raw.digest, [b"signed", b"signed again"])
    with Store.open(root) as store:
        store.protection.release([named("two")])
        store.add_signatures(ONE.raw.digest, [b"signed", bytes(range(256))])
    told = untold(root)
    assert [len(part) for part in told if isinstance(part, list)] == [1, 3, 3]
    return told


@pytest.mark.parametrize("known", ["the damaged database", "files alone", "an old backup"])
def test_what_no_blob_tells_is_told_by(root: Path, known: str) -> None:
    with Store.open(root) as store:
        put_image(store, ONE, "one", "two")
        store.protection.add([named("two")])
        store.prune()
    before = with_more(root)
    if known == "the damaged database":
        (root / "provenance").unlink()
        spoil_page("blob")(root)
    elif known == "files alone":
        lose(root)
    else:
        (root / "db" / "kstore.db").unlink()
    rebuild(root)
    assert untold(root) == before
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()


def test_the_damaged_database_is_kept_with_its_log(root: Path) -> None:
    filled(root)
    scribble(root)
    (root / "db" / "kstore.db-wal").write_bytes(b"a log")
    rebuild(root)
    assert (root / "db" / "damaged.db").read_bytes() == b"not a database" * 1000
    assert (root / "db" / "damaged.db-wal").read_bytes() == b"a log"
    names = {path.name for path in (root / "db").iterdir() if "spare" not in path.name}
    assert names == {"kstore.db", "damaged.db", "damaged.db-wal"}
    with Store.open(root) as store:
        assert store._session.db.row("PRAGMA journal_mode") == ("wal",)


def everything(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("step", ["_begin", "_install", "_connect"])
def test_a_rebuild_that_fails_leaves_everything_as_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    filled(root)
    scribble(root)
    before = everything(root)

    def fail(*_: object, **__: object) -> None:
        raise StorageError("the disk is on fire")

    with monkeypatch.context() as broken:
        broken.setattr(rebuilding, step, fail)
        with pytest.raises(StorageError, match="the disk is on fire"):
            rebuild(root)
    assert everything(root) == before
    assert rebuild(root).names == 7


def test_a_rebuild_can_be_stopped_and_leaves_everything_as_it_was(root: Path) -> None:
    filled(root)
    scribble(root)
    before = everything(root)
    cancel = Cancel()
    with pytest.raises(CancelledError):
        rebuild(root, progress=lambda size: cancel.cancel(), cancel=cancel)
    assert everything(root) == before


def test_a_rebuild_that_died_between_its_renames_is_done_again(root: Path) -> None:
    before = filled(root)
    spoil_page("blob")(root)
    (root / "db" / "kstore.db").rename(root / "db" / "damaged.db")
    (root / "index.json").unlink()
    with pytest.raises(StoreDamagedError, match="database of .* is gone") as caught:
        Store.open(root)
    assert caught.value.hint == "kstore check --repair"
    assert rebuild(root).sources == ("the damaged database",)
    assert listed(root) == before


@pytest.mark.parametrize("name", ["rebuild.db", "rebuild.db-journal", "salvage.db-wal"])
def test_what_a_rebuild_that_was_killed_left_behind_goes_with_a_prune(
    root: Path, name: str
) -> None:
    filled(root)
    (root / "db" / name).write_bytes(b"half of a database")
    with Store.open(root) as store:
        store.prune()
    assert not (root / "db" / name).exists()


def test_a_rebuild_waits_for_nobody_to_use_the_store(root: Path) -> None:
    filled(root)
    code = """
        import sys
        from pathlib import Path
        from kstore.store import Store
        with Store.open(Path(sys.argv[1])):
            print("open", flush=True)
            sys.stdin.read()
    """
    with started(code, str(root)) as process:
        assert read_line(process) == "open"
        with pytest.raises(StorageError, match="in use by another kstore"):
            rebuild(root, wait_seconds=0.05)


def test_a_directory_that_is_no_store_is_not_rebuilt(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConflictError):
        rebuild(tmp_path)
    with pytest.raises(NotFoundError, match="there is no store"):
        rebuild(tmp_path / "absent")
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_healthy_store_stays_as_it_is(root: Path) -> None:
    before = filled(root)
    report = rebuild(root)
    assert isinstance(report, RebuildReport)
    assert listed(root) == before


@pytest.mark.parametrize("last", [0, 1, 2])
def test_a_rebuild_that_dies_at_any_rename_loses_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    before = filled(root)
    spoil_page("blob")(root)
    (root / "db" / "kstore.db-wal").write_bytes(b"")
    done: list[Path] = []
    as_usual = Path.replace

    def replace(self: Path, target: str | Path) -> Path:
        if len(done) == last:
            raise OSError(errno.EIO, "killed here")
        done.append(self)
        return as_usual(self, target)

    with monkeypatch.context() as dying:
        dying.setattr(Path, "replace", replace)
        with pytest.raises(StorageError, match="killed here"):
            rebuild(root)
    assert rebuild(root).names == 7
    assert listed(root) == before
    assert (root / "db" / "damaged.db").exists()


def test_rows_that_refer_to_nothing_are_repaired_by_a_rebuild(root: Path) -> None:
    before = filled(root)
    connection = sqlite3.connect(root / "db" / "kstore.db")  # which enforces nothing by itself
    connection.execute("DELETE FROM manifest WHERE digest = ?", [str(random_image(1).raw.digest)])
    connection.commit()
    connection.close()
    with Store.open(root) as store:
        assert "database" in {problem.kind for problem in store.check().problems}
    rebuild(root)
    assert without_indexes(listed(root)) == without_indexes(before)
    with Store.open(root) as store:
        assert store.check(deep=True).problems == ()


def test_whichever_page_of_the_database_rots_everything_comes_back(
    root: Path, tmp_path: Path
) -> None:
    before = filled(root)
    database = root / "db" / "kstore.db"
    good = database.read_bytes()
    index = (root / "index.json").read_bytes()
    size = int.from_bytes(good[16:18], "big")
    noticed = 0
    for page in range(len(good) // size):
        for path in (root / "db").iterdir():
            path.unlink()
        (root / "index.json").write_bytes(index)
        rot = os.urandom(size)
        database.write_bytes(good[: page * size] + rot + good[(page + 1) * size :])
        try:
            with Store.open(root) as store:
                damaged = store.check(deep=True).damaged
        except StorageError:
            damaged = True
        noticed += damaged
        if damaged:
            rebuild(root)
        assert without_indexes(listed(root)) == without_indexes(before), f"page {page}"
        with Store.open(root) as store:
            assert not store.check(deep=True).damaged, f"page {page}"
    assert noticed > len(good) // size // 2


def test_an_index_json_that_cannot_be_read_ends_the_rebuild_and_loses_no_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled(root)
    lose(root)
    as_usual = Path.open

    def fail(self: Path, *args: Any, **more: Any) -> Any:
        if self.name == "index.json":
            raise OSError(errno.EIO, "Input/output error", str(self))
        return as_usual(self, *args, **more)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "open", fail)
        with pytest.raises(StorageError, match=r"index\.json"):
            rebuild(root)
    rebuild(root)
    assert without_indexes(listed(root)) == without_indexes(before)


def test_an_index_json_that_makes_no_sense_is_kept_beside_the_new_database(root: Path) -> None:
    filled(root)
    (root / "index.json").write_bytes(b'{"manifests": [torn')
    lose(root)
    assert rebuild(root).names == 0
    assert (root / "db" / "damaged-index.json").read_bytes() == b'{"manifests": [torn'
