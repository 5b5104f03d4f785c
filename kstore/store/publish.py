"""Publishing: manifests become files, then everything becomes visible in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from kstore import mediatypes as mt
from kstore.blobs import storage_errors
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, StoreDamagedError
from kstore.manifest import ImageConfig, Index, Manifest, RawManifest, parse, parse_index
from kstore.manifest.attached import tagged_subject
from kstore.reference import Named
from kstore.store.catalog import NameRow, Writer
from kstore.store.fingerprints import same_file
from kstore.store.ingest import StagedBlob
from kstore.store.naming import choose_member
from kstore.store.reading import read_blob
from kstore.store.records import Publication
from kstore.store.session import Session
from kstore.store.signatures import note_signatures, put_signatures
from kstore.values import dataclass

__all__ = ["Document", "publish", "put_document", "read_document"]


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest to publish: its bytes, their view, and the config of an image."""

    raw: RawManifest
    view: Manifest | Index
    config: ImageConfig | None


class Holder(Protocol):
    """What publishing needs of a lease; see :class:`kstore.store.Lease`."""

    def adopt(self, blobs: Iterable[tuple[Digest, int | None]]) -> set[Digest]: ...

    def stage_bytes(self, digest: Digest, data: bytes) -> StagedBlob:
        """Put bytes under their name as a blob; its object lock is held on return."""
        ...

    def settle(self, blob: StagedBlob) -> None:
        """Give up the locks of a staged blob."""
        ...

    def hold(self, writer: Writer, digests: Iterable[Digest]) -> None:
        """Hold blobs, inside a transaction."""
        ...

    def let_go(self, writer: Writer) -> None:
        """Hold nothing any more, inside a transaction."""
        ...


def publish(
    session: Session, publication: Publication, holder: Holder, *, last: bool
) -> str | None:
    """Publish; the ID of the image that became visible.  See :meth:`kstore.store.Lease.publish`."""
    documents = _documents(session, publication)
    staged: list[StagedBlob] = []
    try:
        for digest, data in sorted({d.raw.digest: d.raw.data for d in documents}.items()):
            # A hold, and not just a look: else it could be removed before the transaction.
            if _is_stored(session, digest) and holder.adopt([(digest, len(data))]):
                continue
            staged.append(holder.stage_bytes(digest, data))
        for algorithm in sorted({blob.digest.algorithm for blob in staged}):
            with storage_errors("make the names of manifests durable"):
                session.blobs.sync(algorithm)
        return _commit(session, publication, documents, holder, last=last)
    finally:
        for blob in staged:
            holder.settle(blob)


def _documents(session: Session, publication: Publication) -> list[Document]:
    """Everything to store, members before the index, checked and read."""
    raws = [*publication.members, publication.raw]
    documents = [read_document(session, raw) for raw in raws]
    if publication.via is not None:
        documents.append(Document(publication.via, parse_index(publication.via), None))
    return documents


def read_document(session: Session, raw: RawManifest) -> Document:
    """A manifest, understood: with the config of an image, which is read from the store."""
    view = parse(raw)
    if isinstance(view, Index) or not view.is_image:
        return Document(raw, view, None)
    data = read_blob(session, view.config.digest, cap=max(view.config.size, 1))
    config = ImageConfig.parse(data, f"config {view.config.digest}")
    if config.platform.os == config.platform.architecture == "unknown":
        return Document(raw, view, None)  # an attestation, which only borrows the form of an image
    return Document(raw, view, config)


def _is_stored(session: Session, digest: Digest) -> bool:
    """Whether the manifest seems to be there as it was stored."""
    facts = session.blobs.stat(digest)
    row = session.db.row(
        "SELECT ino, mtime_ns, size FROM blob WHERE digest = ? AND state = 'present'",
        [str(digest)],
    )
    return facts is not None and row is not None and same_file(facts, *row)


def _commit(
    session: Session,
    publication: Publication,
    documents: Sequence[Document],
    holder: Holder,
    *,
    last: bool,
) -> str | None:
    image_id: str | None = None
    with session.write() as db:
        writer = Writer(db)
        for document in documents:
            _check_blobs(session, writer, document)
        for document in documents:
            own = document.raw is publication.raw
            found = put_document(session, writer, document, publication.names if own else ())
            if own:
                image_id = found
        signed = put_signatures(writer, publication.signatures)
        if last:
            holder.let_go(writer)
        else:
            holder.hold(writer, [document.raw.digest for document in documents])
        manifest: Digest | None = publication.raw.digest
        if publication.raw.is_index:
            manifest = choose_member(writer, publication.raw.digest)
            image_id = _image_of(writer, manifest)
        via = publication.via.digest if publication.via else None
        for name in publication.names:
            row = NameRow(publication.raw.digest, manifest, via)
            writer.move_name(name.with_default_tag(), row, session.command)
        writer.bump_generation()
    session.changed = True
    note_signatures(session, signed)
    return image_id


def _check_blobs(session: Session, writer: Writer, document: Document) -> None:
    """Every blob of a manifest has a good row and a file; else nothing is published."""
    if not isinstance(document.view, Manifest):
        return
    for blob in document.view.blobs:
        rows = writer.rows("SELECT size, state FROM blob WHERE digest = ?", [str(blob.digest)])
        if not rows and mt.is_foreign_layer(blob.media_type):
            continue  # not meant to be distributed; its absence is no damage
        if not rows:
            raise BlobNotFoundError(
                f"blob {blob.digest} of manifest {document.raw.digest} is not in the store"
            )
        size, state = rows[0]
        if state != "present" or session.blobs.has(blob.digest) != size:
            raise StoreDamagedError(
                f"blob {blob.digest} of manifest {document.raw.digest} is damaged",
                hint="pull or load the image again",
            )
        if size != blob.size:
            raise StoreDamagedError(
                f"manifest {document.raw.digest} says that blob {blob.digest} has {blob.size}"
                f" bytes, but it has {size}"
            )


def put_document(
    session: Session, writer: Writer, document: Document, names: Sequence[Named] = ()
) -> str | None:
    """Write a manifest's rows, whose file is there; the ID of the image it describes.

    ``names`` are those it gets: by them it may be attached to another manifest.
    """
    raw, view = document.raw, document.view
    facts = session.blobs.stat(raw.digest)
    if facts is None:
        raise BlobNotFoundError(f"manifest {raw.digest} vanished while it was stored")
    writer.put_blob(raw.digest, facts, raw.media_type)
    image_id = None
    if isinstance(view, Manifest) and document.config is not None:
        image_id = writer.put_image(view.config.digest, document.config)
    # A signature that cosign attached knows its image by its tag alone.
    tags = () if image_id else (tagged_subject(name.tag) for name in names if name.tag)
    writer.put_manifest(raw, view, image_id, next(filter(None, tags), None))
    if image_id is not None:
        writer.measure_image(image_id)
    return image_id


def _image_of(writer: Writer, manifest: Digest | None) -> str | None:
    found = writer.column("SELECT image_id FROM manifest WHERE digest = ?", [str(manifest)])
    return found[0] if found else None
