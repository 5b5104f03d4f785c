"""The face of the store; what it promises stands here, how it is done in the other modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kstore.digest import Digest
from kstore.errors import StorageError
from kstore.reference import Named
from kstore.store import lookup, queries
from kstore.store.session import Session, open_session

# What only some commands need is imported where it is called: starting fast is a feature.
if TYPE_CHECKING:
    from kstore.descriptor import Descriptor
    from kstore.manifest import RawManifest
    from kstore.store.conditions import Condition
    from kstore.store.containers import ContainerTable
    from kstore.store.facts import FactTable
    from kstore.store.leases import Lease
    from kstore.store.records import Found, ImageRecord, ManifestRecord, NameChange, NameRecord
    from kstore.store.reports import (
        CheckReport,
        PartialDownload,
        PruneReport,
        RemovalReport,
        StoreFacts,
    )
    from kstore.streams import Cancel

__all__ = ["Store"]

_DAY = 86400.0


class Store:
    """An open store, for the thread that opened it; a context manager."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @classmethod
    def open(
        cls,
        root: Path,
        *,
        command: str = "",
        create: bool = True,
        read_only: bool = False,
        warn: Callable[[str], None] | None = None,
        wait_seconds: float = 30.0,
        meanings: Callable[[str], Iterable[Named]] | None = None,
    ) -> Store:
        """Open the store at ``root``, making it first if ``create``.

        ``command`` is what the name log will say.  With ``read_only``, or when ``root`` cannot be
        written to, nothing can be changed.  ``warn`` is told one sentence of what is odd but no
        reason to stop; ``wait_seconds`` bounds every wait for another process.  ``meanings`` gives
        the full names a short name may mean, and is asked when it is no name here.

        Raises StorageError (foreign owner, network file system, no store, a lock that stays busy),
        ConflictError (something else is there), StoreVersionError, StoreDamagedError.
        """
        session = open_session(
            root,
            command=command,
            create=create,
            read_only=read_only,
            warn=warn,
            wait_seconds=wait_seconds,
        )
        if meanings is not None:
            session.meanings = meanings
        return cls(session)

    @property
    def root(self) -> Path:
        """The absolute path of the store."""
        return self._session.root.path

    @property
    def read_only(self) -> bool:
        """Whether this store can only be read."""
        return self._session.read_only

    def close(self) -> None:
        """Bring index.json up to date if names changed, and close the database.

        The changes are committed already, so a failure to show them there is only a warning.
        """
        session = self._session
        try:
            if session.changed:
                session.changed = False
                from kstore.store import layout

                layout.refresh_index(session, force=False)
        except StorageError as exc:
            session.warn(f"index.json will be behind until the next change: {exc}")
        finally:
            session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ---- reading

    def images(self, conditions: Sequence[Condition] = ()) -> list[ImageRecord]:
        """The images that meet all ``conditions`` (see :mod:`kstore.store.conditions`).

        Newest ``created`` first (unknown last), then newest in the store.
        """
        return queries.select_images(self._session, conditions)

    def image(self, image_id: str) -> ImageRecord:
        """The image with exactly this ID; ImageNotFoundError."""
        return lookup.get_image(self._session, image_id)

    def find_image(self, text: str) -> Found:
        """The image a user means by ``text``.

        In this order: ``sha256:ID`` or ``@ID``; a name (a short name means ``localhost/NAME`` if
        there is one, else its docker.io form; without a tag, ``latest``), also ``NAME@DIGEST`` and
        ``NAME@ID``, where both must agree; a unique prefix (3 or more hex digits) of an ID.

        Raises ImageNotFoundError, AmbiguousNameError, InvalidReferenceError.
        """
        return lookup.find_image(self._session, text)

    def name(self, named: Named) -> NameRecord | None:
        """What exactly this name means, None if it is not in use."""
        return queries.load_name(self._session.db, named)

    def names(self, repository: str | None = None) -> list[NameRecord]:
        """All names, or those of one repository (``domain/path``), sorted."""
        return queries.load_names(self._session.db, repository)

    def repositories(self) -> list[str]:
        """Every repository (``domain/path``) that has a name, sorted."""
        rows = self._session.db.rows("SELECT DISTINCT repository FROM name ORDER BY repository")
        return [row[0] for row in rows]

    def manifest(self, digest: Digest) -> ManifestRecord | None:
        """What is known about a stored manifest or index."""
        return queries.load_manifest(self._session.db, digest)

    def read_manifest(self, digest: Digest) -> RawManifest:
        """A stored manifest's bytes, verified.

        Raises BlobNotFoundError if there is none, StoreDamagedError if its bytes are wrong.
        """
        from kstore.store import reading

        return reading.read_manifest(self._session, digest)

    def signatures(self, manifest: Digest) -> list[bytes]:
        """The signatures of a stored manifest, in the order in which they came."""
        from kstore.store import signatures

        return signatures.read_signatures(self._session, manifest)

    def add_signatures(self, manifest: Digest, signatures: Sequence[bytes]) -> None:
        """Keep further signatures of a stored manifest.

        Raises BlobNotFoundError if the manifest is not in the store, IntegrityError for too many.
        """
        from kstore.store import signatures as keeping

        keeping.add_signatures(self._session, manifest, signatures)

    def read_blob(self, digest: Digest, *, cap: int) -> bytes:
        """A whole small blob (a config), verified.

        Raises BlobNotFoundError; StoreDamagedError if it has more than ``cap`` bytes or wrong ones.
        """
        from kstore.store import reading

        return reading.read_blob(self._session, digest, cap=cap)

    def blob(self, digest: Digest) -> int | None:
        """The size in bytes of a blob that the store has, else None."""
        row = self._session.db.row(
            "SELECT size FROM blob WHERE digest = ? AND state = 'present'", [str(digest)]
        )
        return row[0] if row else None

    def open_blob(self, digest: Digest) -> FileIO:
        """A blob's file, for reading; its bytes are not verified.

        Raises BlobNotFoundError, StoreDamagedError.
        """
        return self._session.blobs.open(digest)

    def layer_users(self, layers: Iterable[Digest]) -> dict[Digest, tuple[ImageRecord, ...]]:
        """The images that have each of these layers, in the order of :meth:`images`."""
        from kstore.store import sharing

        return sharing.layer_users(self._session, layers)

    def shared_sizes(self) -> Mapping[str, int]:
        """Image ID -> bytes of its layers that others have, too; only images with such."""
        from kstore.store import sharing

        return sharing.shared_sizes(self._session)

    def past_names(self, image_id: str | None = None) -> Mapping[str, tuple[str, ...]]:
        """Image ID -> full names it has had, the last first (one of an index is its members')."""
        from kstore.store.past_names import past_names

        return past_names(self._session, image_id)

    def blob_in_repository(self, digest: Digest, repository: str) -> bool:
        """Whether a name of ``repository`` leads to the blob, or it was uploaded there."""
        return queries.blob_in_repository(self._session.db, digest, repository)

    def origins(self, digest: Digest) -> list[tuple[str, str]]:
        """(registry, repository) pairs the blob came from, newest first."""
        return queries.origins(self._session.db, digest)

    @property
    def layer_facts(self) -> FactTable:
        """What is known about layers: which compressed one unpacks to what."""
        from kstore.store.facts import FactTable

        return FactTable(self._session)

    @property
    def containers(self) -> ContainerTable:
        """The working containers."""
        from kstore.store.containers import ContainerTable

        return ContainerTable(self._session)

    def referrers(self, subject: Digest) -> list[Descriptor]:
        """The stored manifests that name this digest as their ``subject``."""
        return queries.referrers(self._session.db, subject)

    def attachments(self, subject: Digest) -> list[tuple[str, Descriptor]]:
        """What is attached to a manifest by a tag made of its digest, in any repository: the tag,
        and the manifest."""
        return queries.attachments(self._session.db, subject)

    def name_log(self, named: Named | None = None, limit: int | None = None) -> list[NameChange]:
        """How names moved, newest first; of one name, or of a repository (no tag), or of all."""
        return queries.name_log(self._session.db, named, limit)

    def facts(self) -> StoreFacts:
        """Numbers about the store."""
        from kstore.store import partials

        return queries.facts(self._session, partials.partial_downloads(self._session))

    def partial_downloads(self) -> list[PartialDownload]:
        """Downloads that were begun and not finished, running ones included."""
        from kstore.store import partials

        return partials.partial_downloads(self._session)

    # ---- writing

    def lease(self, purpose: str) -> Lease:
        """Begin an operation whose blobs must not be collected; a context manager.

        In a store that can only be read, a lease holds nothing and needs to hold nothing.
        """
        from kstore.store.leases import new_lease

        return new_lease(self._session, purpose)

    def join_lease(self, lease_id: int) -> Lease:
        """Work under a lease that another connection owns; leaving does not end it."""
        from kstore.store.leases import Lease

        return Lease(self._session, lease_id, "joined", None)

    def tag(self, found: Found | Digest, names: Sequence[Named]) -> None:
        """Let ``names`` mean this image; names in use elsewhere move.

        Given a lookup by name, they mean exactly what that name means (an index stays an index).
        Raises BlobNotFoundError if the manifest is not in the store.
        """
        from kstore.store import naming

        naming.tag(self._session, found, names)

    def untag(self, name: Named) -> NameRecord:
        """Remove a name; the image stays.  ImageNotFoundError if there is no such name."""
        from kstore.store import naming

        return naming.untag(self._session, name)

    def remove_image(
        self, image_id: str, *, force: bool = False, all_names: bool = False
    ) -> RemovalReport:
        """Remove an image with its names and manifests, and the files only it needed.

        Raises ImageNotFoundError; InUseError if it has several names, unless ``all_names``, or if
        containers were made from it; ``force`` overrules both.
        """
        from kstore.store import removal

        return removal.remove_image(self._session, image_id, force=force, all_names=all_names)

    def remove_name(self, name: Named) -> RemovalReport:
        """Remove a name, and the image too if that was its last one.

        Raises ImageNotFoundError; InUseError if containers were made from such an image.
        """
        from kstore.store import removal

        return removal.remove_name(self._session, name)

    def remove_manifest(self, digest: Digest) -> RemovalReport:
        """Remove a manifest and the names that stand for it.

        Raises BlobNotFoundError; InUseError if containers were made from it.
        """
        from kstore.store import removal

        return removal.remove_manifest(self._session, digest)

    def drop_partial(self, digest: Digest) -> int:
        """Forget a partial download; the bytes that frees.

        Raises BlobNotFoundError if there is none, InUseError while somebody is writing it.
        """
        from kstore.store import partials

        return partials.drop_partial(self._session, digest)

    def prune(
        self,
        *,
        all_unused_partials: bool = False,
        dry_run: bool = False,
        only_images: Collection[str] | None = None,
        lease_grace: float = _DAY,
        partial_grace: float = 7 * _DAY,
    ) -> PruneReport:
        """Collect garbage: what no name, no lease and no working container needs.

        ``only_images``: of the images without a name, only those with these IDs go; None means
        all.  Of the log of names, the newest 100 changes of each name stay, and those of names
        that are gone for 90 days.

        ``lease_grace`` is how long, in seconds, blobs of a failed operation are kept for its next
        attempt, ``partial_grace`` the same for partial downloads; ``all_unused_partials`` removes
        all that nobody is writing.  Named images are never removed.  Raises StoreDamagedError,
        with nothing deleted, if the database cannot be trusted.
        """
        from kstore.store import gc

        report = gc.prune(
            self._session,
            all_unused_partials=all_unused_partials,
            dry_run=dry_run,
            only_images=only_images,
            lease_grace=lease_grace,
            partial_grace=partial_grace,
        )
        if not dry_run and not report.already_running:
            self.refresh_index()
        return report

    def check(
        self,
        *,
        deep: bool = False,
        progress: Callable[[int], None] | None = None,
        cancel: Cancel | None = None,
    ) -> CheckReport:
        """Compare records, files and index.json; ``deep`` also reads and hashes every byte.

        ``progress`` is told the size of every chunk read.  What is found wrong is recorded (unless
        the store is read-only), so that the next pull of the image heals it; index.json is brought
        up to date.
        """
        from kstore.store import check as checking

        return checking.check(self._session, deep=deep, progress=progress, cancel=cancel)

    def refresh_index(self) -> None:
        """Bring index.json up to date now."""
        from kstore.store import layout

        layout.refresh_index(self._session)
        self._session.changed = False
