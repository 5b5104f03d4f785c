"""Images of which the manifest or the config could not be read when the database was made anew.

They keep their names and what else is known of them, until a check, a repair or a pull has the
bytes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from kstore import mediatypes as mt
from kstore.descriptor import Descriptor
from kstore.digest import Digest
from kstore.errors import BlobNotFoundError, InvalidDigestError, KstoreError
from kstore.manifest import MAX_CONFIG_SIZE, ImageConfig, Manifest, RawManifest, RunConfig, parse
from kstore.platforms import Platform
from kstore.store.catalog import Writer
from kstore.store.layout import IMAGE
from kstore.store.publish import Document, put_document, read_document
from kstore.store.reading import read_blob, read_manifest
from kstore.store.session import Session
from kstore.store.sweep import UNREAD, has_row

__all__ = ["complete", "document_without_config", "put_again", "put_unread"]

_UNKNOWN = Platform("unknown", "unknown")


def document_without_config(raw: RawManifest, known: Descriptor | None) -> Document | None:
    """What can be published of an image whose config cannot be read; None if its manifest makes
    no sense.  ``known`` is what an index says of it."""
    try:
        view = parse(raw)
    except KstoreError:
        return None
    platform = known.platform if known and known.platform else Platform("", "")
    if not isinstance(view, Manifest) or platform == _UNKNOWN:
        return Document(raw, view, None)
    return Document(raw, view, ImageConfig(platform, None, None, None, RunConfig(), (), ()))


def put_unread(session: Session, writer: Writer, entry: Descriptor, state: str) -> None:
    """Rows of a manifest that cannot be read, by what an index says of it; inside a transaction.

    ``state`` is that of its blob, if that has no row.
    """
    writer.put_unusable_blob(entry, state)
    config = _config(entry.annotations.get(IMAGE))
    image_id = _put_config(session, writer, config) if config is not None else None
    kind = "artifact"
    if entry.media_type in mt.INDEXES:
        kind = "index"
    elif config is not None or entry.platform is not None:
        kind = "image"
    writer.execute(
        "INSERT INTO manifest VALUES (?, ?, ?, ?, NULL, NULL, ?, ?)",
        [str(entry.digest), kind, entry.media_type, image_id, UNREAD, writer.now],
    )
    if config is not None and image_id is not None:
        media_type = mt.CONFIG_OF.get(entry.media_type, mt.OCI_CONFIG)
        writer.execute(
            "INSERT INTO edge SELECT ?, 'config', 0, digest, ?, size FROM blob WHERE digest = ?",
            [str(entry.digest), media_type, str(config)],
        )


def _config(text: str | None) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except InvalidDigestError:
        return None


def _put_config(session: Session, writer: Writer, digest: Digest) -> str | None:
    """The image of a config, if that can be read and counts: its ID."""
    if not has_row(session, digest):
        return None
    try:
        config = ImageConfig.parse(read_blob(session, digest, cap=MAX_CONFIG_SIZE))
    except KstoreError:
        return None
    return writer.put_image(digest, config)


def complete(session: Session, digests: Iterable[Digest]) -> None:
    """Some of these blobs, which can be read again, may be what rows were missing for: a manifest,
    or the config of an image.

    So are manifests that were fetched by somebody who died before this.
    """
    rows = session.db.rows(
        "WITH given(digest) AS (SELECT value FROM json_each(?1))"
        " SELECT m.digest, m.annotations = ?2 FROM manifest m WHERE m.digest IN given"
        "   OR m.digest IN (SELECT parent FROM edge WHERE role = 'config' AND child IN given)"
        "   OR m.annotations = ?2 AND EXISTS"
        "     (SELECT 1 FROM blob b WHERE b.digest = m.digest AND b.state = 'present')",
        [json.dumps([str(digest) for digest in digests]), UNREAD],
    )
    for text, unread in rows:
        _complete(session, Digest.parse(text), bool(unread))


def _complete(session: Session, digest: Digest, unread: bool) -> None:
    document: Document | None = None
    try:
        raw = read_manifest(session, digest)
    except KstoreError:
        return
    try:
        document = read_document(session, raw)
    except KstoreError:
        # Its layers are worth knowing without the config; what is known already is worth more.
        document = document_without_config(raw, None) if unread else None
    if document is not None:
        with contextlib.suppress(BlobNotFoundError):  # removed meanwhile
            put_again(session, document)
    elif unread:
        # Whatever it is, it was never an image here: no blob need be kept for it.
        with session.write() as db:
            Writer(db).execute(
                "UPDATE manifest SET annotations = '{}' WHERE digest = ?", [str(digest)]
            )


def put_again(session: Session, document: Document) -> None:
    """Write a manifest's rows anew, from its bytes."""
    with session.write() as db:
        writer = Writer(db)
        writer.execute("DELETE FROM edge WHERE parent = ?", [str(document.raw.digest)])
        if isinstance(document.view, Manifest):
            for blob in document.view.blobs:
                if not mt.is_foreign_layer(blob.media_type):
                    writer.put_unusable_blob(blob, "missing")
        put_document(session, writer, document)
        writer.bump_generation()
    session.changed = True
