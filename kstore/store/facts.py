"""What is known about layers because their bytes were read, or made, by this store's owner.

A claim of a manifest or config is never recorded: somebody else's word must not decide which bytes
take the place of others.  Facts outlive the blobs they are about; only the newest are kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kstore.digest import Digest
from kstore.store.session import Session, now_us
from kstore.values import dataclass

__all__ = ["FactTable", "LayerFact"]

#: Most facts kept.
MAX_FACTS = 50_000
#: Most blobs offered in place of one layer.
MAX_CANDIDATES = 4

_COLUMNS = "digest, size, diff_id, compression, level"
_RECORD = f"""
INSERT INTO layer_fact ({_COLUMNS}, recorded_at) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET level = coalesce(excluded.level, level),
  recorded_at = excluded.recorded_at
"""  # noqa: S608 - constants
_FORGET = """
DELETE FROM layer_fact WHERE digest IN (
  SELECT digest FROM layer_fact ORDER BY recorded_at DESC LIMIT -1 OFFSET ?)
"""


@dataclass(frozen=True, slots=True)
class LayerFact:
    """A layer whose every byte was read or made here: what it unpacks to, how it is compressed.

    ``level`` is the level it was compressed with, None if none was asked for or it is not ours.
    """

    digest: Digest
    size: int
    diff_id: Digest
    compression: str
    level: int | None = None


class FactTable:
    """The facts of one store, for the thread that opened it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def about(self, digest: Digest) -> LayerFact | None:
        """What is known about a blob."""
        row = self._session.db.row(
            f"SELECT {_COLUMNS} FROM layer_fact WHERE digest = ?",  # noqa: S608
            [str(digest)],
        )
        return None if row is None else _fact(row)

    def packed(
        self, diff_id: Digest, compression: str, level: int | None = None
    ) -> tuple[LayerFact, ...]:
        """Blobs of this compression that unpack to ``diff_id``, the newest first, at most four.

        With a ``level``, only those that were made here with it.
        """
        rows = self._session.db.rows(
            f"SELECT {_COLUMNS} FROM layer_fact WHERE diff_id = ? AND compression = ?"  # noqa: S608
            " AND (? IS NULL OR level = ?) ORDER BY recorded_at DESC, digest LIMIT ?",
            [str(diff_id), compression, level, level, MAX_CANDIDATES],
        )
        return tuple(map(_fact, rows))

    def record(self, facts: Iterable[LayerFact]) -> None:
        """Remember facts, all of which come from bytes that were read or made here.

        A store that can only be read remembers nothing.
        """
        rows = [
            [str(f.digest), f.size, str(f.diff_id), f.compression, f.level, now_us()] for f in facts
        ]
        if not rows or self._session.read_only:
            return
        with self._session.write() as db:
            db.executemany(_RECORD, rows)
            db.execute(_FORGET, [MAX_FACTS])


def _fact(row: Any) -> LayerFact:
    digest, size, diff_id, compression, level = row
    return LayerFact(Digest.parse(digest), size, Digest.parse(diff_id), compression, level)
