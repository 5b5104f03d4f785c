"""Removing images and names.

Removing an image removes its names, its manifests, the indexes its names stood for together with
the members that nothing else names, and the artifacts (signatures, say) that refer to these.  Rows
go first, in one transaction; then only the files that this released are swept, so an unfinished
pull of somebody else is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kstore.digest import SHORT_ID_LENGTH, Digest
from kstore.errors import BlobNotFoundError, ImageNotFoundError, InUseError
from kstore.reference import Named
from kstore.store.catalog import Writer
from kstore.store.containers import containers_of
from kstore.store.naming import choose_member, no_such_name
from kstore.store.queries import load_name
from kstore.store.reports import RemovalReport
from kstore.store.session import Session
from kstore.store.sweep import delete_unused_blobs, sweep

__all__ = ["remove_image", "remove_manifest", "remove_name"]

_LISTED = 8


def remove_name(session: Session, name: Named) -> RemovalReport:
    """See :meth:`kstore.store.Store.remove_name`."""

    def rows(writer: Writer) -> _Removal:
        record = load_name(session.db, name)
        if record is None:
            raise no_such_name(name)
        removal = _Removal(writer, session.command)
        removal.drop_name(str(name))
        image = writer.column(
            "SELECT image_id FROM manifest WHERE digest = ?", [str(record.manifest)]
        )
        if image and image[0] is not None:
            if not _names_of_image(writer, image[0]):
                _require_unused(writer, image[0])
                removal.drop_image(image[0])
        elif record.target == record.manifest or record.manifest is None:
            removal.loosen(str(record.target))
        return removal

    return _remove(session, rows)


def remove_image(
    session: Session, image_id: str, *, force: bool, all_names: bool = False
) -> RemovalReport:
    """See :meth:`kstore.store.Store.remove_image`."""

    def rows(writer: Writer) -> _Removal:
        if not writer.column("SELECT 1 FROM image WHERE id = ?", [image_id]):
            raise ImageNotFoundError(
                f"no image with the ID {image_id!r:.140} in the store", hint="kstore images"
            )
        names = _names_of_image(writer, image_id)
        if len(names) > 1 and not (force or all_names):
            more = ", ..." if len(names) > _LISTED else ""
            raise InUseError(
                f"image {image_id[:SHORT_ID_LENGTH]} has several names:"
                f" {', '.join(names[:_LISTED])}{more}",
                hint="remove it by name, or with --force",
            )
        if not force:
            _require_unused(writer, image_id)
        removal = _Removal(writer, session.command)
        for name in names:
            removal.drop_name(name)
        removal.drop_image(image_id)
        return removal

    return _remove(session, rows)


def remove_manifest(session: Session, digest: Digest) -> RemovalReport:
    """See :meth:`kstore.store.Store.remove_manifest`."""

    def rows(writer: Writer) -> _Removal:
        if not writer.column("SELECT 1 FROM manifest WHERE digest = ?", [str(digest)]):
            raise BlobNotFoundError(f"there is no manifest {digest} in the store")
        if users := containers_of(writer, "manifest = ?", str(digest)):
            raise _in_use(f"manifest {digest}", users)
        removal = _Removal(writer, session.command)
        for name in writer.column("SELECT name FROM name WHERE target = ?", [str(digest)]):
            removal.drop_name(name)
        removal.drop_manifest(str(digest))
        return removal

    return _remove(session, rows)


def _names_of_image(writer: Writer, image_id: str) -> list[str]:
    found: list[str] = writer.column(
        "SELECT n.name FROM name n JOIN manifest m ON m.digest = n.manifest"
        " WHERE m.image_id = ? ORDER BY n.name",
        [image_id],
    )
    return found


def _require_unused(writer: Writer, image_id: str) -> None:
    """InUseError naming the containers that were made from the image."""
    if users := containers_of(writer, "image_id = ?", image_id):
        raise _in_use(f"image {image_id[:SHORT_ID_LENGTH]}", users)


def _in_use(what: str, users: Sequence[str]) -> InUseError:
    noun = "container" if len(users) == 1 else "containers"
    more = ", ..." if len(users) > _LISTED else ""
    return InUseError(
        f"{what} is in use by the {noun} {', '.join(users[:_LISTED])}{more}",
        hint=f"kstore rm {' '.join(users[:_LISTED])}",
    )


def _remove(session: Session, rows: Callable[[Writer], _Removal]) -> RemovalReport:
    """Remove rows in one transaction, then the files they released."""

    def act() -> _Removal:
        with session.write() as db:
            writer = Writer(db)
            removal = rows(writer)
            removal.drop_blobs()
            writer.bump_generation()
        session.changed = True
        return removal

    removal = session.freeing(act)
    swept = sweep(session, removal.released)
    return RemovalReport(
        untagged=tuple(Named.parse(name) for name in removal.names),
        deleted=tuple(removal.images),
        blobs_removed=swept.removed,
        bytes_freed=swept.bytes_freed,
    )


class _Removal:
    """The rows one removal deletes, inside its transaction, and what that released."""

    def __init__(self, writer: Writer, command: str) -> None:
        self.names: list[str] = []
        self.images: list[str] = []
        self.released: set[Digest] = set()
        self._writer = writer
        self._command = command
        self._candidates: set[str] = set()  # blobs that may have lost their last user
        self._loose: list[tuple[str, bool]] = []  # manifests that may have lost their last name

    def drop_name(self, name: str) -> None:
        """Delete a name; the index it stood for is loose now, or the one it was chosen from."""
        for target, manifest, via in self._writer.rows(
            "SELECT target, manifest, via FROM name WHERE name = ?", [name]
        ):
            self._writer.drop_name(name, self._command)
            self.names.append(name)
            if target != manifest:
                self._loose.append((target, True))
            if via is not None:
                # Its members came by other pulls, and may be wanted without a name.
                self._loose.append((via, False))

    def loosen(self, manifest: str) -> None:
        """Let a manifest go, if nothing leads to it any more."""
        self._loose.append((manifest, True))

    def drop_image(self, image_id: str) -> None:
        """Delete an image with all its manifests; its names are gone already."""
        for manifest in self._writer.column(
            "SELECT digest FROM manifest WHERE image_id = ?", [image_id]
        ):
            self.drop_manifest(manifest)

    def drop_manifest(self, digest: str) -> None:
        """Delete a manifest, and its image if this was the last; names lead elsewhere then."""
        writer = self._writer
        names = writer.rows(
            "SELECT name, target, nullif(manifest, :digest), nullif(via, :digest) FROM name"
            " WHERE manifest = :digest OR via = :digest",
            {"digest": digest},
        )
        for name, _, manifest, via in names:
            writer.set_name_manifest(name, manifest, via)
        self._candidates.add(digest)
        self._candidates.update(
            writer.column("SELECT child FROM edge WHERE parent = ? AND role <> 'subject'", [digest])
        )
        images = writer.column("SELECT image_id FROM manifest WHERE digest = ?", [digest])
        writer.delete("manifest", "digest = ?", [digest])
        for name, target, manifest, via in names:
            if manifest is None:
                chosen = choose_member(writer, Digest.parse(target))
                writer.set_name_manifest(name, str(chosen) if chosen else None, via)
        for image_id in filter(None, images):
            self._shrink_image(image_id)
        artifacts = writer.column("SELECT digest FROM manifest WHERE subject = ?", [digest])
        for artifact in artifacts:
            # A tag made of the digest means nothing without it.
            for name in writer.column(
                "SELECT name FROM name WHERE target = ? AND tag LIKE ?",
                [artifact, f"{digest.replace(':', '-')}.%"],
            ):
                self.drop_name(name)
        self._loose += [(artifact, True) for artifact in artifacts]

    def _shrink_image(self, image_id: str) -> None:
        deleted = self._writer.execute(
            "DELETE FROM image WHERE id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM manifest WHERE image_id = ?1)",
            [image_id],
        )
        if deleted:
            self.images.append(image_id)
        else:
            self._writer.measure_image(image_id)

    def drop_loose(self) -> None:
        """Delete the indexes and artifacts that nothing leads to, and what only they led to."""
        while self._loose:
            digest, with_members = self._loose.pop()
            if self._leads_to(digest):
                continue
            if with_members:
                self._loose += [
                    (member, True)
                    for member in self._writer.column(
                        "SELECT child FROM edge WHERE parent = ? AND role = 'member'", [digest]
                    )
                ]
            self.drop_manifest(digest)

    def _leads_to(self, digest: str) -> bool:
        """Whether something needs the manifest: a name, an index, ... (or there is none)."""
        (needed,) = self._writer.column(
            "SELECT NOT EXISTS (SELECT 1 FROM manifest WHERE digest = ?1)"
            " OR EXISTS (SELECT 1 FROM name WHERE target = ?1 OR manifest = ?1 OR via = ?1)"
            " OR EXISTS (SELECT 1 FROM edge WHERE child = ?1 AND role = 'member')"
            " OR EXISTS (SELECT 1 FROM container WHERE manifest = ?1)"
            " OR EXISTS (SELECT 1 FROM manifest a JOIN manifest s ON s.digest = a.subject"
            "            WHERE a.digest = ?1)",
            [digest],
        )
        return bool(needed)

    def drop_blobs(self) -> None:
        """Delete the rows of blobs that lost their last user."""
        self.drop_loose()
        self.released = delete_unused_blobs(self._writer, self._candidates)
