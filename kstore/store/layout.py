"""index.json: the names, for other tools; derived from the catalog and never read as truth.

Every name is an entry annotated with its canonical text; images without a name are entries without
that annotation.  A name whose index has members that are not in the store shows the image it leads
to instead, so that every entry can be read in full.  The generation of the catalog that the file
shows stands in its first bytes.

Further annotations tell a rebuild what no blob does: what else the name leads to, the image of a
manifest that can perhaps not be read then, and whether the name is protected.

Source: OCI image layout specification 1.1, section "index.json file".
"""

from __future__ import annotations

import json
import re
import time
from typing import Any

from kstore import mediatypes as mt
from kstore.blobs import remove_leftovers, replace_file, storage_errors
from kstore.store.locks import LockClass
from kstore.store.session import Session

__all__ = [
    "FORMAT",
    "GENERATION",
    "IMAGE",
    "MANIFEST",
    "PROTECTED",
    "REF_NAME",
    "TARGET",
    "VIA",
    "generation_in",
    "generation_of",
    "refresh_index",
    "shown_generation",
]

REF_NAME = "org.opencontainers.image.ref.name"
GENERATION = "org.kstore.generation"
FORMAT = "org.kstore.format"  # what other annotations to expect
#: Annotations of an entry.  The digest of the config of an image; what a name stands for, the image
#: manifest it leads to and the index that was chosen from, each where it is not the entry itself;
#: since when the name is protected (microseconds since 1970).
IMAGE = "org.kstore.image"
TARGET, MANIFEST, VIA = "org.kstore.target", "org.kstore.manifest", "org.kstore.via"
PROTECTED = "org.kstore.protected"
#: With more names than this, closing a session rewrites the file only if it is older than
#: LAG_SECONDS.
MANY_NAMES = 2000
LAG_SECONDS = 5.0

_HEAD = 512
#: A file of another format shows nothing: it is written anew.
_SHOWN = re.compile(rf'"{re.escape(GENERATION)}":"(\d{{1,18}})","{re.escape(FORMAT)}":"2"'.encode())
_ENTRIES = """
SELECT n.name, m.digest, m.media_type, b.size, i.os, i.architecture, i.variant, i.config_digest,
  n.target, n.manifest, n.via, p.since
FROM name n
LEFT JOIN protection p ON p.name = n.name
JOIN manifest m ON m.digest = CASE
    WHEN n.manifest IS NOT NULL AND n.manifest <> n.target AND EXISTS (
      SELECT 1 FROM edge e LEFT JOIN manifest c ON c.digest = e.child
      WHERE e.parent = n.target AND e.role = 'member' AND c.digest IS NULL)
    THEN n.manifest ELSE n.target END
JOIN blob b ON b.digest = m.digest LEFT JOIN image i ON i.id = m.image_id
UNION ALL
SELECT NULL, m.digest, m.media_type, b.size, i.os, i.architecture, i.variant, i.config_digest,
  m.digest, m.digest, NULL, NULL
FROM manifest m JOIN blob b ON b.digest = m.digest JOIN image i ON i.id = m.image_id
WHERE NOT EXISTS (SELECT 1 FROM name n WHERE n.target = m.digest OR n.manifest = m.digest)
  AND NOT EXISTS (SELECT 1 FROM edge e JOIN name n ON n.target = e.parent
                  WHERE e.child = m.digest AND e.role = 'member')
ORDER BY 1, 2
"""


def generation_of(session: Session) -> int:
    """The number of changes of names and manifests the catalog has seen."""
    (value,) = session.db.row("SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'generation'")
    return int(value)


def shown_generation(session: Session) -> int | None:
    """The generation index.json shows, None if that cannot be told."""
    try:
        with session.root.index.open("rb") as file:
            return generation_in(file.read(_HEAD))
    except OSError:
        return None


def generation_in(document: bytes) -> int | None:
    """The generation that the bytes of an index.json show, None if that cannot be told."""
    match = _SHOWN.search(document[:_HEAD])
    return int(match.group(1)) if match else None


def refresh_index(session: Session, *, force: bool = True, rewrite: bool = False) -> bool:
    """Rewrite index.json if it is behind (or in any case); return whether it was written.

    Without ``force`` a big store's file may lag some seconds, so that tagging stays fast there.
    """
    session.require_writable()
    wait, what = session.wait_seconds, str(session.root.index)
    # One at a time: else an older snapshot could replace a newer one.
    with session.locks.lock(LockClass.LAYOUT, wait_seconds=wait, what=what):
        with storage_errors(f"tidy up {session.root.path}"):
            remove_leftovers(session.root.index)
        if not rewrite and shown_generation(session) == generation_of(session):
            return False
        if not force and _may_lag(session):
            return False
        document = render_index(session)
        with storage_errors(f"write {session.root.index}"):
            replace_file(session.root.index, document)
    return True


def _may_lag(session: Session) -> bool:
    (names,) = session.db.row("SELECT count(*) FROM name")
    if names <= MANY_NAMES:
        return False
    try:
        age = time.time() - session.root.index.stat().st_mtime
    except OSError:
        return False
    return 0 <= age < LAG_SECONDS


def render_index(session: Session) -> bytes:
    """The bytes of index.json for the catalog as it is now."""
    with session.db.snapshot():
        generation = generation_of(session)
        rows = session.db.rows(_ENTRIES)
    document = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        # Before the entries: see shown_generation.
        "annotations": {GENERATION: str(generation), FORMAT: "2"},
        "manifests": [_entry(row) for row in rows],
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _entry(row: Any) -> dict[str, Any]:
    name, digest, media_type, size, os, architecture, variant, *more = row
    config, target, manifest, via, protected_since = more
    entry: dict[str, Any] = {"mediaType": media_type, "digest": digest, "size": size}
    annotations = {REF_NAME: name} if name is not None else {}
    if config is not None:
        annotations[IMAGE] = config
    if target != digest:
        annotations[TARGET] = target
    if manifest is not None and manifest != digest:
        annotations[MANIFEST] = manifest
    if via is not None:
        annotations[VIA] = via
    if protected_since is not None:
        annotations[PROTECTED] = str(protected_since)
    if annotations:
        entry["annotations"] = annotations
    if os and architecture:
        entry["platform"] = {"architecture": architecture, "os": os}
        if variant:
            entry["platform"]["variant"] = variant
    return entry
