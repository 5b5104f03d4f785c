"""Which images are meant: conditions that the catalog decides by itself, so that only the images
that meet them are loaded.

::

    store.images([conditions.labelled("vendor", "acme"), ~conditions.named()])

Those about names are approximate where they say so: they may let too much through, never too
little.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from kstore.digest import Digest
from kstore.platforms import Platform
from kstore.store.queries import to_us
from kstore.values import dataclass

__all__ = [
    "ANY",
    "Condition",
    "any_of",
    "begun_with",
    "created_after",
    "created_before",
    "digest_begins",
    "id_begins",
    "intermediate",
    "labelled",
    "name_like",
    "named",
    "on_platform",
]

#: A row for each manifest ``o`` that begins with all layers of manifest ``p``, and has more.
_BUILT_UPON = """
SELECT 1 FROM manifest p
  JOIN edge last ON last.parent = p.digest AND last.role = 'layer' AND last.ordinal =
    (SELECT max(ordinal) FROM edge WHERE parent = p.digest AND role = 'layer')
  JOIN edge same ON same.child = last.child AND same.role = 'layer' AND same.ordinal = last.ordinal
  JOIN manifest o ON o.digest = same.parent AND o.image_id <> p.image_id
WHERE p.image_id = i.id
  AND EXISTS (SELECT 1 FROM edge WHERE parent = o.digest AND role = 'layer'
    AND ordinal = last.ordinal + 1)
  AND NOT EXISTS (SELECT 1 FROM edge mine WHERE mine.parent = p.digest AND mine.role = 'layer'
    AND NOT EXISTS (SELECT 1 FROM edge WHERE parent = o.digest AND role = 'layer'
      AND ordinal = mine.ordinal AND child = mine.child))
"""
_AFTER_HEX = "g"  # sorts behind every hex digit
_NAMES = "SELECT m.image_id FROM name n JOIN manifest m ON m.digest = n.manifest"
#: The last component of a repository: what is behind all that ends in a slash.
_LAST = "substr(repository, 1 + length(rtrim(repository, replace(repository, '/', ''))))"


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL expression about a row ``i`` of ``image``, never NULL, and the values it binds.

    ``~condition`` is its contrary, wrong for approximate ones.
    """

    sql: str
    values: tuple[str | int, ...] = ()

    def __invert__(self) -> Condition:
        return Condition(f"NOT ({self.sql})", self.values)


#: Every image.
ANY = Condition("1")


def any_of(conditions: Iterable[Condition]) -> Condition:
    """At least one of these."""
    parts = list(conditions)
    return Condition(
        " OR ".join(f"({part.sql})" for part in parts),
        tuple(value for part in parts for value in part.values),
    )


def labelled(key: str, value: str | None = None) -> Condition:
    """The config has this label; with this very value, if one is given."""
    if value is None:
        return Condition("i.id IN (SELECT image_id FROM label WHERE key = ?)", (key,))
    return Condition(
        "i.id IN (SELECT image_id FROM label WHERE key = ? AND value = ?)", (key, value)
    )


def named() -> Condition:
    """Some name leads to the image."""
    return Condition(
        "EXISTS (SELECT 1 FROM manifest m JOIN name n ON n.manifest = m.digest"
        " WHERE m.image_id = i.id)"
    )


def intermediate() -> Condition:
    """No name leads to the image, and another image has its layers with more on top of them."""
    return Condition(f"{(~named()).sql} AND EXISTS ({_BUILT_UPON})")


def begun_with() -> Condition:
    """A working container was made from the image."""
    return Condition("i.id IN (SELECT image_id FROM container WHERE image_id IS NOT NULL)")


def created_before(moment: dt.datetime) -> Condition:
    """The config's date is known, and strictly earlier."""
    return Condition("i.created IS NOT NULL AND i.created < ?", (to_us(moment),))


def created_after(moment: dt.datetime) -> Condition:
    """The config's date is known, and strictly later."""
    return Condition("i.created IS NOT NULL AND i.created > ?", (to_us(moment),))


def id_begins(digits: str) -> Condition:
    """The image ID begins with these (lower-case hex) digits."""
    return Condition("i.id >= ? AND i.id < ?", (digits, digits + _AFTER_HEX))


def digest_begins(start: str) -> Condition:
    """The digest of a manifest of the image, or of an index that a name of it stands for or came
    from, begins with ``algorithm:digits``."""
    bounds = (start, start + _AFTER_HEX)
    return Condition(
        "i.id IN (SELECT image_id FROM manifest"  # noqa: S608
        "   WHERE digest >= ? AND digest < ? AND image_id IS NOT NULL"
        f" UNION ALL {_NAMES} WHERE n.target >= ? AND n.target < ? AND m.image_id IS NOT NULL"
        f" UNION ALL {_NAMES} WHERE n.via >= ? AND n.via < ? AND m.image_id IS NOT NULL)",
        bounds * 3,
    )


def on_platform(platform: Platform) -> Condition:
    """Made for this OS and architecture, and for this variant if there is one.

    The only variant of arm64, v8, need not be spelled out in the image.
    """
    sql, values = "i.os = ? AND i.architecture = ?", (platform.os, platform.architecture)
    if platform.variant is None:
        return Condition(sql, values)
    unstated = "v8" if platform.architecture == "arm64" else ""
    return Condition(f"{sql} AND coalesce(i.variant, ?) = ?", (*values, unstated, platform.variant))


def name_like(path: str, tag: str | None = None, digest: Digest | None = None) -> Condition:
    """Some name ends, in whole components, with what the shell glob ``path`` means, and has such a
    tag and such a digest.

    Approximate: ``[...]`` stands for any text, and ``*`` before the last component for several
    components, too.
    """
    components = [_wider(component) for component in path.split("/")]
    repository, values = ["'/' || repository GLOB ?"], ["*/" + "/".join(components)]
    if "*" in components[-1] or "?" in components[-1]:
        repository.append(f"{_LAST} GLOB ?")
        values.append(components[-1])
    # The repositories alone are an index far smaller than the rows of the names.
    names = [f"n.name IN (SELECT name FROM name WHERE {' AND '.join(repository)})"]  # noqa: S608
    if tag is not None:
        names.append("coalesce(n.tag, '') GLOB ?")
        values.append(_wider(tag))
    if digest is not None:
        names.append("? IN (n.digest_ref, n.target, n.manifest, n.via)")
        values.append(str(digest))
    return Condition(
        f"i.id IN ({_NAMES} WHERE {' AND '.join(names)} AND m.image_id IS NOT NULL)",
        tuple(values),
    )


def _wider(glob: str) -> str:
    """A glob of SQLite that means at least what the shell's does: their ``[...]`` differ."""
    start, bracket, _ = glob.partition("[")
    return start + ("*" if bracket else "")
