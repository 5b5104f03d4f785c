"""What somebody who wrote a name that is not there may have meant."""

from __future__ import annotations

from kstore.reference import LOCAL_DOMAIN
from kstore.store.session import Session

__all__ = ["nearest"]

#: Names looked at, newest first; a store with more of them is not searched by guessing.
_MOST = 5000
_LONGEST = 300
_SHOWN = 3
_LIKENESS = 0.75


def nearest(session: Session, text: str) -> str | None:
    """Up to three names of the store that are much like ``text``, as text; None without any.

    The same last component in another repository counts as near, whatever is before it.
    """
    from difflib import get_close_matches  # only failures pay for it

    if not 0 < len(text) <= _LONGEST:
        return None
    rows = session.db.rows(
        "SELECT name FROM name WHERE digest_ref IS NULL ORDER BY updated_at DESC, name LIMIT ?",
        [_MOST],
    )
    spelled: dict[str, str] = {}
    for (name,) in rows:
        for spelling in _spellings(name):
            spelled.setdefault(spelling, name)
    wanted = text.lower()
    exact = [name for (name,) in rows if name.endswith((f"/{wanted}", f"/{wanted}:latest"))]
    close = get_close_matches(wanted, spelled, n=_SHOWN, cutoff=_LIKENESS)
    found = list(dict.fromkeys([*exact, *(spelled[spelling] for spelling in close)]))[:_SHOWN]
    return " or ".join(found) or None


def _spellings(name: str) -> tuple[str, ...]:
    """The ways people write a full name: without what goes without saying, and with less."""
    short = name.removeprefix("docker.io/").removeprefix("library/")
    short = short.removeprefix(f"{LOCAL_DOMAIN}/")
    _, _, path = name.partition("/")
    whole = (name, short, path)
    return (*whole, *(text.rpartition(":")[0] for text in whole))
