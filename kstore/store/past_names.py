"""Names that images have, and those they had before they were moved or removed."""

from __future__ import annotations

from collections.abc import Mapping

from kstore.store.session import Session

__all__ = ["past_names"]

# A name that is there may have no entry in the log, after a repair: it counts as an old one.
_OF_ONE = """
WITH own (digest) AS (SELECT digest FROM manifest WHERE image_id = ?),
  meant (digest) AS (SELECT digest FROM own
    UNION SELECT e.parent FROM own JOIN edge e ON e.child = own.digest AND e.role = 'member')
SELECT name FROM (SELECT name, id AS at FROM name_log WHERE new IN meant
  UNION ALL SELECT name, 0 FROM name WHERE manifest IN own)
GROUP BY name ORDER BY max(at) DESC, name
"""
_OF_ALL = """
WITH given (name, target, at) AS
    (SELECT name, new, id FROM name_log UNION ALL SELECT name, manifest, 0 FROM name),
  meant (name, digest, at) AS (SELECT * FROM given UNION ALL SELECT g.name, e.child, g.at
    FROM given g JOIN edge e ON e.parent = g.target AND e.role = 'member')
SELECT m.image_id, meant.name FROM meant JOIN manifest m USING (digest)
WHERE m.image_id IS NOT NULL
GROUP BY m.image_id, meant.name ORDER BY max(meant.at) DESC, meant.name
"""


def past_names(session: Session, image_id: str | None) -> Mapping[str, tuple[str, ...]]:
    """See :meth:`kstore.store.Store.past_names`."""
    if image_id is not None:
        names = session.db.rows(_OF_ONE, [image_id])
        return {image_id: tuple(name for (name,) in names)} if names else {}
    found: dict[str, list[str]] = {}
    for owner, name in session.db.rows(_OF_ALL):
        found.setdefault(owner, []).append(name)
    return {owner: tuple(names) for owner, names in found.items()}
