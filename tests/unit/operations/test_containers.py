"""Working containers: made, found, listed, changed files, removed."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from kstore.errors import (
    AmbiguousNameError,
    ConflictError,
    ImageNotFoundError,
    InUseError,
    InvalidInputError,
    KstoreError,
    NotFoundError,
    StorageError,
)
from kstore.operations.rmi import remove_images
from kstore.operations.working import list_containers, make_container, remove_containers
from kstore.store import Store
from kstore.store.schema import SCHEMA_VERSION
from tests.support.images import index_of, random_image
from tests.support.stores import listing, put_image, put_index

IMAGE = random_image(1)


@pytest.fixture
def stocked(store: Store) -> Store:
    put_image(store, IMAGE, "quay.io/team/app:1")
    return store


def test_a_container_is_called_after_its_image_and_numbered_from_the_second_on(
    stocked: Store,
) -> None:
    names = [make_container(stocked, "quay.io/team/app:1").name for _ in range(3)]
    assert names == [f"app-working-container{end}" for end in ("", "-1", "-2")]
    assert make_container(stocked, "scratch").name == "working-container"
    assert make_container(stocked, IMAGE.id, "mine").name == "mine"


def test_a_container_has_a_private_directory_and_an_empty_layer(stocked: Store) -> None:
    record = make_container(stocked, "quay.io/team/app:1")
    assert record.directory == stocked.root / "containers" / record.id
    assert listing(record.directory) == ["kstore.json", "upper"]
    assert listing(record.upper) == []
    assert (record.directory / "kstore.json").stat().st_mode & 0o777 == 0o600
    assert record.directory.stat().st_mode & 0o777 == 0o700
    described = json.loads((record.directory / "kstore.json").read_bytes())
    assert (described["container-id"], described["container-name"]) == (record.id, record.name)


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "x" * 129, "f" * 64, "caf\u00e9"])
def test_what_cannot_be_a_name_is_refused_and_leaves_nothing(stocked: Store, name: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot name a container"):
        make_container(stocked, "scratch", name)
    assert listing(stocked.root / "containers") == []


def test_a_name_that_is_taken_is_refused_and_leaves_nothing(stocked: Store) -> None:
    record = make_container(stocked, "scratch", "box")
    with pytest.raises(ConflictError, match="called box already"):
        make_container(stocked, "scratch", "box")
    assert listing(stocked.root / "containers") == [record.id]


def test_an_image_that_is_not_there_is_one_sentence(store: Store) -> None:
    with pytest.raises(ImageNotFoundError) as caught:
        make_container(store, "nothing")
    assert caught.value.hint == "kstore pull nothing"


def test_a_container_is_found_by_name_id_and_start_of_its_id(store: Store) -> None:
    records = [make_container(store, "scratch", f"box{number}") for number in range(20)]
    for record in records:
        for text in (record.name, record.id, record.id[:20]):
            assert store.containers.find(text) == record
    first = records[0].id[0]
    alike = [record.id for record in records if record.id.startswith(first)]
    if len(alike) > 1:
        with pytest.raises(AmbiguousNameError, match=f"'{first}' is the start of several"):
            store.containers.find(first)
    with pytest.raises(NotFoundError, match="no container 'nobody'"):
        store.containers.find("nobody")


def test_a_name_wins_over_the_start_of_an_id(store: Store) -> None:
    other = make_container(store, "scratch")
    named = make_container(store, "scratch", other.id[:3])
    assert store.containers.find(other.id[:3]) == named


def test_the_list_is_in_the_order_they_were_made_and_tells_their_images(stocked: Store) -> None:
    made = [make_container(stocked, image) for image in ("quay.io/team/app:1", "scratch")]
    found = list_containers(stocked)
    assert [each.record for each in found] == made
    assert [each.image_name for each in found] == ["quay.io/team/app:1", "scratch"]
    stocked.untag(found[0].image.names[0].name)  # type: ignore[union-attr]
    assert list_containers(stocked)[0].image_name is None


def test_removing_takes_the_files_whatever_their_modes(store: Store) -> None:
    record = make_container(store, "scratch", "box")
    (record.upper / "a/b").mkdir(parents=True)
    (record.upper / "a/b/file").touch()
    (record.upper / "a/b").chmod(0)
    (record.upper / "a").chmod(0o500)
    result = remove_containers(store, ["box", "nobody"])
    assert result.removed == (record,)
    assert [type(error) for error in result.errors] == [NotFoundError]
    assert listing(store.root / "containers") == []
    assert store.containers.all() == []


def test_all_of_them_go_or_those_that_were_named(store: Store) -> None:
    for arguments, flag in (((), False), (("box",), True)):
        with pytest.raises(InvalidInputError):
            remove_containers(store, arguments, all_containers=flag)
    make_container(store, "scratch")
    make_container(store, "scratch")
    assert len(remove_containers(store, [], all_containers=True).removed) == 2


# ---- the image below


def test_the_image_of_a_container_is_not_removed_without_force(stocked: Store) -> None:
    record = make_container(stocked, "quay.io/team/app:1", "box")
    for text in ("quay.io/team/app:1", IMAGE.id):
        [error] = remove_images(stocked, [text]).errors
        assert isinstance(error, InUseError)
        assert "in use by the container box" in error.message
        assert error.hint == "kstore rm box"
    assert [type(e) for e in remove_images(stocked, [], all_images=True).errors] == [InUseError]
    assert remove_images(stocked, [IMAGE.id], force=True).errors == ()
    [summary] = list_containers(stocked)
    assert (summary.record, summary.image, summary.image_name) == (record, None, None)


def test_a_name_among_several_may_go(stocked: Store) -> None:
    put_image(stocked, IMAGE, "localhost/other")
    make_container(stocked, IMAGE.id)
    assert remove_images(stocked, ["localhost/other"]).errors == ()
    assert len(remove_images(stocked, ["quay.io/team/app:1"]).errors) == 1


def test_when_the_container_is_gone_its_image_may_go(stocked: Store) -> None:
    make_container(stocked, IMAGE.id, "box")
    remove_containers(stocked, ["box"])
    assert remove_images(stocked, [IMAGE.id]).errors == ()


def test_garbage_collection_keeps_what_a_container_needs(stocked: Store) -> None:
    make_container(stocked, "quay.io/team/app:1", "box")
    [name] = stocked.image(IMAGE.id).names
    stocked.untag(name.name)
    stocked.prune()
    assert all(stocked.blob(digest) is not None for digest in IMAGE.blobs)
    remove_containers(stocked, ["box"])
    stocked.prune()
    assert all(stocked.blob(digest) is None for digest in IMAGE.blobs)


def test_a_member_of_an_index_stays_when_the_index_goes(store: Store) -> None:
    other = random_image(2)
    put_index(store, index_of([IMAGE, other]), [IMAGE, other], "multi")
    make_container(store, other.id)
    with contextlib.suppress(InUseError):
        remove_images(store, ["multi"])
    assert store.image(other.id).complete


def test_garbage_collection_removes_what_a_crash_left(store: Store) -> None:
    kept = make_container(store, "scratch")
    left = store.root / "containers" / ("0" * 64)
    (left / "upper").mkdir(parents=True)
    (store.root / "containers" / "README").touch()
    store.prune()
    assert listing(store.root / "containers") == sorted([kept.id, "README"])


def test_a_container_in_use_waits_for_its_turn(tmp_path: Path) -> None:
    with (
        Store.open(tmp_path / "root") as store,
        Store.open(tmp_path / "root", wait_seconds=0.05) as other,
    ):
        record = make_container(store, "scratch", "box")
        with store.containers.hold(record):
            [error] = remove_containers(other, ["box"]).errors
            assert isinstance(error, StorageError)
            assert "container box has been in use" in error.message
            other.prune()
        assert record.upper.is_dir()
        assert remove_containers(other, ["box"]).errors == ()
        with pytest.raises(NotFoundError, match="box was removed meanwhile"):
            store.containers.remove(record)


def test_a_failure_to_describe_a_container_leaves_nothing(store: Store) -> None:
    def fail(_: object) -> bytes:
        raise InvalidInputError("no words for it")

    with pytest.raises(InvalidInputError, match="no words"):
        store.containers.create(None, stem="box", describe=fail)
    assert listing(store.root / "containers") == []
    assert store.containers.all() == []


def test_an_image_that_goes_before_the_container_is_there_makes_none(stocked: Store) -> None:
    found = stocked.find_image(IMAGE.id)
    stocked.remove_image(IMAGE.id)
    with pytest.raises(KstoreError, match="not in the store any more"):
        stocked.containers.create(found, stem="box", describe=lambda _: b"{}")
    assert listing(stocked.root / "containers") == []


@pytest.mark.unprivileged
def test_a_directory_that_cannot_be_written_to_is_named(store: Store) -> None:
    (store.root / "containers").chmod(0o500)
    with pytest.raises(StorageError, match="cannot make a container in"):
        make_container(store, "scratch")


# ---- stores of the version before


def without_containers(root: Path) -> None:
    """Make the store one of the version before there were containers."""
    with contextlib.closing(sqlite3.connect(root / "db" / "kstore.db")) as connection:
        connection.execute("DROP VIEW containers_view")
        connection.execute("DROP TABLE container")
        connection.execute("DROP TABLE protection")
        connection.execute("DROP TABLE signature")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name >= '0003'")
        connection.execute("PRAGMA user_version = 2")
        connection.commit()
    (root / "containers").rmdir()


def test_an_older_store_can_be_read_as_it_is_and_is_upgraded_by_a_change(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Store.open(root) as store:
        put_image(store, IMAGE, "app")
    without_containers(root)
    with Store.open(root, read_only=True) as store:
        assert [image.id for image in store.images()] == [IMAGE.id]
        assert store.containers.all() == []
        assert len(store.usage().images) == 1
        assert store.facts().schema_version == 2
        with pytest.raises(NotFoundError):
            store.containers.find("box")
    with Store.open(root) as store:
        assert make_container(store, "app").image_id == IMAGE.id
        assert store.facts().schema_version == SCHEMA_VERSION
