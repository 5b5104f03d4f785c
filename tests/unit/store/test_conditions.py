"""The catalog finds the images that are meant without looking at the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kstore.operations.images import list_images
from kstore.store import Store, conditions
from kstore.store.database import Database
from tests.support.catalogs import CatalogImage, fill_catalog

MANY = 2000
FEW = 200
#: What may be gone through from end to end: the given IDs, and the blobs that are in trouble.
SHORT_SCANS = ("json_each", "blob_trouble")


def catalog_image(number: int) -> CatalogImage:
    labels = (("serial", str(number)), ("parity", str(number % 2)))
    rare = (("rare", "yes"),) if number in (5, 6) else ()
    platform = ("linux", "s390x") if number == 7 else ("linux", "amd64")
    names = () if number == 8 else (f"registry.example.com/team{number % 7}/app{number}:v1",)
    return CatalogImage(number, names, (*labels, *rare), platform)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Store]]:
    root = tmp_path_factory.mktemp("conditions")
    with Store.open(root / "few") as few, Store.open(root / "many") as many:
        fill_catalog(few, map(catalog_image, range(FEW)))
        fill_catalog(many, map(catalog_image, range(MANY)))
        yield {FEW: few, MANY: many}


@pytest.fixture
def many(stores: dict[int, Store]) -> Store:
    return stores[MANY]


def plan_of(store: Store, ask: Callable[[], Any]) -> list[str]:
    """The steps SQLite takes to answer what ``ask`` asks."""
    asked: list[str] = []
    connection = store._session.db.connection
    connection.set_trace_callback(asked.append)
    try:
        ask()
    finally:
        connection.set_trace_callback(None)
    queries = [sql for sql in asked if sql.startswith("SELECT")]
    assert queries
    return [row[3] for sql in queries for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]


def long_scans(plan: list[str]) -> list[str]:
    return [
        step
        for step in plan
        if step.startswith("SCAN") and not any(name in step for name in SHORT_SCANS)
    ]


IMAGE = catalog_image(5)
QUESTIONS: dict[str, Callable[[Store], Any]] = {
    "name": lambda store: store.find_image(IMAGE.names[0]),
    "name and digest": lambda s: s.find_image(f"{IMAGE.names[0]}@{IMAGE.manifest.digest}"),
    "ID": lambda store: store.find_image(IMAGE.id),
    "prefix of an ID": lambda store: store.find_image(IMAGE.id[:12]),
    "manifest": lambda store: store.find_image(f"@{IMAGE.manifest.digest}"),
    "label": lambda store: list_images(store, None, ["label=rare"]),
    "label with value": lambda store: list_images(store, None, ["label=serial=5"]),
    "id filter": lambda store: list_images(store, None, [f"id={IMAGE.id[:8]}"]),
    "digest filter": lambda s: list_images(s, None, [f"digest={IMAGE.manifest.digest}"]),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_for_few_images_is_answered_by_an_index(many: Store, question: str) -> None:
    plan = plan_of(many, lambda: QUESTIONS[question](many))
    assert any(step.startswith("SEARCH") for step in plan)
    assert long_scans(plan) == []


def test_a_listing_of_everything_is_seen_to_scan(many: Store) -> None:
    """Else the tests above could not fail."""
    assert long_scans(plan_of(many, many.images))


@pytest.mark.parametrize(
    ("argument", "filters", "matches"),
    [
        (None, ["label=rare=yes"], 2),
        (None, ["label=rare", "label=serial=6"], 1),
        (None, ["dangling=true"], 1),
        (None, ["reference=app5"], 1),
        (None, ["reference=team5/app1?:*"], 2),
        ("registry.example.com/team5/app5", [], 1),
        (None, ["before=registry.example.com/team3/app3:v1"], 3),
        (None, ["until=2020-01-01T00:03:00Z"], 3),
        (None, [f"id={IMAGE.id[:12]}"], 1),
        (None, [f"digest={IMAGE.manifest.digest}"], 1),
        (None, ["platform=linux/s390x"], 1),
        (None, ["label!=parity=0", "label!=parity=1"], 0),
        ("no/such/name", [], 0),
    ],
)
def test_a_filtered_listing_reads_the_rows_of_what_it_shows_only(
    many: Store,
    monkeypatch: pytest.MonkeyPatch,
    argument: str | None,
    filters: list[str],
    matches: int,
) -> None:
    read: list[Any] = []
    real = Database.rows

    def rows(self: Database, sql: str, parameters: Any = ()) -> list[Any]:
        found = real(self, sql, parameters)
        read.extend(found)
        return found

    monkeypatch.setattr(Database, "rows", rows)
    assert len(list_images(many, argument, filters)) == matches
    # An ID, an image, a manifest, a name, at most three labels; and the image of "before".
    assert len(read) <= 7 * (matches + 1)


def test_a_label_costs_the_same_among_many_images_as_among_few(stores: dict[int, Store]) -> None:
    def steps(store: Store) -> int:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        connection = store._session.db.connection
        connection.set_progress_handler(tick, 1)
        try:
            assert len(store.images([conditions.labelled("rare", "yes")])) == 2
        finally:
            connection.set_progress_handler(None, 0)
        return count

    assert 0 < steps(stores[MANY]) <= 1.1 * steps(stores[FEW])


def test_a_condition_and_its_contrary_part_the_images(many: Store) -> None:
    everything = {image.id for image in many.images()}
    for condition in (
        conditions.labelled("rare"),
        conditions.labelled("parity", "1"),
        conditions.named(),
        conditions.id_begins(IMAGE.id[:1]),
        conditions.digest_begins("sha256:0"),
    ):
        these = {image.id for image in many.images([condition])}
        others = {image.id for image in many.images([~condition])}
        assert these
        assert others
        assert these | others == everything
        assert not these & others


def test_conditions_must_all_hold_and_any_of_them_can_do(many: Store) -> None:
    rare, fifth = conditions.labelled("rare"), conditions.labelled("serial", "5")
    other = conditions.labelled("serial", "9")
    assert len(many.images([rare, fifth])) == 1
    assert many.images([rare, other]) == []
    assert len(many.images([conditions.any_of([rare, other])])) == 3
    assert len(many.images([conditions.ANY])) == MANY
