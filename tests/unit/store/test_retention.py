from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest

from kstore.operations.working import make_container
from kstore.platforms import Platform
from kstore.store import PruneReport, Store
from kstore.store.retention import Retention
from tests.support.images import TestImage, index_of, random_image
from tests.support.stores import fail_to_pull, named, put_image, put_index

OTHERS = ["app:1", "app:2", "app:3", "app:5", "tool:1", "tool:2"]
_START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def day(number: int) -> dt.datetime:
    return _START + dt.timedelta(days=number)


def came(store: Store, number: int, image: TestImage, *names: str) -> None:
    """An image that came, or was named, on that day."""
    put_image(store, image, *names)
    moment = int(day(number).timestamp() * 1e6)
    with store._session.write() as db:
        for name in names:
            db.execute("UPDATE name SET updated_at = ? WHERE name = ?", [moment, str(named(name))])
        db.execute(
            "UPDATE manifest SET added_at = ? WHERE digest = ?", [moment, str(image.raw.digest)]
        )


@pytest.fixture
def full(store: Store) -> Store:
    """Five versions of one repository, two of another, and one image without a name."""
    for number in range(1, 6):
        came(store, number, random_image(number), f"app:{number}")
    came(store, 6, random_image(6), "tool:1")
    came(store, 7, random_image(7), "tool:2")
    came(store, 8, random_image(8))
    return store


def names(store: Store) -> list[str]:
    return [name.name.familiar for name in store.names()]


def prune(store: Store, rule: Retention) -> PruneReport:
    """The rehearsal first, which must tell exactly what follows."""
    rehearsed = store.prune(dry_run=True, retention=rule)
    done = store.prune(retention=rule)
    assert rehearsed == done
    assert store.check(deep=True).problems == ()
    return done


def test_the_newest_names_of_each_repository_stay(full: Store) -> None:
    report = prune(full, Retention(newest=2))
    assert names(full) == ["app:4", "app:5", "tool:1", "tool:2"]
    assert [name.familiar for name in report.untagged] == ["app:1", "app:2", "app:3"]
    assert set(report.deleted) == {random_image(n).id for n in (1, 2, 3, 8)}
    assert report.bytes_freed == sum(
        sum(map(len, random_image(n).blobs.values())) + len(random_image(n).raw.data)
        for n in (1, 2, 3, 8)
    )


def test_a_name_that_moved_again_is_new_again(full: Store) -> None:
    full.tag(full.find_image("app:1"), [named("app:1")])
    prune(full, Retention(newest=1))
    assert names(full) == ["app:1", "tool:2"]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        (Retention(everything=True), []),
        (Retention(everything=True, only=frozenset([named("app:4")])), OTHERS),
        (Retention(newest=0), []),
        (Retention(newest=0, only=frozenset([named("app:4")])), OTHERS),
        (Retention(newest=9), ["app:1", "app:2", "app:3", "app:4", "app:5", "tool:1", "tool:2"]),
        (Retention(only=frozenset([named("app:4")])), [*OTHERS[:3], "app:4", *OTHERS[3:]]),
        (Retention(max_bytes=0), []),
        (Retention(max_bytes=0, only=frozenset([named("app:4")])), OTHERS),
    ],
    ids=str,
)
def test_rules_take_names_away(full: Store, rule: Retention, left: Sequence[str]) -> None:
    prune(full, rule)
    assert names(full) == left


def test_a_name_that_goes_takes_its_images_although_others_are_to_stay(full: Store) -> None:
    foreign = random_image(12, platform=Platform("linux", "s390x"))
    index = index_of([random_image(11), foreign])
    put_index(full, index, [random_image(11), foreign], "multi")
    rule = Retention(everything=True, only=frozenset([named("multi"), named("app:1")]))
    report = full.prune(retention=rule, only_images=())
    assert set(report.deleted) == {random_image(1).id, random_image(11).id, foreign.id}
    assert random_image(8).id in {image.id for image in full.images()}, "it was not chosen"
    assert full.check(deep=True).problems == ()


def test_the_oldest_go_until_the_rest_fits(full: Store) -> None:
    full.prune()
    two = sum(
        sum(map(len, random_image(n).blobs.values())) + len(random_image(n).raw.data)
        for n in (6, 7)
    )
    prune(full, Retention(max_bytes=two))
    assert names(full) == ["tool:1", "tool:2"]
    assert full.facts().blob_bytes == two
    prune(full, Retention(max_bytes=two - 1))
    assert names(full) == ["tool:2"]


def test_what_others_share_does_not_count_as_freed(store: Store) -> None:
    came(store, 1, random_image(1), "app:1")
    came(store, 2, random_image(1, labels={"a": "b"}), "app:2")  # the same layers
    came(store, 3, random_image(3), "app:3")
    size = store.facts().blob_bytes
    prune(store, Retention(max_bytes=size - 5000))
    assert names(store) == ["app:3"]


def test_what_is_protected_or_used_by_a_container_stays(full: Store) -> None:
    full.protection.add([named("app:1")])
    make_container(full, "app:2")
    prune(full, Retention(everything=True))
    assert names(full) == ["app:1", "app:2"]
    prune(full, Retention(max_bytes=0))
    assert names(full) == ["app:1", "app:2"]


def test_a_rehearsal_counts_missing_files_and_leftovers_as_the_real_thing_does(
    full: Store, root: Path
) -> None:
    layer = random_image(1).layers[0].digest
    (root / "blobs" / "sha256" / layer.hex).unlink()
    rotten = root / "blobs" / "sha256" / random_image(2).layers[0].digest.hex
    rotten.chmod(0o600)
    rotten.write_bytes(b"rot")
    full.check(deep=True)
    full.repairs.set_aside(random_image(2).layers[0].digest)
    full._session.root.private_file(12345).write_bytes(b"of a dead lease")
    fail_to_pull(full, random_image(9))
    with full._session.write() as db:
        db.execute("UPDATE lease SET touched_at = 0")
    report = prune(full, Retention(newest=1))
    assert report.partials_removed == 1
    assert list((root / "quarantine").iterdir()) == []
