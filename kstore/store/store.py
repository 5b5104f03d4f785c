"""The face of the store; what it promises stands here, how it is done in the other modules."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kstore.digest import Digest
from kstore.errors import StorageError
from kstore.reference import Named
from kstore.store.reads import StoreReader
from kstore.store.session import open_session

# What only some commands need is imported where it is called: starting fast is a feature.
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from kstore.store.leases import Lease
    from kstore.store.records import Found, NameRecord
    from kstore.store.reports import (
        CheckReport,
        PruneReport,
        RemovalReport,
    )
    from kstore.store.retention import Retention
    from kstore.streams import Cancel

__all__ = ["Store"]

_DAY = 86400.0


class Store(StoreReader):
    """An open store, for the thread that opened it; a context manager."""

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
        additional: Sequence[Path] = (),
        network_ok: bool = False,
        meanings: Callable[[str], Iterable[Named]] | None = None,
    ) -> Store:
        """Open the store at ``root``, making it first if ``create``; without, one that is not there
        is no error if it is only to be read, or there are ``additional`` ones.

        ``command`` is what the name log will say.  With ``read_only``, or when ``root`` cannot be
        written to, nothing can be changed.  ``warn`` is told one sentence of what is odd but no
        reason to stop; ``wait_seconds`` bounds every wait for another process.  ``additional`` are
        stores and OCI layouts in which images are looked for as well, and nothing is written.
        ``meanings`` gives the full names a short name may mean, and is asked when it is no name
        here.  With ``network_ok``, a network file system is used all the same, without a
        write-ahead log.

        Raises StorageError (foreign owner, network file system, a lock that stays busy),
        NotFoundError (no store), ConflictError (something else is there), StoreVersionError,
        StoreDamagedError.
        """
        others = None
        if additional:
            from kstore.store.additional import AdditionalStores

            others = AdditionalStores(additional, warn)
        session = open_session(
            root,
            command=command,
            create=create,
            read_only=read_only,
            missing_ok=read_only or (others is not None and not create),
            warn=warn,
            wait_seconds=wait_seconds,
            network_ok=network_ok,
        )
        if meanings is not None:
            session.meanings = meanings
        return cls(session, others)

    @property
    def root(self) -> Path:
        """The absolute path of the store."""
        return self._session.root.path

    @property
    def read_only(self) -> bool:
        """Whether this store can only be read."""
        return self._session.read_only

    def close(self) -> None:
        """Bring index.json and provenance up to date if there is something new, and close the
        database.

        The changes are committed already, so a failure to show them there is only a warning.
        """
        session = self._session
        try:
            self._note()
            if session.changed:
                session.changed = False
                from kstore.store import layout

                layout.refresh_index(session, force=False)
        except StorageError as exc:
            session.warn(f"index.json will be behind until the next change: {exc}")
        finally:
            session.close()
            if self._others is not None:
                self._others.close()

    def _note(self) -> None:
        """Write down where blobs came from, and signatures."""
        session = self._session
        if not session.notes:
            return
        from kstore.store.provenance import append_notes

        try:
            append_notes(session)
        except StorageError as exc:
            session.warn(f"provenance will be behind until the next check: {exc}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # ---- writing

    def rehearse(self) -> AbstractContextManager[None]:
        """Removals inside are undone at the end, and tell what they would free."""
        return self._session.rehearse()

    def lease(self, purpose: str) -> Lease:
        """Begin an operation whose blobs must not be collected; a context manager.

        In a store that can only be read, a lease holds nothing and needs to hold nothing.
        """
        from kstore.store.leases import new_lease

        return new_lease(self._session, purpose)

    def add_signatures(self, manifest: Digest, signatures: Sequence[bytes]) -> None:
        """Keep further signatures of a stored manifest.

        Raises BlobNotFoundError if the manifest is not in the store, IntegrityError for too many.
        """
        from kstore.store import signatures as keeping

        keeping.add_signatures(self._session, manifest, signatures)

    def join_lease(self, lease_id: int) -> Lease:
        """Work under a lease that another connection owns; leaving does not end it."""
        from kstore.store.leases import Lease

        return Lease(self._session, lease_id, "joined", None)

    def tag(self, found: Found | Digest, names: Sequence[Named]) -> None:
        """Let ``names`` mean this image; names in use elsewhere move.

        Given a lookup by name, they mean exactly what that name means (an index stays an index).
        Raises BlobNotFoundError if the manifest is not in the store, UnsupportedError if it is in
        an additional one.
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
        retention: Retention | None = None,
        lease_grace: float = _DAY,
        partial_grace: float = 7 * _DAY,
    ) -> PruneReport:
        """Collect garbage: what no name, no lease and no working container needs.

        ``only_images``: of the images without a name, only those with these IDs go; None means
        all.  Of the log of names, the newest 100 changes of each name stay, and those of names
        that are gone for 90 days.

        ``retention`` says which names go as well; without it, named images are never removed.
        ``lease_grace`` is how long, in seconds, blobs of a failed operation are kept for its next
        attempt, ``partial_grace`` the same for partial downloads; ``all_unused_partials`` removes
        all that nobody is writing.  A rehearsal (``dry_run``) reports the same figures.  Raises
        StoreDamagedError, with nothing deleted, if the database cannot be trusted.
        """
        from kstore.store import gc

        report = gc.prune(
            self._session,
            all_unused_partials=all_unused_partials,
            dry_run=dry_run,
            only_images=only_images,
            retention=retention,
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
        max_seconds: float | None = None,
        progress: Callable[[int], None] | None = None,
        cancel: Cancel | None = None,
    ) -> CheckReport:
        """Compare records, files and index.json; ``deep`` also hashes every byte, and unpacks
        every layer that was not unpacked before.

        With ``max_seconds``, blobs are hashed (by ``deep`` also unpacked) as long as that, those
        first that were verified longest ago.  ``progress`` is told the size of every chunk read.
        What is found wrong is recorded (unless the store is read-only), so that the next pull of
        the image heals it; index.json is brought up to date.
        """
        from kstore.store import check as checking

        return checking.check(
            self._session, deep=deep, max_seconds=max_seconds, progress=progress, cancel=cancel
        )

    def refresh_index(self) -> None:
        """Bring index.json up to date now."""
        from kstore.store import layout

        self._note()
        layout.refresh_index(self._session)
        self._session.changed = False
