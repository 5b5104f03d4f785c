"""Names that are not to be removed, by accident or by a rule, until they are released.

They may still move: what is protected is that the name means something.
"""

from __future__ import annotations

from collections.abc import Iterable

from kstore.reference import Named
from kstore.store.catalog import Writer
from kstore.store.naming import no_such_name
from kstore.store.queries import load_name
from kstore.store.session import Session

__all__ = ["Protection"]


class Protection:
    """The protected names of one store, for the thread that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def names(self) -> list[Named]:
        """All of them, sorted."""
        rows = self._session.db.rows("SELECT name FROM protection ORDER BY name")
        return [Named.parse(row[0]) for row in rows]

    def add(self, names: Iterable[Named]) -> None:
        """Protect names, all or none; ImageNotFoundError for one that is not in use."""
        with self._session.write() as db:
            writer = Writer(db)
            for name in names:
                if load_name(self._session.db, name) is None:
                    raise no_such_name(name)
                writer.execute(
                    "INSERT INTO protection VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
                    [str(name), writer.now],
                )
            writer.bump_generation()  # index.json shows them
        self._session.changed = True

    def release(self, names: Iterable[Named]) -> None:
        """Let names be removed again; one that is not protected stays so."""
        with self._session.write() as db:
            writer = Writer(db)
            for name in names:
                writer.execute("DELETE FROM protection WHERE name = ?", [str(name)])
            writer.bump_generation()
        self._session.changed = True
