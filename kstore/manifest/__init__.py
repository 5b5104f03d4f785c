"""Manifests: raw bytes that stay the truth, and read-only views of them.

A :class:`RawManifest` is never re-serialised; its digest is the digest of its bytes.  :func:`parse`
gives a :class:`Manifest` or an :class:`Index`, after checks that no two readers can disagree on
what the document is.

Sources: OCI image specification 1.1 ``manifest.md`` and ``image-index.md``; Docker image manifest
version 2 schema 2; CVE-2021-41190 for the ambiguity check.
"""

from __future__ import annotations

from kstore.manifest.documents import (
    MAX_INDEX_ENTRIES,
    MAX_LAYERS,
    Index,
    Manifest,
    parse,
    parse_image,
    parse_index,
)
from kstore.manifest.imageconfig import HistoryEntry, ImageConfig, RunConfig
from kstore.manifest.raw import MAX_CONFIG_SIZE, MAX_MANIFEST_SIZE, RawManifest

__all__ = [
    "MAX_CONFIG_SIZE",
    "MAX_INDEX_ENTRIES",
    "MAX_LAYERS",
    "MAX_MANIFEST_SIZE",
    "HistoryEntry",
    "ImageConfig",
    "Index",
    "Manifest",
    "RawManifest",
    "RunConfig",
    "parse",
    "parse_image",
    "parse_index",
]
