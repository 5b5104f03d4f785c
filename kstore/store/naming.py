"""Names: tagging and untagging; and which image of an index a name leads to."""

from __future__ import annotations

from collections.abc import Sequence

from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, ImageNotFoundError
from kstore.platforms import Platform, best_match, host_platform
from kstore.reference import Named
from kstore.store.catalog import NameRow, Writer
from kstore.store.lookup import elsewhere
from kstore.store.queries import load_name
from kstore.store.records import Found, NameRecord
from kstore.store.session import Session

__all__ = ["choose_member", "no_such_name", "tag", "untag"]


def tag(session: Session, found: Found | Digest, names: Sequence[Named]) -> None:
    """See :meth:`kstore.store.Store.tag`."""
    if isinstance(found, Found) and found.image.location is not None:
        raise elsewhere(found)
    with session.write() as db:
        writer = Writer(db)
        row = _meaning(writer, found)
        for name in names:
            writer.move_name(name.with_default_tag(), row, session.command)
        writer.bump_generation()
    session.changed = True


def _meaning(writer: Writer, found: Found | Digest) -> NameRow:
    """What a new name shall mean: the same as the name that was looked up, or the manifest."""
    if isinstance(found, Found):
        if found.name is not None:
            for target, via in writer.rows(
                "SELECT target, via FROM name WHERE name = ? AND manifest = ?",
                [str(found.name), str(found.manifest)],
            ):
                return NameRow(
                    Digest.parse(target), found.manifest, Digest.parse(via) if via else None
                )
        digest = found.manifest
    else:
        digest = found
    kinds = writer.column("SELECT kind FROM manifest WHERE digest = ?", [str(digest)])
    if not kinds:
        raise BlobNotFoundError(f"there is no manifest {digest} in the store")
    return NameRow(digest, choose_member(writer, digest) if kinds == ["index"] else digest)


def untag(session: Session, name: Named) -> NameRecord:
    """See :meth:`kstore.store.Store.untag`."""

    def act() -> NameRecord:
        with session.write() as db:
            record = load_name(session.db, name)
            if record is None:
                raise no_such_name(name)
            writer = Writer(db)
            writer.drop_name(str(name), session.command)
            writer.bump_generation()
        session.changed = True
        return record

    return session.freeing(act)


def no_such_name(name: Named) -> ImageNotFoundError:
    return ImageNotFoundError(
        f"no image is called {name.familiar} in the store", hint="kstore images"
    )


def choose_member(writer: Writer, index: Digest) -> Digest | None:
    """The image manifest an index leads to on this machine.

    The best present member for the host; failing that the first present one for any known
    platform, so that an index of foreign images can still be looked at and removed.
    """
    members = writer.rows(
        "SELECT m.digest, i.os, i.architecture, i.variant FROM edge e"
        " JOIN manifest m ON m.digest = e.child JOIN image i ON i.id = m.image_id"
        " WHERE e.parent = ? AND e.role = 'member' ORDER BY e.ordinal",
        [str(index)],
    )
    known = [row for row in members if row[1] not in ("", "unknown")]
    platforms = [Platform(os, architecture, variant) for _, os, architecture, variant in known]
    best = best_match(known, platforms, host_platform()) or next(iter(known), None)
    return Digest.parse(best[0]) if best else None
