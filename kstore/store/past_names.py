"""Names that images have, and those they had before they were moved or removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kstore.reference import Named
from kstore.store.session import Session

__all__ = ["past_names"]


def past_names(session: Session, image_id: str | None) -> Mapping[str, tuple[Named, ...]]:
    """See :meth:`kstore.store.Store.past_names`."""
    # A name that is there may have no entry in the log, after a repair: it counts as an old one.
    rows: list[Any] = session.db.rows(
        "WITH given (name, target, at) AS"
        "   (SELECT name, new, id FROM name_log UNION ALL SELECT name, manifest, 0 FROM name),"
        " meant (name, digest, at) AS (SELECT * FROM given UNION ALL"
        "   SELECT g.name, e.child, g.at FROM given g JOIN edge e"
        "   ON e.parent = g.target AND e.role = 'member')"
        " SELECT m.image_id, meant.name FROM meant JOIN manifest m USING (digest)"
        " WHERE m.image_id IS NOT NULL AND (:id IS NULL OR m.image_id = :id)"
        " GROUP BY m.image_id, meant.name ORDER BY max(meant.at) DESC, meant.name",
        {"id": image_id},
    )
    found: dict[str, list[Named]] = {}
    for owner, name in rows:
        found.setdefault(owner, []).append(Named.parse(name))
    return {owner: tuple(names) for owner, names in found.items()}
