"""What a store answers: its own images, and those of the read-only stores beside it.

Sizes, names and garbage are the own store's alone; images are looked for in all of them, the own
one first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from kstore.digest import Digest
from kstore.errors import NotFoundError
from kstore.reference import Named
from kstore.store import lookup, queries
from kstore.store.session import Session

# What only some commands need is imported where it is called: starting fast is a feature.
if TYPE_CHECKING:
    from kstore.descriptor import Descriptor
    from kstore.manifest import RawManifest
    from kstore.store.additional import AdditionalStores
    from kstore.store.conditions import Condition
    from kstore.store.containers import ContainerTable
    from kstore.store.facts import FactTable
    from kstore.store.mend import Repairs
    from kstore.store.protection import Protection
    from kstore.store.records import Found, ImageRecord, ManifestRecord, NameChange, NameRecord
    from kstore.store.reports import PartialDownload, StoreFacts, UsageReport

__all__ = ["StoreReader"]

T = TypeVar("T")


class StoreReader:
    """The questions; see :class:`kstore.store.Store`."""

    def __init__(self, session: Session, others: AdditionalStores | None) -> None:
        self._session = session
        self._others = others

    @property
    def additional_stores(self) -> tuple[Path, ...]:
        """The read-only stores in which images are looked for as well."""
        return self._others.paths if self._others else ()

    def _anywhere(self, ask: Callable[[Session], T]) -> T:
        """The first answer; NotFoundError is that of the own store."""
        try:
            return ask(self._session)
        except NotFoundError:
            for other in self._others.sessions if self._others else ():
                with contextlib.suppress(NotFoundError):
                    return ask(other)
            raise

    def _first(self, ask: Callable[[Session], T | None]) -> T | None:
        """The first answer that is one."""
        found = ask(self._session)
        for other in self._others.sessions if found is None and self._others else ():
            found = ask(other)
            if found is not None:
                break
        return found

    def images(self, conditions: Sequence[Condition] = ()) -> list[ImageRecord]:
        """The images that meet all ``conditions`` (see :mod:`kstore.store.conditions`).

        Newest ``created`` first (unknown last), then newest in the store; then those that only
        the first additional store has, and so on.
        """
        images = queries.select_images(self._session, conditions)
        for other in self._others.sessions if self._others else ():
            known = {image.id for image in images}
            more = queries.select_images(other, conditions)
            images += [image for image in more if image.id not in known]
        return images

    def image(self, image_id: str) -> ImageRecord:
        """The image with exactly this ID; ImageNotFoundError."""
        return self._anywhere(lambda session: lookup.get_image(session, image_id))

    def find_image(self, text: str, *, pullable: bool = True) -> Found:
        """The image a user means by ``text``.

        In this order: ``sha256:ID`` or ``@ID``; a name (a short name means ``localhost/NAME`` if
        there is one, else its docker.io form; without a tag, ``latest``), also ``NAME@DIGEST`` and
        ``NAME@ID``, where both must agree; a unique prefix (3 or more hex digits) of an ID.

        Raises ImageNotFoundError (``pullable``: a pull may be the way out of that),
        AmbiguousNameError, InvalidReferenceError, StoreDamagedError for a name of which nothing
        else is known.
        """
        return self._anywhere(lambda session: lookup.find_image(session, text, pullable=pullable))

    def find_name(self, text: str) -> NameRecord | None:
        """The name of this store that a user means by ``text``, as for :meth:`find_image`, but
        whatever it stands for: also an artifact, or an image of which nothing can be read.  None
        if there is none; AmbiguousNameError, InvalidReferenceError."""
        return lookup.find_name(self._session, text)

    def name(self, named: Named) -> NameRecord | None:
        """What exactly this name means, None if it is not in use."""
        return self._first(lambda session: queries.load_name(session.db, named))

    def names(self, repository: str | None = None) -> list[NameRecord]:
        """All names, or those of one repository (``domain/path``), sorted."""
        return queries.load_names(self._session.db, repository)

    def repositories(self) -> list[str]:
        """Every repository (``domain/path``) that has a name, sorted."""
        rows = self._session.db.rows("SELECT DISTINCT repository FROM name ORDER BY repository")
        return [row[0] for row in rows]

    def manifest(self, digest: Digest) -> ManifestRecord | None:
        """What is known about a stored manifest or index."""
        return self._first(lambda session: queries.load_manifest(session.db, digest))

    def read_manifest(self, digest: Digest) -> RawManifest:
        """A stored manifest's bytes, verified.

        Raises BlobNotFoundError if there is none, StoreDamagedError if its bytes are wrong.
        """
        from kstore.store import reading

        return self._anywhere(lambda session: reading.read_manifest(session, digest))

    def signatures(self, manifest: Digest) -> list[bytes]:
        """The signatures of a stored manifest, in the order in which they came."""
        from kstore.store import signatures

        return signatures.read_signatures(self._session, manifest)

    def read_blob(self, digest: Digest, *, cap: int) -> bytes:
        """A whole small blob (a config), verified.

        Raises BlobNotFoundError; StoreDamagedError if it has more than ``cap`` bytes or wrong ones.
        """
        from kstore.store import reading

        return self._anywhere(lambda session: reading.read_blob(session, digest, cap=cap))

    def blob(self, digest: Digest) -> int | None:
        """The size in bytes of a blob that the store has, else None."""
        return self._first(lambda session: queries.blob_size(session.db, digest))

    def open_blob(self, digest: Digest) -> FileIO:
        """A blob's file, for reading; its bytes are not verified, unless it is an additional
        store's.

        Raises BlobNotFoundError, StoreDamagedError.
        """
        try:
            return self._session.blobs.open(digest)
        except NotFoundError:
            found = self._others.open_blob(digest) if self._others else None
            if found is None:
                raise
            return found

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

    @property
    def repairs(self) -> Repairs:
        """What a repair does to the store itself."""
        from kstore.store.mend import Repairs

        return Repairs(self._session)

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

    def usage(self) -> UsageReport:
        """What takes the space: by image, and by kind of file (which adds up to the disk's)."""
        from kstore.store import usage

        return usage.measure(self._session)

    @property
    def protection(self) -> Protection:
        """The names that nothing may remove."""
        from kstore.store.protection import Protection

        return Protection(self._session)
