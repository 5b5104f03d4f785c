"""Rules for which names go: too many in their repository, too old, or too much in all.

What is protected, and what containers were made from, stays whatever the rule.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter

from kstore.reference import Named
from kstore.store.queries import load_names
from kstore.store.records import NameRecord
from kstore.store.session import Session
from kstore.store.usage import Graph, attached_names, other_roots
from kstore.values import dataclass

__all__ = ["Retention", "chosen_names"]


@dataclass(frozen=True, slots=True)
class Retention:
    """Which names a prune takes away.

    ``everything``: every one.  ``newest``: in each repository all but so many, the last ones that
    were given or moved.  ``max_bytes``: after that, the oldest until the blobs of the others fit.
    ``only``: of these alone (None: of all).
    """

    everything: bool = False
    newest: int | None = None
    max_bytes: int | None = None
    only: frozenset[Named] | None = None


def chosen_names(session: Session, rule: Retention) -> list[NameRecord]:
    """The names that go by this rule, as things are now; oldest first."""
    attached = attached_names(session)
    names = [record for record in load_names(session.db) if str(record.name) not in attached]
    names.sort(key=_age)
    free = [record for record in names if _may_go(session, record, rule)]
    going: list[NameRecord] = []
    if rule.everything:
        going = free
    elif rule.newest is not None:
        spared = _newest(names, rule.newest)
        going = [record for record in free if record.name not in spared]
    if rule.max_bytes is not None:
        going = [*going, *_until_it_fits(session, names, free, going, rule)]
    return going


def _age(record: NameRecord) -> tuple[dt.datetime, str]:
    return record.updated_at, str(record.name)


def _may_go(session: Session, record: NameRecord, rule: Retention) -> bool:
    if rule.only is not None and record.name not in rule.only:
        return False
    held = session.db.row(
        "SELECT 1 FROM protection WHERE name = ?1"
        " UNION ALL SELECT 1 FROM container WHERE manifest = ?2",
        [str(record.name), str(record.manifest)],
    )
    return held is None


def _newest(names: list[NameRecord], count: int) -> set[object]:
    seen: Counter[str] = Counter()
    spared: set[object] = set()
    for record in reversed(names):
        seen[record.name.repository] += 1
        if seen[record.name.repository] <= count:
            spared.add(record.name)
    return spared


def _until_it_fits(
    session: Session,
    names: list[NameRecord],
    free: list[NameRecord],
    going: list[NameRecord],
    rule: Retention,
) -> list[NameRecord]:
    assert rule.max_bytes is not None, "asked only then"
    graph = Graph(session)
    gone = {record.name for record in going}
    needs = {
        record.name: graph.reach(
            [str(digest) for digest in (record.target, record.manifest) if digest],
            [str(record.via)] if record.via else [],
        )
        for record in names
        if record.name not in gone
    }
    users = Counter(digest for need in needs.values() for digest in need)
    users.update(graph.reach(other_roots(session)))
    size = graph.bytes_of(users)
    more: list[NameRecord] = []
    for record in free:
        if size <= rule.max_bytes:
            break
        if record.name in needs:
            more.append(record)
            need = needs[record.name]
            users.subtract(need)
            size -= graph.bytes_of(digest for digest in need if not users[digest])
    if size > rule.max_bytes:
        session.warn(
            f"the images that must stay have {size} bytes, more than the {rule.max_bytes} wanted"
        )
    return more
